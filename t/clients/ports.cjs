// Node's "ws" library against the ports of ports.conf in this folder, and Chromium on the test server's
// page. run.sh calls it with the addresses as for ports.py, a folder for screenshots and the browser.
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const path = require("node:path");
const { once } = require("node:events");
const WebSocket = require("ws");
const { check, finish } = require("./checks.cjs");
const { withBrowser, openPage } = require("./chromium.cjs");

const [ECHO, SERVER, TLS, certificate, screenshots, executablePath] = process.argv.slice(2);
const ca = fs.readFileSync(certificate);

async function open(base, protocol) {
  const ws = new WebSocket(base + "/", protocol, { ca });
  await once(ws, "open");
  return ws;
}

async function answer(ws) {
  const [data, binary] = await once(ws, "message");
  return binary ? data : data.toString();
}

async function nodeChecks() {
  for (const base of [ECHO, TLS]) {
    const name = new URL(base).protocol;

    await check(`${name} echo, ping and close`, async () => {
      const ws = await open(base, ["nothing", "echo"]);
      assert.equal(ws.protocol, "echo");
      for (const text of ["hello", "", "é".repeat(50000)]) {
        ws.send(text);
        assert.equal(await answer(ws), text);
      }
      ws.ping("x");
      assert.equal((await once(ws, "pong"))[0].toString(), "x");
      ws.close(4000, "bye");
      assert.equal((await once(ws, "close"))[0], 4000);
    });

    await check(`${name} what is refused: no subprotocol, an unknown one`, async () => {
      for (const protocol of [[], ["nothing"]]) {
        const ws = new WebSocket(base + "/", protocol, { ca });
        const [, response] = await once(ws, "unexpected-response");
        assert.equal(response.statusCode, 400);
        response.destroy();
      }
    });
  }

  await check("wss: binary messages come back as they went", async () => {
    const ws = await open(TLS, "echo");
    const data = Buffer.alloc(1 << 20, "\x00\xff\x80", "latin1");
    ws.send(data);
    assert.ok(data.equals(await answer(ws)));
    ws.terminate();
  });

  for (const base of [SERVER, TLS]) {
    await check(`${new URL(base).protocol} mirror`, async () => {
      const all = await Promise.all([1, 2, 3].map(() => open(base, "lws-mirror-protocol")));
      const heard = Promise.all(all.map(answer));
      all[1].send("1 2 3 4");
      assert.deepEqual(await heard, ["1 2 3 4", "1 2 3 4", "1 2 3 4"]);
      all.forEach((ws) => ws.terminate());
    });
  }
}

async function pageChecks(browser) {
  const base = SERVER.replace(/^ws/, "http") + "/";
  const trouble = [];
  const foreign = [];
  const draw = async (page, from, to) => {
    const box = await page.locator("#board").boundingBox();
    await page.mouse.move(box.x + from, box.y + from);
    await page.mouse.down();
    await page.mouse.move(box.x + to, box.y + to, { steps: 5 });
    await page.mouse.up();
  };
  const shows = (page, id, wanted) => page.waitForFunction(
    ([name, value]) => document.getElementById(name).value === value, [id, wanted]);
  const picture = (page) => page.evaluate(() => document.getElementById("board").toDataURL());
  let ann;
  let bob;

  await check("Chromium: two test pages open both protocols", async () => {
    ann = await openPage(browser, base, trouble, foreign);
    bob = await openPage(browser, base, trouble, foreign);
    for (const page of [ann, bob]) {
      await page.goto(base);
      await page.waitForSelector("#increment-state[data-state=open]");
      await page.waitForSelector("#mirror-state[data-state=open]");
    }
  });

  await check("Chromium: the number rises, and a reset starts it again", async () => {
    await ann.waitForFunction(() => Number(document.getElementById("number").value) >= 8);
    // It rises twenty times a second: whoever looks now and then may not see it low.
    const fell = ann.evaluate(() => new Promise((done) => {
      const number = document.getElementById("number");
      let last = Number(number.value);
      new MutationObserver(() => {
        if (Number(number.value) < last) done();
        last = Number(number.value);
      }).observe(number, { childList: true, characterData: true, subtree: true });
    }));
    await ann.click("#reset");
    await fell;
  });

  await check("Chromium: what one page draws, the other shows", async () => {
    const empty = await picture(bob);
    await draw(ann, 20, 120);
    await Promise.all([ann, bob].map((page) => shows(page, "lines", "5")));
    await draw(bob, 150, 60);
    await Promise.all([ann, bob].map((page) => shows(page, "lines", "10")));
    assert.equal(await picture(ann), await picture(bob));
    assert.notEqual(await picture(bob), empty);
    await bob.screenshot({ path: path.join(screenshots, "mirror.png") });
  });

  await check("Chromium: no error on the pages, no request to elsewhere", async () => {
    assert.deepEqual([trouble, foreign], [[], []]);
  });
}

(async () => {
  await nodeChecks();
  if (executablePath) await withBrowser(executablePath, pageChecks);
  finish();
})();
