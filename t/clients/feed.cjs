// The feed of the demo in Chromium: a page that is loaded again, whose worker is killed, whose line is
// cut, and that stays away, has every number once and in order. Called by run.sh with the demo's
// address, a folder for screenshots and the browser. Looks only at what the page shows.
"use strict";

const assert = require("node:assert/strict");
const net = require("node:net");
const { check, finish } = require("./checks.cjs");
const { withBrowser, openPage, screens } = require("./chromium.cjs");

const [base, screenshots, executablePath] = process.argv.slice(2);
const server = new URL(base);

// A line between the browser and nginx that can be cut.
const lines = new Set();
const cable = net.createServer((socket) => {
  const other = net.connect(server.port, server.hostname);
  for (const [one, two] of [[socket, other], [other, socket]]) {
    lines.add(one);
    one.pipe(two);
    one.on("error", () => {});
    one.on("close", () => {
      lines.delete(one);
      two.destroy();
    });
  }
});
const cut = () => lines.forEach((socket) => socket.resetAndDestroy());

const figure = async (page, id) => Number(await page.textContent("#" + id));

// After `what` the page comes back by resuming, live again, and has had every number once.
async function survives(page, what) {
  const resumed = await figure(page, "resumed");
  await what();
  await page.waitForFunction((n) => Number(document.getElementById("resumed").textContent) > n, resumed);
  const seen = await figure(page, "seen");
  await page.waitForFunction((n) => Number(document.getElementById("seen").textContent) > n + 2, seen);
  assert.equal(await page.getAttribute("#state", "data-state"), "open");
  assert.deepEqual([await figure(page, "missed"), await figure(page, "repeated")], [0, 0]);
  assert.equal(await page.textContent("#gap"), "");
  const numbers = await page.$$eval("#numbers li", (items) => items.map((li) => Number(li.textContent)));
  numbers.forEach((number, n) => assert.equal(number, numbers[0] + n, `in order: ${numbers}`));
}

async function checkFeed(browser) {
  const trouble = [];
  const foreign = [];
  await new Promise((resolve) => cable.listen(0, "127.0.0.1", resolve));
  const through = `http://127.0.0.1:${cable.address().port}/`;
  const page = await openPage(browser, through, trouble, foreign);

  await check("numbers come, one after the other", async () => {
    await page.goto(through + "feed.html");
    await page.waitForFunction(() => document.querySelectorAll("#numbers li").length > 3);
    assert.equal(await page.getAttribute("#state", "data-state"), "open");
    assert.equal(await figure(page, "missed"), 0);
  });

  await check("the page loaded again goes on where it was", () => survives(page, () => page.reload()));

  await check("the line cut by a reset", () => survives(page, async () => cut()));

  await check("the worker that serves it killed", () => survives(page, async () => {
    const { workers } = await (await fetch(base + "status?format=json")).json();
    workers.filter((worker) => worker.open > 0).forEach((worker) => process.kill(worker.pid, "SIGKILL"));
  }));

  await check("away for a while: what was missed comes first, and is marked", async () => {
    await survives(page, () => page.click("#pull"));
    assert.ok(await page.locator("#numbers li.late").count() > 0);
  });

  await check("on three screens, light and dark", () => screens(page, screenshots, "feed"));

  await check("the page logged no error and asked no other host", async () => {
    assert.deepEqual(trouble.filter((text) => !text.includes("net::ERR_")), []);
    assert.deepEqual(foreign, []);
  });
  await page.close();
  cable.close();
  cut();
}

withBrowser(executablePath, checkFeed).then(finish, (error) => {
  console.log(String(error.stack || error).replace(/^/gm, "# "));
  process.exit(1);
});
