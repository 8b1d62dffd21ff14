// Node's "ws" library against the ports of tarantool.conf in this folder. run.sh calls it with the
// ws:// and wss:// addresses and the certificate to trust, and with ws on NODE_PATH.
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const { once } = require("node:events");
const WebSocket = require("ws");
const { check, finish } = require("./checks.cjs");

const [PLAIN, TLS, certificate] = process.argv.slice(2);
const ca = fs.readFileSync(certificate);

async function open(base, protocols = []) {
  const ws = new WebSocket(base + "/", protocols, { ca });
  await once(ws, "open");
  return ws;
}

async function answer(ws) {
  const [data, binary] = await once(ws, "message");
  return binary ? data : data.toString();
}

async function main() {
  for (const base of [PLAIN, TLS]) {
    const name = new URL(base).protocol;

    await check(`${name} echo, ping and close`, async () => {
      const ws = await open(base, ["chat", "other"]);
      assert.equal(ws.protocol, "chat");
      assert.equal(ws.extensions, "");
      for (const text of ["hello", "", "é".repeat(50000)]) {
        ws.send(text);
        assert.equal(await answer(ws), text);
      }
      const data = Buffer.alloc(1 << 20, "\x00\xff\x80", "latin1");
      ws.send(data);
      assert.ok(data.equals(await answer(ws)));
      ws.ping("x");
      assert.equal((await once(ws, "pong"))[0].toString(), "x");
      ws.close(4000, "bye");
      assert.equal((await once(ws, "close"))[0], 1000);
    });

    await check(`${name} a message in fragments, and the server's own close`, async () => {
      const ws = await open(base);
      ws.send("be", { fin: false });
      ws.send("gin", { fin: true });
      assert.equal(await answer(ws), "begin");
      ws.send("close");
      const [code, reason] = await once(ws, "close");
      assert.deepEqual([code, reason.toString()], [4321, "as you wish"]);
    });

    await check(`${name} a frame with a reserved bit is refused by name`, async () => {
      const ws = await open(base);
      ws._socket.write(Buffer.from([0xc1, 0x80, 1, 2, 3, 4]));
      const [code, reason] = await once(ws, "close");
      assert.deepEqual([code, reason.toString()], [1002, "frame rsv invalid: 64"]);
    });
  }
  finish();
}

main();
