// The chat and the status page of the demo in Chromium, over four workers: two pages in a room, a
// word by curl, a reload of nginx in the middle. Called by run.sh with the demo's address, a folder for
// screenshots, the browser, and nginx's pid file. Looks only at what the pages show.
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const { execFileSync } = require("node:child_process");
const { check, finish } = require("./checks.cjs");
const { withBrowser, openPage, screens } = require("./chromium.cjs");

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
  (wanted) => [...document.querySelectorAll("#lines li")].filter((li) => li.dataset.text === wanted).length === 1, text);

// Until exactly these are shown to be in the room.
const here = (page, ...names) => page.waitForFunction(
  (wanted) => [...document.querySelectorAll("#here li")].map((li) => li.textContent).join() === wanted
    && document.getElementById("here-count").textContent === String(wanted.split(",").length), names.join());

// The number that the status page shows beside a name; 0 where it has no row.
const shown = (page, key) => page.$$eval("#groups td[data-key]", (cells, wanted) =>
  Number(cells.find((cell) => cell.dataset.key === wanted)?.nextSibling.title.replaceAll(",", "") ?? 0), key);

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

  await check("each sees who is here, whichever worker serves them", async () => {
    for (const page of both) await here(page, "Ann", "Bob");
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
    assert.match(String(answer), /^\{"subscribers":2,"sequence":\d+,"cursor":"c[\w-]+"\}\s*202$/);
    for (const page of both) await line(page, "hello from a shell");
  });

  await check("own lines stand apart, and each has its time", async () => {
    const own = (page) => page.$$eval("#lines li.own", (lines) => lines.map((li) => li.dataset.text));
    assert.deepEqual(await own(ann), ["Ann hello from Ann <b>&amp;</b>"]);
    assert.deepEqual(await own(bob), ["Bob grüße von Bob 🌍"]);
    assert.equal(await ann.$$eval("#lines li", (lines) => lines.filter((li) => !/\d\d/.test(li.querySelector("time").textContent)).length), 0);
    assert.equal(await ann.textContent("#curl"), `curl -d 'hello from a shell' ${base}publish/lobby`);
    await screens(ann, screenshots, "chat");
  });

  await check("who comes later reads what was said before", async () => {
    const late = await openPage(browser, base, trouble, foreign);
    await late.goto(base + "chat.html");
    await enter(late, "Late");
    for (const text of ["Ann hello from Ann <b>&amp;</b>", "hello from a shell", "Late came in"]) await line(late, text);
    for (const page of [...both, late]) await here(page, "Ann", "Bob", "Late");
    await leave(late);
    for (const page of both) await here(page, "Ann", "Bob");
    await late.close();
  });

  await check("what is too long is told in words, and nothing is lost", async () => {
    const long = "ü".repeat(2100);
    await ann.fill("#text", long);
    await ann.click("#send");
    assert.match(await ann.textContent("#say-fault"), /^Not sent: it has 4,200 bytes, and 4,096 are the most/);
    assert.equal(await ann.inputValue("#text"), long);
    await say(ann, "short");
    await line(bob, "Ann short");
    assert.equal(await ann.textContent("#say-fault"), "");

    const other = await openPage(browser, base, trouble, foreign);
    await other.goto(base + "chat.html");
    await other.fill("#name", "n".repeat(90));
    await other.click("#enter");
    assert.match(await other.textContent("#join-fault"), /^This name has 90 bytes, and 80 are the most/);
    await other.fill("#name", "Eve");
    await other.fill("#room", "a room");
    await other.click("#enter");
    assert.match(await other.textContent("#join-fault"), /^A room's name has letters/);
    assert.equal(await other.getAttribute("#state", "data-state"), "closed");
    await screens(other, screenshots, "join");
    await other.close();
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
    assert.deepEqual(await other.$$eval("#lines li", (lines) => lines.map((li) => li.dataset.text)), ["Eve came in", "Eve only here"]);
    await other.close();
  });

  await check("the status page shows connections, workers and graphs that move", async () => {
    await status.goto(base + "status?demo");
    await status.waitForFunction(() => document.querySelector(".card b").textContent === "2");
    const chatter = setInterval(() => say(ann, "tick").catch(() => {}), 150);
    await status.waitForFunction(() => {
      const moving = [...document.querySelectorAll(".card")].find((card) => card.textContent.startsWith("messages in"));
      return Number.parseFloat(moving.querySelector("b").textContent) > 0 && moving.querySelector("path.total").getAttribute("d").split("L").length > 4;
    });
    clearInterval(chatter);
    assert.equal(await status.locator("#workers tbody tr").count(), 4);
    const open = await status.$$eval("#workers tbody tr", (rows) => rows.map((tr) => Number(tr.cells[1].textContent)));
    assert.equal(open.reduce((a, b) => a + b), 2);
    await status.waitForFunction(() => document.querySelector("#topics tbody").textContent === "chat:lobby2");
    assert.equal(await status.textContent("#health"), "All is well: no message was lost.");
    assert.equal(await status.textContent("#state"), "live");
    assert.equal(await status.isVisible("#pages"), true);
    await screens(status, screenshots, "status");
  });

  await check("a status page that is opened now draws the minutes before", async () => {
    const late = await openPage(browser, base, trouble, foreign);
    await late.goto(base + "status");
    await late.waitForSelector("#state[data-state=open]");
    // Drawn once: two samples a line at least, without a second poll.
    assert.ok(await late.$eval(".card path.total", (path) => path.getAttribute("d").split("L").length > 2));
    assert.equal(await late.isVisible("#pages"), false);
    await late.close();
  });

  await check("a reload closes both with 1001, they come back, and the talk goes on", async () => {
    const before = (await numbers()).workers.map((worker) => worker.pid);
    const closed = await shown(status, "connections_closed 1001");
    process.kill(Number(fs.readFileSync(pidFile, "utf8")), "SIGHUP");
    for (const page of both) {
      await line(page, "connection ended: server is shutting down (1001)");
      await page.waitForSelector("#state[data-state=open]");
    }
    for (const page of both) await here(page, "Ann", "Bob");
    await say(bob, "back again");
    for (const page of both) await line(page, "Bob back again");
    const answer = execFileSync("curl", ["-sS", "-d", "hello again", base + "publish/lobby"]);
    assert.match(String(answer), /^\{"subscribers":2,/);
    for (const page of both) await line(page, "hello again");
    // The status page has seen it, and shows the new workers without being loaded again.
    while (await shown(status, "connections_closed 1001") < closed + 2);
    await status.waitForFunction((old) => {
      const pids = [...document.querySelectorAll("#workers tbody tr")].map((tr) => tr.cells[0].textContent);
      return pids.length === 4 && pids.every((pid) => !old.includes(pid));
    }, before.map(String));
  });

  await check("leaving closes with 1000 and says so", async () => {
    // The reload has ended Ann's connection before.
    const left = () => bob.$$eval("#lines li", (all) => all.filter((li) => li.dataset.text === "Ann left").length);
    const before = await left();
    await leave(ann);
    while (await left() === before);
    await here(bob, "Bob");
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
