// An echo server of Node's "ws" with compression, for deflate.lua; run.sh gives the port.
"use strict";

const { WebSocketServer } = require("ws");

const server = new WebSocketServer({
  host: "127.0.0.1",
  port: Number(process.argv[2]),
  maxPayload: 16 * 1024 * 1024,
  perMessageDeflate: { threshold: 0 },
});
server.on("connection", (ws) => ws.on("message", (data, isBinary) => ws.send(data, { binary: isBinary })));
