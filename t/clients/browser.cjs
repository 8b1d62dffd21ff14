// Chromium on the demo page: every check does what a visitor does (types, clicks, reads) and looks
// only at what the page shows. Called by run.sh with the page's address and a folder for
// screenshots; needs playwright-core on NODE_PATH and a Chromium of the system's own.
"use strict";

const assert = require("node:assert/strict");
const { check, finish } = require("./checks.cjs");
const { withBrowser, openPage, screens } = require("./chromium.cjs");

const [pageUrl, screenshots, executablePath] = process.argv.slice(2);
const wsBase = pageUrl.replace(/^http/, "ws").replace(/\/$/, "");

async function checkPage(browser) {
  const trouble = [];
  const foreign = [];
  const page = await openPage(browser, pageUrl, trouble, foreign);

  const state = (value) => page.waitForSelector(`#state[data-state=${value}]`);
  const closed = () => page.textContent("#closed");
  const connect = async (address, protocols = "") => {
    await page.fill("#url", address);
    await page.fill("#protocols", protocols);
    await page.click("#connect");
  };
  const open = async (address, protocols) => {
    await connect(address, protocols);
    await state("open");
    await page.click("#clear");
  };
  const disconnect = async (code = "1000", reason = "") => {
    await page.fill("#close-code", code);
    await page.fill("#close-reason", reason);
    await page.click("#disconnect");
    await state("closed");
  };
  // The newest entry of a direction and kind, once the page shows the nth of them.
  const entry = async (direction, kind, nth = 1) => {
    const selector = `.entry[data-direction=${direction}][data-kind=${kind}]`;
    const found = page.locator(selector).nth(nth - 1);
    await found.waitFor();
    return { what: await found.locator(".what").textContent(), size: Number(await found.getAttribute("data-size")) };
  };

  await check("the page loads and offers its own /echo", async () => {
    await page.goto(pageUrl);
    assert.equal(await page.title(), "nginx-lua-websocket demo");
    assert.equal(await page.inputValue("#url"), wsBase + "/echo");
    assert.equal(await page.isDisabled("#send-text"), true);
  });

  await check("every control has a name that a screen reader can tell", async () => {
    const nameless = await page.$$eval("input, textarea, button", (controls) => controls
      .filter((control) => !(control.labels && control.labels.length) && !control.textContent.trim())
      .map((control) => control.id));
    assert.deepEqual(nameless, []);
  });

  await check("connect opens the connection", async () => {
    await page.click("#connect");
    await state("open");
    assert.equal(await page.isDisabled("#send-text"), false);
    assert.match((await entry("event", "open")).what, /\/echo/);
  });

  await check("text with characters of one to four bytes comes back", async () => {
    const text = "plain, ünï, €, 🌍 – <b>not bold</b>";
    await page.click("#clear");
    await page.fill("#message", text);
    await page.click("#send-text");
    const expected = { what: text, size: Buffer.byteLength(text) };
    assert.deepEqual(await entry("in", "text"), expected);
    assert.deepEqual(await entry("out", "text"), expected);
    assert.match(await page.textContent("#echo-time"), /ms$/);
  });

  await check("the Enter key sends, Shift+Enter does not", async () => {
    await page.click("#clear");
    await page.fill("#message", "two");
    await page.press("#message", "Shift+Enter");
    await page.type("#message", "lines");
    await page.press("#message", "Enter");
    assert.equal((await entry("in", "text")).what, "two\nlines");
    assert.equal(await page.textContent("#sent-count"), "1");
  });

  await check("an empty text comes back empty", async () => {
    await page.click("#clear");
    await page.fill("#message", "");
    await page.click("#send-text");
    assert.deepEqual(await entry("in", "text"), { what: "", size: 0 });
  });

  await check("binary comes back as the same bytes", async () => {
    await page.click("#clear");
    await page.fill("#message", "Aé");
    await page.click("#send-binary");
    assert.deepEqual(await entry("in", "binary"), { what: "41 c3 a9", size: 3 });
  });

  await check("0, 65,535, 65,536, 1 MiB and 8 MiB of random bytes come back", async () => {
    await page.click("#clear");
    // Chromium sends large messages in fragments, so these may be above the server's limit,
    // which is for one frame.
    const sizes = [0, 65535, 65536, 1048576, 8388608];
    for (const [at, size] of sizes.entries()) {
      await page.fill("#random-size", String(size));
      await page.click("#send-random");
      const sent = await entry("out", "binary", at + 1);
      assert.equal(sent.size, size);
      assert.deepEqual(await entry("in", "binary", at + 1), sent);
    }
    assert.equal(await page.textContent("#received-count"), "5");
    assert.equal(await page.textContent("#received-bytes"), "9,568,255 bytes");
    assert.equal(await page.textContent("#sent-bytes"), "9,568,255 bytes");
  });

  await check("the open connection on three screens, light and dark", async () => {
    await page.click("#clear");
    await page.fill("#message", "Hello, WebSocket!");
    await page.click("#send-text");
    await entry("in", "text");
    await page.fill("#message", "Grüße aus nginx – €");
    await page.click("#send-text");
    await entry("in", "text", 2);
    await page.click("#send-binary");
    await page.fill("#random-size", "65536");
    await page.click("#send-random");
    await entry("in", "binary", 2);
    await screens(page, screenshots, "echo");
  });

  await check("disconnect with a code and a reason gets both back", async () => {
    await disconnect("4001", "grüße");
    assert.equal(await closed(), "4001 “grüße”, cleanly");
    assert.equal(await page.isDisabled("#send-text"), true);
  });

  await check("disconnect without a code is answered without one (1005)", async () => {
    await open(wsBase + "/echo");
    await disconnect("");
    assert.equal(await closed(), "1005, cleanly");
  });

  await check("a close code that scripts may not send is refused and told", async () => {
    await open(wsBase + "/echo");
    await page.fill("#close-code", "1006");
    await page.click("#disconnect");
    assert.match((await entry("event", "error")).what, /close code/i);
    await state("open");
    await disconnect();
    assert.equal(await closed(), "1000, cleanly");
  });

  for (const [code, reason] of [[1000, ""], [1001, "going away"], [4999, "bis später 👋"]]) {
    await check(`the server's close ${code} ${reason} is shown`, async () => {
      await connect(`${wsBase}/close?code=${code}&reason=${encodeURIComponent(reason)}`);
      await state("closed");
      assert.equal(await closed(), `${code}${reason ? ` “${reason}”` : ""}, cleanly`);
      await page.click("#clear");
    });
  }

  await check("pings are answered by the browser and shown", async () => {
    await open(wsBase + "/ping");
    await page.waitForFunction(() => /^(< 1|\d+) ms \(no\. [2-9]/.test(document.getElementById("ping-time").textContent));
    await disconnect("3000", "seen enough");
    assert.equal(await closed(), "3000 “seen enough”, cleanly");
  });

  await check("a subprotocol is agreed upon", async () => {
    await connect(wsBase + "/echo", "chat.v1");
    await state("open");
    const opened = page.locator(".entry[data-kind=open]").last();
    assert.match(await opened.textContent(), /subprotocol chat\.v1/);
    await disconnect();
  });

  await check("permessage-deflate is agreed upon, and large messages come back through it", async () => {
    const [extensions, sizes] = await page.evaluate(async (url) => {
      const ws = new WebSocket(url);
      ws.binaryType = "arraybuffer";
      const back = [];
      await new Promise((resolve, reject) => {
        ws.onerror = reject;
        ws.onopen = () => {
          for (const size of [0, 1, 1000, 200000]) ws.send("é".repeat(size));
          ws.send(new Uint8Array(500000));
        };
        ws.onmessage = ({ data }) => {
          const good = typeof data === "string" ? data === "é".repeat(data.length) : new Uint8Array(data).every((b) => b === 0);
          back.push(good ? data.length ?? data.byteLength : "changed");
          if (back.length === 5) resolve();
        };
      });
      ws.close();
      return [ws.extensions, back];
    }, wsBase + "/messages");
    assert.match(extensions, /^permessage-deflate/);
    assert.deepEqual(sizes, [0, 1, 1000, 200000, 500000]);
  });

  await check("an address that is no WebSocket fails with 1006, in words", async () => {
    await page.click("#clear");
    await connect(wsBase + "/");
    await state("failed");
    assert.match(await closed(), /^1006, before it was open$/);
    assert.match((await entry("event", "error", 2)).what, /nobody listens there, or it is not a WebSocket/);
  });

  await check("a malformed address is told, not thrown", async () => {
    await page.click("#clear");
    await connect("ws://[nowhere");
    await state("failed");
    assert.match((await entry("event", "error")).what, /url/i);
  });

  await check("20 pages at once each get their own echo", async () => {
    const pages = await Promise.all(Array.from({ length: 20 }, () => page.context().newPage()));
    await Promise.all(pages.map(async (other, n) => {
      await other.goto(pageUrl);
      await other.click("#connect");
      await other.waitForSelector("#state[data-state=open]");
      await other.fill("#message", `page ${n}`);
      await other.click("#send-text");
      const echo = other.locator(".entry[data-direction=in] .what");
      await echo.waitFor();
      assert.equal(await echo.textContent(), `page ${n}`);
      await other.close();
    }));
  });

  await check("a narrow screen needs no scrolling sideways", async () => {
    await page.setViewportSize({ width: 360, height: 740 });
    await open(wsBase + "/echo");
    await page.fill("#message", "long-".repeat(60));
    await page.click("#send-text");
    await entry("in", "text");
    const widths = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
    assert.ok(widths[0] <= widths[1], `the page is ${widths[0]} wide on a screen of ${widths[1]}`);
    await disconnect();
  });

  await check("the page logged no error and asked no other host", async () => {
    assert.deepEqual(trouble, []);
    assert.deepEqual(foreign, []);
  });
}

withBrowser(executablePath, checkPage).then(finish, (error) => {
  console.log(String(error.stack || error).replace(/^/gm, "# "));
  process.exit(1);
});
