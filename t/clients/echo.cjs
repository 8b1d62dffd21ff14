// Node's "ws" library against the server of nginx.conf in this folder. run.sh calls it with the
// server's ws:// and wss:// addresses and the certificate to trust, and with ws on NODE_PATH.
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const http = require("node:http");
const { once } = require("node:events");
const WebSocket = require("ws");
const checks = require("./checks.cjs");

const [WS, WSS, certificate] = process.argv.slice(2);
const LIMIT = 16 * 1024 * 1024;
const trust = { ca: fs.readFileSync(certificate) };

// A check that fails halfway leaves its connections; the next one is not to suffer from them.
const opened = [];

function check(name, body) {
  return checks.check(name, async () => {
    try {
      await body();
    } finally {
      opened.splice(0).forEach((ws) => ws.terminate());
    }
  });
}

async function open(url, protocols = [], options = {}) {
  const ws = new WebSocket(url, protocols, { maxPayload: 2 * LIMIT, ...options });
  opened.push(ws);
  ws.inbox = messages(ws);
  await once(ws, "open");
  return ws;
}

// Messages as they come: next() gives the next one, or fails when the connection ends first.
function messages(ws) {
  const arrived = [];
  const waiting = [];
  ws.on("message", (data, isBinary) => {
    const message = isBinary ? data : data.toString();
    waiting.length > 0 ? waiting.shift().resolve(message) : arrived.push(message);
  });
  ws.on("close", (code) => waiting.splice(0).forEach(({ reject }) => reject(new Error(`closed: ${code}`))));
  return {
    next: () => (arrived.length > 0
      ? Promise.resolve(arrived.shift())
      : new Promise((resolve, reject) => waiting.push({ resolve, reject }))),
  };
}

async function echoes(ws, ...sent) {
  for (const message of sent) {
    ws.send(message);
    assert.deepEqual(await ws.inbox.next(), message);
  }
}

async function close(ws, code, reason) {
  const closed = once(ws, "close");
  ws.close(code, reason);
  const [gotCode, gotReason] = await closed;
  return [gotCode, gotReason.toString()];
}

async function get(path) {
  const [response] = await once(http.get(WS.replace("ws:", "http:") + path, { agent: false }), "response");
  let body = "";
  for await (const part of response) body += part;
  return body;
}

const record = (id) => get(`/record?id=${id}`);
const pattern = (size) => Buffer.from(Uint8Array.from({ length: size }, (_, at) => at % 251));

async function main() {
  await check("text and binary, empty ones too", async () => {
    const ws = await open(WS + "/echo");
    await echoes(ws, "hello", Buffer.from([0, 255, 128]), "", Buffer.alloc(0));
    await close(ws);
  });

  await check("text with characters of one to four bytes", async () => {
    const ws = await open(WS + "/echo");
    await echoes(ws, "a\u0000é€🌍\u{10ffff}", "👩‍👧".repeat(20000));
    await close(ws);
  });

  await check("125 to 127, 65,535 to 65,537 and 1,048,576 bytes, and the limit of 16 MiB", async () => {
    const ws = await open(WS + "/echo");
    await echoes(ws, ...[125, 126, 127, 65535, 65536, 65537, 1048576, LIMIT].map(pattern));
    await close(ws);
  });

  await check("one byte above the limit ends the connection", async () => {
    const ws = await open(WS + "/limited?id=node-limit");
    await echoes(ws, pattern(1000));
    const closed = once(ws, "close");
    ws.on("error", () => {}); // a reset is as good an end as a closed one
    ws.send(pattern(1001));
    assert.equal((await closed)[0], 1006);
    assert.equal(await record("node-limit"), "error: exceeding max payload len");
  });

  await check("a fragmented message comes back whole, with pings in between", async () => {
    const ws = await open(WS + "/echo");
    ws.send("frag", { fin: false });
    ws.ping("between");
    ws.send("", { fin: false });
    ws.send("ments", { fin: true });
    const [payload] = await once(ws, "pong");
    assert.equal(payload.toString(), "between");
    assert.equal(await ws.inbox.next(), "fragments");
    await close(ws);
  });

  await check("a fragmented message sent by the server is put together", async () => {
    const ws = await open(WS + "/frames");
    ws.send(pattern(70000), { fin: false, binary: true });
    ws.send(pattern(3), { fin: false, binary: true });
    ws.send(pattern(70000), { fin: true, binary: true });
    assert.deepEqual(await ws.inbox.next(), Buffer.concat([pattern(70000), pattern(3), pattern(70000)]));
    await close(ws);
  });

  await check("a client's ping is answered, empty and with 125 bytes", async () => {
    const ws = await open(WS + "/echo");
    for (const payload of [Buffer.alloc(0), pattern(125)]) {
      const pong = once(ws, "pong");
      ws.ping(payload);
      assert.deepEqual((await pong)[0], payload);
    }
    await close(ws);
  });

  await check("a server's ping reaches the client, and the pong the handler", async () => {
    const ws = new WebSocket(WS + "/ping?payload=beat");
    const inbox = messages(ws);
    const [payload] = await once(ws, "ping");
    assert.equal(payload.toString(), "beat");
    assert.equal(await inbox.next(), "pong: beat");
    await close(ws);
  });

  const cases = [[1000, ""], [1001, "bye"], [3000, "x".repeat(123)], [4999, "tschüß 👋"]];

  await check("close codes and reasons from client to server and back", async () => {
    for (const [code, reason] of cases) {
      const ws = await open(`${WS}/echo?id=node-close-${code}`);
      assert.deepEqual(await close(ws, code, reason), [code, reason]);
      assert.equal(await record(`node-close-${code}`), `close: ${code} ${reason}`);
    }
  });

  await check("close codes and reasons from server to client and back", async () => {
    for (const [code, reason] of cases) {
      const ws = new WebSocket(`${WS}/close?code=${code}&reason=${encodeURIComponent(reason)}&id=node-back-${code}`);
      const [gotCode, gotReason] = await once(ws, "close");
      assert.deepEqual([gotCode, gotReason.toString()], [code, reason]);
      assert.match(await record(`node-back-${code}`), new RegExp(`^close: ${code} `));
    }
  });

  await check("a close frame without a code, both ways", async () => {
    const closing = new WebSocket(WS + "/close?id=node-codeless");
    assert.equal((await once(closing, "close"))[0], 1005);
    assert.equal(await record("node-codeless"), "close: none ");
    assert.deepEqual(await close(await open(WS + "/echo")), [1005, ""]);
  });

  await check("a subprotocol is echoed, or chosen from a list", async () => {
    const echoed = await open(WS + "/echo", ["chat.v1"]);
    assert.equal(echoed.protocol, "chat.v1");
    await close(echoed);
    const chosen = await open(WS + "/subprotocol", ["v1", "v2"]);
    assert.equal(chosen.protocol, "v2");
    await close(chosen);
  });

  await check("a client that offers no compression", async () => {
    const ws = await open(WS + "/echo", [], { perMessageDeflate: false });
    await echoes(ws, "plain", pattern(100000));
    await close(ws);
  });

  await check("compressed messages under every agreement", async () => {
    const zeros = Buffer.alloc(LIMIT);
    for (const perMessageDeflate of [{}, { serverMaxWindowBits: 9 }, { clientMaxWindowBits: 9 },
      { serverNoContextTakeover: true }, { clientNoContextTakeover: true, serverMaxWindowBits: 12 }]) {
      const ws = await open(WS + "/messages", [], { perMessageDeflate: { threshold: 0, ...perMessageDeflate } });
      assert.match(ws.extensions, /^permessage-deflate/);
      await echoes(ws, "", "the same words", "the same words", Buffer.alloc(0), pattern(70000), zeros,
        ...Array.from({ length: 50 }, (_, n) => "again and again".repeat(n)));
      await close(ws);
    }
  });

  await check("an unsupported version of the protocol is refused", async () => {
    const ws = new WebSocket(WS + "/echo", [], { protocolVersion: 8 });
    const [request, response] = await once(ws, "unexpected-response");
    assert.equal(response.statusCode, 400);
    request.destroy();
  });

  await check("200 connections at once, ten messages each", async () => {
    const all = await Promise.all(Array.from({ length: 200 }, () => open(WS + "/echo")));
    await Promise.all(all.map(async (ws, number) => {
      for (let turn = 0; turn < 10; turn += 1) {
        await echoes(ws, `${number}/${turn}`, pattern(number * 11));
      }
      await close(ws, 1000, `number ${number}`);
    }));
  });

  await check("10,000 messages sent without waiting come back in order", async () => {
    const ws = await open(WS + "/frames");
    for (let number = 0; number < 10000; number += 1) ws.send(String(number));
    for (let number = 0; number < 10000; number += 1) assert.equal(await ws.inbox.next(), String(number));
    await close(ws);
  });

  await check("a client that stops reading for a while gets everything", async () => {
    const ws = await open(WS + "/burst?n=512&size=65536");
    ws.pause();
    await get("/status"); // anything, so that the server has had its turn
    ws.resume();
    for (let number = 1; number <= 512; number += 1) {
      assert.equal((await ws.inbox.next()).toString("latin1", 0, 8), String(number).padStart(8, "0"));
    }
    await close(ws);
  });

  await check("wss with a certificate that is verified", async () => {
    const ws = await open(WSS + "/echo", [], trust);
    await echoes(ws, "over TLS", Buffer.alloc(0), pattern(65536), pattern(1048576));
    assert.deepEqual(await close(ws, 4000, "sealed"), [4000, "sealed"]);
  });

  await check("wss with a certificate that nobody vouches for is refused by the client", async () => {
    const ws = new WebSocket(WSS + "/echo");
    const [error] = await once(ws, "error");
    assert.match(error.code, /SELF_SIGNED|UNABLE_TO_VERIFY/);
  });

  await check("50 clients that are terminated disturb nobody and leave nothing", async () => {
    const witness = await open(WS + "/echo");
    const others = await Promise.all(Array.from({ length: 50 }, (_, n) => open(`${WS}/echo?id=node-gone-${n}`)));
    for (const ws of others) {
      ws.send(pattern(100000));
      ws.terminate();
    }
    await echoes(witness, "still here");
    await close(witness);
    while (await record("running") !== "0" || !/^Active connections: 1 /.test(await get("/status"))) {
      // ask again: the check's time limit ends this
    }
  });
}

main().then(checks.finish, (error) => {
  console.log(String(error.stack || error).replace(/^/gm, "# "));
  process.exit(1);
});
