// The demo page: one WebSocket, what is sent over it, and a log of what came and went.
// Plain JavaScript without libraries; t/clients/browser.cjs drives it by the ids in index.html.
"use strict";

const $ = (id) => document.getElementById(id);
const MAX_ENTRIES = 500;
const PREVIEW_CHARS = 400;
const PREVIEW_BYTES = 24;
// What the server's /ping address tells about the protocol-level pings that scripts cannot see.
const PONG = /^\{"ping":(\d+),"milliseconds":(\d+)\}$/;

const number = new Intl.NumberFormat("en");
const encoder = new TextEncoder();

let socket = null;
let totals;
let sentAt = []; // send times of messages whose echo is still to come

const bytesOf = (data) => (typeof data === "string" ? encoder.encode(data).length : data.byteLength);
const inBytes = (n) => `${number.format(n)} ${n === 1 ? "byte" : "bytes"}`;
const milliseconds = (ms) => (ms < 10 ? `${ms.toFixed(1)} ms` : `${ms.toFixed(0)} ms`);

function preview(data) {
  if (typeof data === "string") {
    return data.length > PREVIEW_CHARS ? data.slice(0, PREVIEW_CHARS) + "…" : data;
  }
  const head = new Uint8Array(data, 0, Math.min(data.byteLength, PREVIEW_BYTES));
  const hex = Array.from(head, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
  return data.byteLength > PREVIEW_BYTES ? hex + " …" : hex;
}

// direction: "out", "in" or "event"; kind: "text", "binary", or an event's name
function addEntry(direction, kind, what, size) {
  const log = $("log");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  const entry = document.createElement("div");
  entry.className = "entry";
  entry.dataset.direction = direction;
  entry.dataset.kind = kind;

  const cell = (tag, name, text, label) => {
    const element = document.createElement(tag);
    element.className = name;
    element.textContent = text;
    if (label) {
      element.setAttribute("role", "img");
      element.setAttribute("aria-label", label);
    }
    entry.append(element);
  };
  const [arrow, label] = { out: ["↑", "sent"], in: ["↓", "received"], event: ["•", "event"] }[direction];
  const now = new Date();
  cell("time", "time", now.toTimeString().slice(0, 8) + "." + String(now.getMilliseconds()).padStart(3, "0"));
  cell("span", "way", arrow, label);
  cell("span", "kind", kind);
  cell("span", "what", what);
  if (size === undefined) {
    cell("span", "size", "");
  } else {
    entry.dataset.size = size;
    cell("span", "size", inBytes(size));
  }

  $("empty").hidden = true;
  log.append(entry);
  while (log.childElementCount > MAX_ENTRIES + 1) { // one is the #empty paragraph
    log.children[1].remove();
  }
  if (atEnd) {
    log.scrollTop = log.scrollHeight;
  }
}

function clearLog() {
  totals = { sent: { count: 0, bytes: 0 }, received: { count: 0, bytes: 0 } };
  for (const entry of document.querySelectorAll(".entry")) {
    entry.remove();
  }
  $("empty").hidden = false;
  $("echo-time").textContent = "–";
  $("ping-time").textContent = "see /ping";
  $("closed").textContent = "–";
  showTotal("sent");
  showTotal("received");
}

function showTotal(way) {
  $(way + "-count").textContent = number.format(totals[way].count);
  $(way + "-bytes").textContent = inBytes(totals[way].bytes);
}

function count(way, size) {
  totals[way].count += 1;
  totals[way].bytes += size;
  showTotal(way);
}

function setState(state, text) {
  $("state").dataset.state = state;
  $("state").textContent = text;
  const idle = state === "closed" || state === "failed";
  $("connect").disabled = !idle;
  $("url").disabled = !idle;
  $("protocols").disabled = !idle;
  $("disconnect").disabled = idle || state === "closing";
  for (const id of ["send-text", "send-binary", "send-random"]) {
    $(id).disabled = state !== "open";
  }
}

function fail(error) {
  addEntry("event", "error", error.message);
}

function connect() {
  const protocols = $("protocols").value.split(/[\s,]+/).filter(Boolean);
  try {
    socket = new WebSocket($("url").value.trim(), protocols);
  } catch (error) {
    fail(error);
    setState("failed", "not connected");
    return;
  }
  const ws = socket;
  let opened = false;
  sentAt = [];
  ws.binaryType = "arraybuffer";
  setState("connecting", "connecting");

  ws.onopen = () => {
    opened = true;
    setState("open", "connected");
    const agreed = [];
    if (ws.protocol) agreed.push(`subprotocol ${ws.protocol}`);
    if (ws.extensions) agreed.push(`extensions ${ws.extensions}`);
    addEntry("event", "open", [ws.url, ...agreed].join(", "));
  };

  ws.onmessage = ({ data }) => {
    const size = bytesOf(data);
    count("received", size);
    addEntry("in", typeof data === "string" ? "text" : "binary", preview(data), size);
    const pong = PONG.exec(data);
    if (pong) {
      $("ping-time").textContent = `${pong[2] === "0" ? "< 1" : pong[2]} ms (no. ${pong[1]})`;
    } else if (sentAt.length > 0) {
      $("echo-time").textContent = milliseconds(performance.now() - sentAt.shift());
    }
  };

  ws.onclose = ({ code, reason, wasClean }) => {
    const how = `${code}${reason ? ` “${reason}”` : ""}`;
    const manner = wasClean ? "cleanly" : opened ? "without a close frame" : "before it was open";
    $("closed").textContent = `${how}, ${manner}`;
    addEntry("event", wasClean ? "close" : "error", `closed ${manner}: ${how}`);
    if (!wasClean) {
      // Browsers tell scripts no more than 1006.
      addEntry("event", "error", opened
        ? "The connection broke: the server or the network went away."
        : `${ws.url}: nobody listens there, or it is not a WebSocket.`);
    }
    setState(wasClean ? "closed" : "failed", wasClean ? "closed" : opened ? "connection lost" : "failed to connect");
  };
}

function disconnect() {
  const code = $("close-code").value.trim();
  const reason = $("close-reason").value;
  try {
    if (code === "") {
      socket.close();
    } else {
      socket.close(Number(code), reason);
    }
  } catch (error) {
    fail(error); // a code or reason that browsers do not let scripts send
    return;
  }
  setState("closing", "closing");
}

function send(data) {
  if (!socket || socket.readyState !== WebSocket.OPEN) {
    return;
  }
  const size = bytesOf(data);
  addEntry("out", typeof data === "string" ? "text" : "binary", preview(data), size);
  count("sent", size);
  sentAt.push(performance.now());
  socket.send(data);
}

function randomBytes(size) {
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size; at += 65536) { // the most one call may ask for
    crypto.getRandomValues(bytes.subarray(at, at + 65536));
  }
  return bytes.buffer;
}

const base = location.origin.replace(/^http/, "ws");
for (const path of ["/echo", "/ping", "/close?code=4000&reason=bye"]) {
  $("endpoints").append(new Option("", base + path));
}
$("url").value = base + "/echo";

$("connection").addEventListener("submit", (event) => {
  event.preventDefault();
  connect();
});
$("disconnect").addEventListener("click", disconnect);
$("sender").addEventListener("submit", (event) => {
  event.preventDefault();
  send($("message").value);
});
$("send-binary").addEventListener("click", () => send(encoder.encode($("message").value).buffer));
$("send-random").addEventListener("click", () => {
  if ($("random-size").reportValidity()) {
    send(randomBytes($("random-size").valueAsNumber || 0));
  }
});
$("message").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send($("message").value);
  }
});
$("clear").addEventListener("click", clearLog);

clearLog();
setState("closed", "not connected");
