// What the programs that watch the feed page share: a line to nginx that can be cut or led to another
// nginx, and what must hold of the page after anything that happened to it. Used by feed.cjs and
// cluster.cjs. Looks only at what the page shows.
"use strict";

const assert = require("node:assert/strict");
const net = require("node:net");

// A port of this machine that leads to the address which `where()` names at each connect.
async function cable(where) {
  const sockets = new Set();
  const server = net.createServer((socket) => {
    const { hostname, port } = new URL(where());
    const other = net.connect(port, hostname);
    for (const [one, two] of [[socket, other], [other, socket]]) {
      sockets.add(one);
      one.pipe(two);
      one.on("error", () => {});
      one.on("close", () => {
        sockets.delete(one);
        two.destroy();
      });
    }
  });
  const cut = () => sockets.forEach((socket) => socket.resetAndDestroy());
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    base: `http://127.0.0.1:${server.address().port}/`,
    cut,
    close() {
      server.close();
      cut();
    },
  };
}

const figure = async (page, id) => Number(await page.textContent("#" + id));

// Numbers come, one after the other.
async function flows(page) {
  await page.waitForFunction(() => document.querySelectorAll("#numbers li").length > 3);
  assert.equal(await page.getAttribute("#state", "data-state"), "open");
  assert.equal(await figure(page, "missed"), 0);
}

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

module.exports = { cable, flows, survives };
