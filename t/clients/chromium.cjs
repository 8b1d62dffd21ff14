// What the programs that drive Chromium share: a browser with a profile of its own, which is gone
// afterwards, and what a page must not do. Used by browser.cjs, chat.cjs, feed.cjs
// and cluster.cjs.
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { chromium } = require("playwright-core");
const { witnessed } = require("./checks.cjs");

// Runs body(browser) with the system's Chromium.
async function withBrowser(executablePath, body) {
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), "ws-browser-"));
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath,
    headless: true,
    viewport: { width: 1100, height: 860 },
    reducedMotion: "reduce", // no screenshot in the middle of a change of colour
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  witnessed(async () => (await Promise.all(browser.pages().map(async (page) =>
    `${page.url()} showed:\n${await page.evaluate(() => document.body.innerText)}`))).join("\n"));
  try {
    await body(browser);
  } finally {
    await browser.close();
    fs.rmSync(profile, { recursive: true, force: true });
  }
}

// A new page; errors it throws or tells come into `trouble`, requests to elsewhere into `foreign`.
async function openPage(browser, base, trouble, foreign) {
  const page = await browser.newPage();
  page.setDefaultTimeout(60000);
  // By the clock: a page that is not in front draws no frames, at which it would look otherwise.
  const wait = page.waitForFunction.bind(page);
  page.waitForFunction = (body, arg, options) => wait(body, arg, { polling: 50, ...options });
  page.on("pageerror", (error) => trouble.push(error.message));
  page.on("console", (message) => {
    // A refused connection is what some checks ask for, and Chromium tells it here.
    if (message.type() === "error" && !message.text().startsWith("WebSocket connection to")) {
      trouble.push(message.text());
    }
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(base)) foreign.push(request.url());
  });
  return page;
}

// The page on a phone, a tablet and a desk, light and dark: nothing is wider than the screen, and
// nothing that can be clicked lies outside of it. Leaves NAME-WIDTH-SCHEME.png in `folder`.
async function screens(page, folder, name) {
  const before = page.viewportSize();
  for (const width of [390, 768, 1280]) {
    await page.setViewportSize({ width, height: 844 });
    const [wide, outside] = await page.evaluate(() => [document.documentElement.scrollWidth,
      [...document.querySelectorAll("a, button, input, textarea")].filter((control) => {
        const box = control.getBoundingClientRect();
        return box.width > 1 && (box.left < 0 || box.right > innerWidth);
      }).map((control) => control.id || control.textContent)]);
    assert.ok(wide <= width, `${name} is ${wide} wide on a screen of ${width}`);
    assert.deepEqual(outside, [], `${name} on a screen of ${width}`);
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      await page.screenshot({ path: path.join(folder, `${name}-${width}-${colorScheme}.png`), fullPage: true });
    }
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize(before);
}

module.exports = { withBrowser, openPage, screens };
