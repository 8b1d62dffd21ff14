// The chat page: one room, one WebSocket, which comes back by itself when the server went away.
// Plain JavaScript without libraries; t/clients/chat.cjs drives it by the ids in chat.html.
"use strict";

const $ = (id) => document.getElementById(id);
const MAX_LINES = 300;

let socket = null;
let wanted = false; // whether we should be in a room
let attempts = 0;
let retry = 0;

function setState(state, text) {
  $("state").dataset.state = state;
  $("state").textContent = text;
  const open = state === "open";
  $("text").disabled = $("send").disabled = !open;
  $("enter").disabled = wanted;
  $("leave").disabled = !wanted;
  $("room").disabled = $("name").disabled = wanted;
}

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
  } else {
    line.textContent = text;
  }
  const lines = $("lines");
  lines.append(line);
  while (lines.children.length > MAX_LINES) lines.firstChild.remove();
  lines.scrollTop = lines.scrollHeight;
}

function connect() {
  const url = new URL("chat", location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.search = new URLSearchParams({ room: $("room").value, name: $("name").value });
  setState("connecting", "connecting");
  socket = new WebSocket(url);
  socket.onopen = () => {
    attempts = 0;
    setState("open", "in " + $("room").value);
    $("text").focus();
  };
  socket.onmessage = (event) => addLine(event.data);
  socket.onclose = (event) => {
    socket = null;
    if (!wanted) {
      setState("closed", "not connected");
      return;
    }
    addLine("* connection ended: " + event.code + (event.reason ? " " + event.reason : ""));
    // Spread out, so that not everybody comes back in the same moment.
    const wait = Math.min(10000, 250 * 2 ** attempts++) * (0.5 + Math.random());
    setState("connecting", "coming back");
    retry = setTimeout(connect, wait);
  };
}

$("join").addEventListener("submit", (event) => {
  event.preventDefault();
  wanted = true;
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
  if (text && socket && socket.readyState === WebSocket.OPEN) {
    socket.send(text);
    $("text").value = "";
  }
});

setState("closed", "not connected");
