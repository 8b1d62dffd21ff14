// The chat page: one room, one WebSocket, which comes back by itself when the server went away.
// Plain JavaScript without libraries; t/clients/chat.cjs drives it by the ids in chat.html.
"use strict";

const $ = (id) => document.getElementById(id);
const MAX_LINES = 300;
// The limits of nginx-conf/chat.conf, which counts bytes.
const MAX_NAME = 80;
const MAX_MESSAGE = 4096;

const number = new Intl.NumberFormat("en");
const encoder = new TextEncoder();
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });

let socket = null;
let wanted = false; // whether we should be in a room
let attempts = 0;
let retry = 0;
let cursor = ""; // of the last line: what follows it is what we have missed
const here = new Map(); // who is in the room: names by member
let mine = []; // what we have said and not heard yet

function setState(state, text) {
  $("state").dataset.state = state;
  $("state").textContent = text;
  $("text").disabled = $("send").disabled = state !== "open";
  $("join").inert = wanted;
  document.body.toggleAttribute("data-in", wanted);
}

// text: as it came, or an event of this page's own, which begins with "* "
function addLine(text) {
  const line = document.createElement("li");
  const said = /^([^:]+): ([^]*)$/.exec(text);
  if (text.startsWith("* ")) {
    line.className = "event";
    line.textContent = text.slice(2);
  } else if (said) {
    const who = document.createElement("b");
    who.textContent = said[1];
    line.append(who, " " + said[2]);
    // The room hears everybody, us included, in the order in which we spoke.
    if (said[1] === $("name").value && said[2] === mine[0]) {
      mine.shift();
      line.className = "own";
    }
  } else {
    line.textContent = text;
  }
  line.dataset.text = line.textContent;
  const now = new Date();
  const time = document.createElement("time");
  time.dateTime = now.toISOString();
  time.textContent = clock.format(now);
  line.append(time);
  const lines = $("lines");
  lines.append(line);
  while (lines.children.length > MAX_LINES) lines.firstChild.remove();
  lines.scrollTop = lines.scrollHeight;
}

// A list of everybody or, in a room of more than a hundred, their number; later who comes and goes.
function takeMembers({ members, joins = [], leaves = [] }) {
  if (members !== undefined) here.clear();
  const crowd = typeof members === "number";
  if (members && !crowd) joins = members;
  for (const { member } of leaves) here.delete(member);
  for (const { member, info } of joins) here.set(member, info);
  $("here-count").textContent = number.format(crowd ? members : here.size);
  const names = [...here.values()].sort((one, two) => one.localeCompare(two));
  $("here").replaceChildren(...names.map((name) => {
    const item = document.createElement("li");
    item.textContent = name;
    return item;
  }));
}

// Why a connection ended, in words; browsers tell scripts no reason of a failed one.
function ending(code, reason, opened) {
  if (!opened) return "nobody answers at " + location.host + ", or it refused the connection";
  if (code === 1006) return "connection lost: the server or the network went away";
  if (code === 1009) return "connection ended: a message was too long (1009)";
  return `connection ended: ${reason || "without a reason"} (${code})`;
}

function connect() {
  const url = new URL("chat", location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.search = new URLSearchParams({ room: $("room").value, name: $("name").value, since: cursor });
  setState("connecting", "connecting");
  let opened = false;
  socket = new WebSocket(url);
  socket.onopen = () => {
    opened = true;
    attempts = 0;
    mine = [];
    setState("open", "in " + $("room").value);
    $("text").focus();
  };
  socket.onmessage = (event) => {
    const line = JSON.parse(event.data);
    cursor = line.cursor || cursor;
    if ("data" in line) addLine(line.data);
    else if ("members" in line || "joins" in line) takeMembers(line);
    else if (line.reason && line.reason !== "epoch") addLine("* some lines are gone: " + line.reason);
  };
  socket.onclose = (event) => {
    socket = null;
    if (!wanted) {
      setState("closed", "not connected");
      return;
    }
    // Spread out, so that not everybody comes back in the same moment.
    const wait = Math.min(10000, 250 * 2 ** attempts++) * (0.5 + Math.random());
    addLine("* " + ending(event.code, event.reason, opened));
    setState("connecting", "coming back");
    retry = setTimeout(connect, wait);
  };
}

// What is wrong with room and name, in words; "" if nothing is.
function fault() {
  if (!/^[A-Za-z0-9_-]{1,40}$/.test($("room").value)) {
    return "A room's name has letters, digits, _ and -, and 40 of them at most.";
  }
  const bytes = encoder.encode($("name").value).length;
  if (bytes > MAX_NAME) {
    return `This name has ${bytes} bytes, and ${MAX_NAME} are the most: a shorter one, please.`;
  }
  return $("name").value.includes(":") ? "A name has no colon." : "";
}

$("join").addEventListener("submit", (event) => {
  event.preventDefault();
  $("join-fault").textContent = fault();
  if ($("join-fault").textContent) return;
  $("in-room").textContent = $("room").value;
  $("in-name").textContent = $("name").value;
  wanted = true;
  cursor = "";
  $("lines").replaceChildren();
  connect();
});

$("leave").addEventListener("click", () => {
  wanted = false;
  clearTimeout(retry);
  if (socket) socket.close(1000);
  else setState("closed", "not connected");
});

$("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value;
  const bytes = encoder.encode(text).length;
  if (bytes > MAX_MESSAGE) {
    $("say-fault").textContent =
      `Not sent: it has ${number.format(bytes)} bytes, and ${number.format(MAX_MESSAGE)} are the most.`;
    return;
  }
  $("say-fault").textContent = "";
  if (text && socket && socket.readyState === WebSocket.OPEN) {
    mine.push(text);
    socket.send(text);
    $("text").value = "";
  }
});

function showCurl() {
  $("curl").textContent = `curl -d 'hello from a shell' ${new URL("publish/" + $("room").value, location.href)}`;
}
$("room").addEventListener("input", showCurl);

showCurl();
setState("closed", "not connected");
