// The feed of the demo in Chromium: a page that is loaded again, whose worker is killed, whose line is
// cut, and that stays away, has every number once and in order. Called by run.sh with the demo's
// address, a folder for screenshots and the browser. Looks only at what the page shows.
"use strict";

const assert = require("node:assert/strict");
const { check, finish } = require("./checks.cjs");
const { withBrowser, openPage, screens } = require("./chromium.cjs");
const { cable, flows, survives } = require("./numbers.cjs");

const [base, screenshots, executablePath] = process.argv.slice(2);

async function checkFeed(browser) {
  const trouble = [];
  const foreign = [];
  const line = await cable(() => base);
  const page = await openPage(browser, line.base, trouble, foreign);

  await check("numbers come, one after the other", async () => {
    await page.goto(line.base + "feed.html");
    await flows(page);
  });

  await check("the page loaded again goes on where it was", () => survives(page, () => page.reload()));

  await check("the line cut by a reset", () => survives(page, async () => line.cut()));

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
  line.close();
}

withBrowser(executablePath, checkFeed).then(finish, (error) => {
  console.log(String(error.stack || error).replace(/^/gm, "# "));
  process.exit(1);
});
