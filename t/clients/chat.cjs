// The chat and the status page of the demo in Chromium, over four workers: two pages in a room, a
// word by curl, a reload of nginx in the middle. Called by run.sh with the demo's address, a folder for
// screenshots, the browser, and nginx's pid file. Looks only at what the pages show.
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const path = require("node:path");
const { execFileSync } = require("node:child_process");
const { check, finish } = require("./checks.cjs");
const { withBrowser, openPage } = require("./chromium.cjs");

const [base, screenshots, executablePath, pidFile] = process.argv.slice(2);

const numbers = async () => (await fetch(base + "status?format=json")).json();
// Which workers hold connections.
const busy = async () => (await numbers()).workers.filter((worker) => worker.open > 0).map((worker) => worker.pid);

async function enter(page, name) {
  await page.fill("#name", name);
  await page.click("#enter");
  await page.waitForSelector("#state[data-state=open]");
}

async function leave(page) {
  await page.click("#leave");
  await page.waitForSelector("#state[data-state=closed]");
}

async function say(page, text) {
  await page.fill("#text", text);
  await page.click("#send");
}

// Until a line of the conversation is exactly this, once.
const line = (page, text) => page.waitForFunction(
  (wanted) => [...document.querySelectorAll("#lines li")].filter((li) => li.textContent === wanted).length === 1, text);

// The row of the status page's table of all numbers.
const row = (page, name) => page.$$eval("#all tr", (rows, wanted) =>
  Number(rows.map((tr) => [...tr.cells].map((cell) => cell.textContent)).find(([key]) => key === wanted)?.[1] ?? 0), name);

async function checkChat(browser) {
  const trouble = [];
  const foreign = [];
  const ann = await openPage(browser, base, trouble, foreign);
  const bob = await openPage(browser, base, trouble, foreign);
  const status = await openPage(browser, base, trouble, foreign);
  const both = [ann, bob];

  await check("two pages enter a room, in two workers", async () => {
    for (const page of both) await page.goto(base + "chat.html");
    await enter(ann, "Ann");
    await enter(bob, "Bob");
    await line(ann, "Bob came in");
    // Which worker takes a connection is the kernel's choice.
    while ((await busy()).length < 2) {
      await leave(bob);
      await enter(bob, "Bob");
    }
    assert.equal((await numbers()).workers.length, 4);
  });

  await check("what one says both see", async () => {
    await say(ann, "hello from Ann <b>&amp;</b>");
    await say(bob, "grüße von Bob 🌍");
    for (const page of both) {
      await line(page, "Ann hello from Ann <b>&amp;</b>");
      await line(page, "Bob grüße von Bob 🌍");
    }
  });

  await check("curl -d hello .../publish/lobby shows up in both", async () => {
    const answer = execFileSync("curl", ["-sS", "-d", "hello from a shell", "-w", "%{http_code}", base + "publish/lobby"]);
    assert.match(String(answer), /^\{"subscribers":2,"sequence":\d+\}\s*202$/);
    for (const page of both) await line(page, "hello from a shell");
  });

  await check("another room hears nothing of it", async () => {
    const other = await openPage(browser, base, trouble, foreign);
    await other.goto(base + "chat.html");
    await other.fill("#room", "elsewhere");
    await enter(other, "Eve");
    await line(other, "Eve came in");
    await say(ann, "only in the lobby");
    await line(bob, "Ann only in the lobby");
    await say(other, "only here");
    await line(other, "Eve only here");
    assert.deepEqual(await other.$$eval("#lines li", (lines) => lines.map((li) => li.textContent)), ["Eve came in", "Eve only here"]);
    await other.close();
  });

  await check("the status page shows connections, workers and graphs that move", async () => {
    await status.goto(base + "status");
    await status.waitForFunction(() => document.querySelector(".card b").textContent === "2");
    const chatter = setInterval(() => say(ann, "tick").catch(() => {}), 150);
    await status.waitForFunction(() => {
      const cards = [...document.querySelectorAll(".card")];
      const moving = cards.find((card) => card.textContent.startsWith("messages in"));
      return Number.parseFloat(moving.querySelector("b").textContent) > 0 && moving.querySelector("path.total").getAttribute("d").split("L").length > 4;
    });
    clearInterval(chatter);
    // A line for each worker.
    const lines = await status.$$eval(".card:first-child path[data-pid]", (paths) => paths.map((path) => path.dataset.pid));
    assert.deepEqual(lines.sort(), (await numbers()).workers.map((worker) => String(worker.pid)).sort());
    assert.equal(await status.locator("#workers tr").count(), 4);
    const open = await status.$$eval("#workers tr", (rows) => rows.map((tr) => Number(tr.cells[1].textContent)));
    assert.equal(open.reduce((a, b) => a + b), 2);
    assert.equal(await status.textContent("#state"), "");
    await status.screenshot({ path: path.join(screenshots, "status-light.png"), fullPage: true });
    await status.emulateMedia({ colorScheme: "dark" });
    await status.screenshot({ path: path.join(screenshots, "status-dark.png"), fullPage: true });
  });

  await check("a reload closes both with 1001, they come back, and the talk goes on", async () => {
    const before = (await numbers()).workers.map((worker) => worker.pid);
    const closed = await row(status, "connections_closed 1001");
    process.kill(Number(fs.readFileSync(pidFile, "utf8")), "SIGHUP");
    for (const page of both) {
      await line(page, "connection ended: 1001 server is shutting down");
      await page.waitForSelector("#state[data-state=open]");
    }
    await say(bob, "back again");
    for (const page of both) await line(page, "Bob back again");
    const answer = execFileSync("curl", ["-sS", "-d", "hello again", base + "publish/lobby"]);
    assert.match(String(answer), /^\{"subscribers":2,/);
    for (const page of both) await line(page, "hello again");
    // The status page has seen it, and shows the new workers without being loaded again.
    await status.waitForFunction((n) => [...document.querySelectorAll("#all tr")].some((tr) =>
      tr.cells[0].textContent === "connections_closed 1001" && Number(tr.cells[1].textContent) >= n + 2), closed);
    await status.waitForFunction((old) => {
      const pids = [...document.querySelectorAll("#workers tr")].map((tr) => tr.cells[0].textContent);
      return pids.length === 4 && pids.every((pid) => !old.includes(pid));
    }, before.map(String));
    await ann.screenshot({ path: path.join(screenshots, "chat.png"), fullPage: true });
  });

  await check("leaving closes with 1000 and says so", async () => {
    // The reload has ended Ann's connection before.
    const left = () => bob.$$eval("#lines li", (all) => all.filter((li) => li.textContent === "Ann left").length);
    const before = await left();
    await leave(ann);
    while (await left() === before);
    assert.equal(await ann.isDisabled("#send"), true);
    await leave(bob);
    await status.waitForFunction(() => document.querySelector(".card b").textContent === "0");
  });

  await check("no page threw or asked another server for anything", async () => {
    assert.deepEqual(trouble, []);
    assert.deepEqual(foreign, []);
  });
}

withBrowser(executablePath, checkChat).then(finish, (error) => {
  console.log(String(error.stack || error).replace(/^/gm, "# "));
  process.exit(1);
});
