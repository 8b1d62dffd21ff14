// Node's "ws" and Chromium through the proxies of proxy.conf in this folder, to Python's "websockets" and
// Node's "ws". run.sh calls it with the address of the proxies and the browser.
"use strict";

const assert = require("node:assert/strict");
const { once } = require("node:events");
const WebSocket = require("ws");
const { check, finish } = require("./checks.cjs");
const { withBrowser, openPage } = require("./chromium.cjs");

const [BASE, executablePath] = process.argv.slice(2);
// Where compression is agreed with the client.
const PATHS = { "/python": true, "/node": false, "/tls": false, "/lua": true };

async function nodeChecks(path, deflates) {
  await check(`Node ws, ${path}: text, binary, large ones, a close code`, async () => {
    const ws = new WebSocket(`ws://${BASE}${path}`);
    await once(ws, "open");
    assert.equal(ws.extensions.includes("permessage-deflate"), deflates);
    const large = Buffer.alloc(8 << 20, "\x00\xff\x80", "latin1");
    for (const message of ["hello", "", "é".repeat(50000), Buffer.from([0, 255]), large]) {
      ws.send(message);
      const [data, binary] = await once(ws, "message");
      assert.equal(binary, Buffer.isBuffer(message));
      assert.ok(Buffer.from(message).equals(data));
    }
    const back = [];
    const all = new Promise((resolve) => ws.on("message", (data) => {
      if (back.push(data.toString()) === 1000) resolve();
    }));
    for (let n = 0; n < 1000; n += 1) ws.send(`${n}`);
    await all;
    assert.deepEqual(back, Array.from({ length: 1000 }, (_, n) => `${n}`));
    ws.ping("x");
    assert.equal((await once(ws, "pong"))[0].toString(), "x");
    ws.close(4000, "bye");
    assert.equal((await once(ws, "close"))[0], 4000);
  });
}

async function browserChecks(page, path, deflates) {
  await check(`Chromium, ${path}: text, binary, large ones, a close code`, async () => {
    const seen = await page.evaluate(async (url) => {
      const ws = new WebSocket(url);
      ws.binaryType = "arraybuffer";
      const next = (name) => new Promise((resolve) => ws.addEventListener(name, resolve, { once: true }));
      await next("open");
      const extensions = ws.extensions;
      const echoed = async (message) => {
        const answer = next("message");
        ws.send(message);
        return (await answer).data;
      };
      const texts = [];
      for (const text of ["hello", "", "é".repeat(50000)]) texts.push(await echoed(text) === text);
      const bytes = new Uint8Array(1 << 20).map((_, n) => n * 7);
      const back = new Uint8Array(await echoed(bytes));
      const closed = next("close");
      ws.close(4000, "bye");
      const { code, wasClean } = await closed;
      return { extensions, texts, same: bytes.every((b, n) => b === back[n]), code, wasClean };
    }, `ws://${BASE}${path}`);
    assert.equal(seen.extensions.includes("permessage-deflate"), deflates);
    assert.deepEqual(seen.texts, [true, true, true]);
    assert.deepEqual([seen.same, seen.code, seen.wasClean], [true, 4000, true]);
  });
}

async function main() {
  for (const [path, deflates] of Object.entries(PATHS)) await nodeChecks(path, deflates);
  await withBrowser(executablePath, async (browser) => {
    const page = await openPage(browser, `http://${BASE}/`, [], []);
    await page.goto(`http://${BASE}/page`);
    for (const [path, deflates] of Object.entries(PATHS)) await browserChecks(page, path, deflates);
  });
  finish();
}

main();
