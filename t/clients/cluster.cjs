// The demo on three machines in Chromium: talk from one to another, the status page's brokers, a feed
// whose machine is killed and which goes on elsewhere without losing or repeating a number, and a broker
// that is killed. Called by run.sh with the first of the three ports, a folder for screenshots, the
// browser, and the folder where the demo's processes write. Looks only at what the pages show.
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const path = require("node:path");
const { check, finish } = require("./checks.cjs");
const { withBrowser, openPage, screens } = require("./chromium.cjs");
const { cable, flows, survives } = require("./numbers.cjs");

const [first, screenshots, executablePath, run] = process.argv.slice(2);
const machines = [0, 1, 2].map((n) => `http://127.0.0.1:${Number(first) + n}/`);

const pidIn = (...file) => Number(fs.readFileSync(path.join(run, ...file), "utf8"));
const numbers = async (base) => (await fetch(base + "status?format=json")).json();

// All of its processes, at once: nobody says good-bye.
async function kill(n) {
  const { workers } = await numbers(machines[n]);
  [pidIn(String(n), "nginx.pid"), ...workers.map((worker) => worker.pid)].forEach((pid) => process.kill(pid, "SIGKILL"));
}

// Until the status page's row of the broker begins with these cells.
const brokerIs = (page, ...cells) => page.waitForFunction(
  (wanted) => [...document.querySelectorAll("#brokers tbody tr")].some((row) =>
    [...row.cells].map((cell) => cell.textContent).join().startsWith(wanted)), cells.join());

// Until exactly these are shown to be in the room.
const here = (page, ...names) => page.waitForFunction((wanted) =>
  [...document.querySelectorAll("#here li")].map((li) => li.textContent).sort().join() === wanted, names.join());

async function checkCluster(browser) {
  const trouble = [];
  const foreign = [];
  let serving = 0;
  const line = await cable(() => machines[serving]);
  const page = await openPage(browser, line.base, trouble, foreign);
  const status = await openPage(browser, machines[2], trouble, foreign);

  await check("each machine's broker is connected, and the status page says so", async () => {
    for (const base of machines) {
      while (!(await numbers(base)).brokers.every((broker) => broker.state === "connected")) {
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
    await status.goto(machines[2] + "status");
    await brokerIs(status, "main", "connected");
    await screens(status, screenshots, "brokers");
  });

  await check("what is said on one machine is read on another, and who is there is known on both", async () => {
    const [ann, bob] = [await openPage(browser, machines[0], trouble, foreign),
      await openPage(browser, machines[2], trouble, foreign)];
    for (const [talker, base, name] of [[ann, machines[0], "Ann"], [bob, machines[2], "Bob"]]) {
      await talker.goto(base + "chat.html");
      await talker.fill("#name", name);
      await talker.click("#enter");
      await talker.waitForSelector("#state[data-state=open]");
    }
    for (const [from, to, text] of [[ann, bob, "Ann from the first"], [bob, ann, "Bob from the third"]]) {
      await from.fill("#text", text.slice(4));
      await from.click("#send");
      await to.waitForFunction((wanted) => [...document.querySelectorAll("#lines li")]
        .filter((li) => li.dataset.text === wanted).length === 1, text);
    }
    // Who is there, whichever machine serves them; and who has gone.
    for (const talker of [ann, bob]) await here(talker, "Ann", "Bob");
    await bob.close();
    await here(ann, "Ann");
    await ann.close();
  });

  await check("numbers come, one after the other", async () => {
    await page.goto(line.base + "feed.html");
    await flows(page);
  });

  await check("the machine that serves it killed: it goes on at another", () => survives(page, async () => {
    await kill(serving);
    serving = 1;
  }));

  await check("and that one too", () => survives(page, async () => {
    await kill(serving);
    serving = 2;
  }));

  await check("the broker killed: the status page says that it is away", async () => {
    process.kill(pidIn("redis.pid"), "SIGKILL");
    await brokerIs(status, "main", "away");
    await status.waitForFunction(() => document.body.innerText.includes("Away: main"));
  });

  await check("the pages logged no error and asked no other host", async () => {
    assert.deepEqual(trouble.filter((text) => !text.includes("net::ERR_")), []);
    assert.deepEqual(foreign, []);
  });
  line.close();
}

withBrowser(executablePath, checkCluster).then(finish, (error) => {
  console.log(String(error.stack || error).replace(/^/gm, "# "));
  process.exit(1);
});
