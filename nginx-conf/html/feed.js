// The feed page: numbers by a WebSocket, none missed and none twice, whatever happens to the page, to
// nginx or to the line between them. Plain JavaScript; t/clients/feed.cjs drives it by the ids in feed.html.
"use strict";

const $ = (id) => document.getElementById(id);
const MAX_NUMBERS = 200;

// What outlives a reload: the cursor, and what has been seen up to it.
const nothing = { cursor: "", last: 0, seen: 0, missed: 0, repeated: 0, resumed: 0 };
let state = JSON.parse(sessionStorage.getItem("feed")) || { ...nothing };
let late = 0; // so many messages are of before
let away = 0; // the page stays away until then
let socket = null;

// --- resuming, all of it ---

function connect() {
  const url = new URL("numbers", location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.search = new URLSearchParams({ since: state.cursor || "-10" });
  tell("connecting", "connecting");
  socket = new WebSocket(url, "cursor.json");
  socket.onopen = () => tell("open", "live");
  socket.onmessage = ({ data }) => take(JSON.parse(data));
  socket.onclose = () => {
    tell("connecting", "coming back");
    setTimeout(connect, Math.max(away - Date.now(), 200 + 300 * Math.random()));
  };
}

function take(line) {
  if ("data" in line) {
    show(Number(line.data));
  } else if (line.resumed) {
    late = line.count;
    state.resumed += state.cursor ? 1 : 0;
  } else if (line.reason) { // the server says that it cannot: begin anew
    $("gap").textContent = state.cursor ? `The server forgot what came before: ${line.reason}.` : "";
    state.last = 0;
  }
  state.cursor = line.cursor;
  sessionStorage.setItem("feed", JSON.stringify(state));
  figures();
}

// --- showing ---

function show(number) {
  if (state.last && number > state.last + 1) state.missed += number - state.last - 1;
  if (number <= state.last) state.repeated += 1;
  state.last = number;
  state.seen += 1;
  const item = document.createElement("li");
  item.textContent = number;
  if (late > 0) item.className = "late";
  late -= 1;
  $("numbers").append(item);
  while ($("numbers").children.length > MAX_NUMBERS) $("numbers").firstChild.remove();
}

function figures() {
  for (const name of ["seen", "missed", "repeated", "resumed"]) $(name).textContent = state[name];
}

function tell(name, text) {
  $("state").dataset.state = name;
  $("state").textContent = text;
}

$("pull").addEventListener("click", () => {
  away = Date.now() + 3000;
  socket.close();
});

$("again").addEventListener("click", () => {
  state = { ...nothing };
  $("numbers").replaceChildren();
  socket.close();
});

figures();
connect();
