// The page of websocket_status. It asks its own location for the numbers (?format=json) and for what
// the workers keep for it (?format=recent) every two seconds, and draws them; nothing is loaded from
// elsewhere and nothing is inline, so that it works under "default-src 'self'".
"use strict";

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const ASK_EVERY = 2000;

// Title, the name in ?format=recent, whether it is shown per second, unit, what it means.
const GRAPHS = [
  ["connections open", "connections_open", false, count, "WebSockets that are open now"],
  ["messages in / s", "messages_in", true, count, "Messages that clients sent"],
  ["messages out / s", "messages_out", true, count, "Messages sent to clients"],
  ["bytes in / s", "bytes_in", true, bytes, "Size of what clients sent"],
  ["bytes out / s", "bytes_out", true, bytes, "Size of what was sent to clients"],
  ["published / s", "published", true, count, "Messages published to topics; each goes to all who subscribe the topic"],
];

const CODES = {
  1000: "ended as agreed", 1001: "one side went away: a page was left, or a worker shut down",
  1002: "the other side broke the protocol", 1003: "data of a kind that is not taken",
  1005: "ended without a code", 1006: "broke off without a goodbye: network, crash, or time-out",
  1007: "text that is not UTF-8", 1008: "against the rules of the application", 1009: "a message was too large",
  1010: "the client wanted an extension", 1011: "a fault in the handler", 1012: "the service restarts",
  1013: "the client read too slowly, or try again later", 1014: "a bad answer from behind",
  "3xxx": "a code of a library", "4xxx": "a code of the application", other: "another code",
};
const REASONS = {
  method: "not GET", http_version: "not HTTP/1.1", host: "no Host header", upgrade: "no Upgrade header: no WebSocket client",
  connection: "no Connection: Upgrade, often a proxy that drops it", key: "a bad key", version: "a version other than 13",
  origin: "a web page of another site", other: "another reason",
};
// Group, what it is, its numbers: name, label (or "*" for all of that name), shown as, meaning.
const GROUPS = [
  ["Connections", "Who came and how it ended", [
    ["connections_open", null, "open now", "WebSockets that are open now"],
    ["connections_accepted", null, "accepted", "Handshakes answered with 101 since nginx started"],
    ["connections_refused", "*", "refused", REASONS],
    ["connections_closed", "*", "closed", CODES],
    ["ping_timeouts", null, "given up after a ping", "Clients that did not answer a ping in time"],
  ]],
  ["Traffic", "What went over them", [
    ["messages", "in", "messages in", "Messages that clients sent"],
    ["messages", "out", "messages out", "Messages sent to clients"],
    ["bytes", "in", "bytes in", "Their size"],
    ["bytes", "out", "bytes out", "Their size"],
    ["compression_bytes", "before", "to compress", "Bytes of messages before they were compressed"],
    ["compression_bytes", "after", "compressed to", "What was left of them"],
    ["pings_sent", null, "pings sent", "Questions whether a client is still there"],
  ]],
  ["Topics", "Publish and subscribe", [
    ["topics", null, "topics", "Topics with subscribers, counted once in each worker"],
    ["subscriptions", null, "subscriptions", "Pairs of a connection and a topic"],
    ["published", null, "published", "Messages published"],
    ["delivered", null, "delivered", "Copies handed to subscribers"],
    ["slow_consumers", "dropped", "messages dropped", "Not sent to a subscriber that reads too slowly"],
    ["slow_consumers", "closed", "slow readers closed", "Subscribers closed with 1013 because they read too slowly"],
    ["publish_failed", null, "publishing failed", "Messages too large for the zone, and the like"],
  ]],
  ["Histories", "What topics remember, in shared memory", [
    ["history_topics", null, "topics", "Topics that have a history"],
    ["history_bytes", null, "in use", "Bytes of the zone for histories that are in use"],
    ["history_zone_bytes", null, "of", "Bytes of the zone for histories in all: websocket_history_zone"],
    ["history_evicted", null, "made room", "Histories that ended early, to make room for others"],
    ["history_epochs_ended", "forgotten", "forgotten", "Histories that a program has dropped"],
    ["history_epochs_ended", "killed", "ended by a crash", "Histories that a worker was writing as it was killed"],
    ["history_reads", "*", "reads", {}],
    ["resumes", "*", "resumed", { recovered: "had everything that was missed", epoch: "the history had ended", trimmed: "a part was too old",
      "too many": "more was missed than websocket_resume_limit", cursor: "not a cursor of this topic" }],
    ["history_gaps", "yes", "gaps told", "Times a subscriber read so slowly that messages were gone, and was told"],
    ["history_gaps", "no", "gaps not told", "The same, of subscribers that wanted no word of it"],
  ]],
  ["Between workers", "The shared memory that carries messages", [
    ["wakeups", "sent", "wake-ups sent", "How often a worker told another that there is something to read"],
    ["wakeups", "received", "wake-ups received", "How often a worker was told"],
    ["ring_overruns", null, "overruns", "Times a worker was so late that messages were overwritten"],
    ["ring_lost", null, "messages missed", "Messages a worker missed by that"],
    ["topics_uncounted", null, "topics uncounted", "Topics for whose number of subscribers the zone has no room"],
  ]],
  ["Other machines", "What goes to them and comes from them, by brokers", [
    ["nodes_known", null, "machines", "Other machines that were heard of in the last 15 seconds"],
    ["broker_connected", null, "brokers connected", "Brokers that this machine is connected to"],
    ["broker_reconnects", null, "connected again", "Times a broker was there again"],
    ["broker_topics", "wanted", "topics wanted", "Topics with subscribers on this machine"],
    ["broker_topics", "subscribed", "topics subscribed", "Those of them that the broker has acknowledged"],
    ["broker_published", null, "messages out", "Messages that brokers have taken"],
    ["broker_received", null, "messages in", "Messages of other machines"],
    ["broker_gaps", null, "gaps", "Times subscribers may have missed messages of other machines"],
    ["broker_dropped", "*", "dropped", { full: "what waited filled the queue", expired: "the broker was away for longer than messages wait",
      cut: "under way as the connection was lost", refused: "the broker did not take it", "too large": "larger than the queue" }],
    ["broker_errors", "*", "failed", { connect: "no connection, or it was lost", timeout: "no answer in time", protocol: "not what a broker says",
      refused: "it does not let this machine do that" }],
    ["broker_bad_messages", null, "bad messages", "Messages that are not this module's"],
    ["broker_queue_bytes", null, "waiting", "Bytes that wait for a broker"],
    ["broker_rtt_ms", null, "round trip, ms", "Milliseconds that the last probe took, through the broker and back"],
  ]],
  ["Broken rules", "What clients did that the protocol or a limit forbids", [
    ["protocol_errors", "*", "", {}],
  ]],
];
// What somebody should look at: a condition, the words, what to do.
const HEALTH = [
  [(d) => d.ring_lost, (n) => `${count(n)} messages between workers were missed`, "A worker was too busy, or websocket_zone is too small."],
  [(d) => d.publish_failed, (n) => `${count(n)} messages could not be published`, "They were too large for websocket_zone, or it was overrun."],
  [(d) => d.history_evicted, (n) => `${count(n)} histories made room for others`, "Whoever comes back to them is told; a larger websocket_history_zone keeps more."],
  [(d) => d.history_epochs_ended?.killed, (n) => `${count(n)} histories ended as a worker was killed`, "Whoever comes back to them is told; the error log says what killed it."],
  [(d) => (d.history_gaps?.yes ?? 0) + (d.history_gaps?.no ?? 0), (n) => `${count(n)} times a subscriber was so late that messages of a history were gone`,
    "More history=, ttl= or bytes= of websocket_topic keeps them longer."],
  [(d) => away(d).length, (n, d) => `Away: ${away(d).map((broker) => broker.name).join(", ")}`,
    "Messages go on within this machine; what waits longer than its queue's retry= is dropped. The error log says why it is away."],
  [(d) => total(d.broker_dropped), (n) => `${count(n)} messages did not reach other machines`,
    "A broker was away for too long, or refused them; queue of websocket_broker keeps more, for longer."],
  [(d) => d.broker_gaps, (n) => `${count(n)} times messages of other machines may have been missed`, "A broker was lost, or the worker that talks to it."],
  [(d) => d.topics_uncounted, (n) => `${count(n)} topics are not counted over all workers`, "A larger websocket_zone has room for more."],
  [(d) => d.slow_consumers?.dropped, (n) => `${count(n)} messages were dropped for slow readers`, "See websocket_send_buffer and websocket_slow_consumer."],
];

function away(data) { return (data.brokers ?? []).filter((broker) => broker.state === "away"); }
function total(byLabel) { return Object.values(byLabel ?? {}).reduce((sum, n) => sum + n, 0); }

const number = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
function scaled(n, step, units) {
  let unit = 0;
  while (n >= step && unit < units.length - 1) { n /= step; unit += 1; }
  return number.format(n) + (units[unit] ? " " + units[unit] : "");
}
function count(n) { return n < 1e6 ? number.format(n) : scaled(n, 1000, ["", "k", "M", "G", "T"]); }
function bytes(n) { return scaled(n, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]); }

function element(tag, text, title) {
  const made = document.createElement(tag);
  made.textContent = text;
  if (title) made.title = title;
  return made;
}

function table(id, heads, rows, none) {
  const head = document.createElement("tr");
  head.append(...heads.map(([text, title]) => element("th", text, title)));
  const body = rows.map((cells) => {
    const tr = document.createElement("tr");
    tr.append(...cells.map((cell) => (cell instanceof Node ? cell : element("td", cell))));
    return tr;
  });
  if (rows.length === 0) {
    const cell = element("td", none);
    cell.className = "none";
    cell.colSpan = heads.length;
    body.push(document.createElement("tr"));
    body[0].append(cell);
  }
  const parts = [document.createElement("thead"), document.createElement("tbody")];
  parts[0].append(head);
  parts[1].append(...body);
  $(id).replaceChildren(...parts);
}

// --- graphs --------------------------------------------------------------------------------------

for (const [title, , , , meaning] of GRAPHS) {
  const card = element("div", "", meaning);
  card.className = "card";
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 100 30");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const axis = element("div", "");
  axis.className = "axis";
  axis.append(element("span", "−6 min", "six minutes ago"), element("span", ""), element("span", "now"));
  card.append(element("span", title), element("b", "–"), svg, axis);
  $("cards").append(card);
}

// The points of one graph: [how many samples ago, value].
function points(recent, name, perSecond) {
  const at = recent.names.indexOf(name) + 1;
  const all = [];
  recent.samples.forEach((sample, i) => {
    const before = recent.samples[i - 1];
    if (!perSecond) {
      all.push([recent.due - sample[0], sample[at]]);
    } else if (before) {
      const seconds = (sample[0] - before[0]) * recent.every / 1000;
      all.push([recent.due - sample[0], Math.max(0, sample[at] - before[at]) / seconds]);
    }
  });
  return all;
}

function drawGraphs(recent) {
  GRAPHS.forEach(([, name, perSecond, unit], i) => {
    const all = points(recent, name, perSecond);
    const card = $("cards").children[i];
    const top = Math.max(1, ...all.map(([, value]) => value));
    const place = ([ago, value]) => `${(100 - 100 * ago / recent.kept).toFixed(2)} ${(29 - 28 * value / top).toFixed(2)}`;
    const line = all.map((point, n) => (n ? "L" : "M") + place(point)).join("");
    const path = (className, d) => {
      const made = document.createElementNS(SVG, "path");
      made.setAttribute("class", className);
      made.setAttribute("d", d);
      return made;
    };
    const below = all.length > 1
      ? `${line}V29H${place(all[0]).split(" ")[0]}Z` : "";
    card.querySelector("b").textContent = all.length ? unit(all.at(-1)[1]) : "–";
    card.querySelector(".axis").children[1].textContent = all.length ? "most " + unit(Math.max(...all.map(([, value]) => value))) : "";
    card.querySelector("svg").replaceChildren(path("below", below), path("total", line));
  });
}

// --- tables --------------------------------------------------------------------------------------

function drawWorkers(workers, before, seconds) {
  const old = new Map((before?.workers ?? []).map((worker) => [worker.pid, worker]));
  const rate = (worker, name, unit) => {
    const then = old.get(worker.pid);
    const cell = element("td", then ? unit(Math.max(0, worker[name] - then[name]) / seconds) : "–", unit(worker[name]) + " in all");
    return cell;
  };
  table("workers",
    [["pid", "The number of the process"], ["open", "WebSockets that are open in this worker"], ["messages in / s"], ["messages out / s"], ["bytes in / s"], ["bytes out / s"]],
    workers.map((worker) => [String(worker.pid), count(worker.open), rate(worker, "messages_in", count), rate(worker, "messages_out", count),
      rate(worker, "bytes_in", bytes), rate(worker, "bytes_out", bytes)]),
    "no worker has a place in the zone");
}

const STATES = {
  connected: "Every topic wanted is subscribed there", connecting: "It has not been there yet",
  away: "It was lost, or could not be had; it is tried again and again",
};

function drawBrokers(brokers) {
  $("brokers-card").hidden = brokers.length === 0;
  const withTitle = (text, title) => element("td", text, title);
  table("brokers",
    [["broker", "Its name in websocket_broker"], ["state"], ["for", "How long that has been so"], ["worker", "The process that talks to it for this machine"],
      ["topics", "Subscribed there, of those that have subscribers here"], ["messages in", "Of other machines"], ["messages out", "That it has taken"],
      ["gaps", "Times subscribers may have missed messages of other machines"], ["dropped", "Messages that other machines did not get"],
      ["waiting", "Bytes that wait for it"], ["round trip", "That the last probe took, through the broker and back"]],
    brokers.map((broker) => {
      const state = withTitle(broker.state, STATES[broker.state]);
      state.dataset.state = broker.state;
      const dropped = Object.entries(broker.dropped).filter(([, n]) => n > 0).map(([why, n]) => `${why}: ${count(n)}`).join(", ");
      return [broker.name, state, `${count(Math.floor(broker.seconds))} s`, String(broker.worker ?? "–"), `${count(broker.topics.subscribed)} of ${count(broker.topics.wanted)}`,
        count(broker.received), count(broker.published), count(broker.gaps), withTitle(count(total(broker.dropped)), dropped), bytes(broker.queue_bytes),
        broker.state === "connected" ? (broker.rtt_ms ? `${count(broker.rtt_ms)} ms` : "< 1 ms") : "–"];
    }), "none");
}

function drawHighlights(recent) {
  table("topics", [["topic"], ["subscribers", "Connections that hear what is published to it"]],
    recent.topics.map(([name, subscribers]) => [name, count(subscribers)]), "nobody subscribes anything");
  table("readers", [["connection", "The id that websocket.send and websocket.close take"], ["waiting", "Sent, and not read by the client yet"]],
    recent.readers.map(([id, waiting]) => {
      const cell = element("td", id);
      cell.className = "mono";
      return [cell, bytes(waiting)];
    }), "everybody keeps up");
}

// The rows of one entry of a group: those with a label "*" are as many as have happened.
function rowsOf(data, [name, label, shown, meaning], known) {
  known.add(name);
  const value = data[name];
  if (value === undefined) return [];
  const row = (text, n, title, key) => {
    const first = element("td", text, title);
    first.dataset.key = key;
    const unit = name.endsWith("bytes") ? bytes : count;
    return [first, element("td", unit(n), number.format(n))];
  };
  if (label !== "*") {
    const n = label === null ? value : value[label];
    return n === undefined ? [] : [row(shown, n, meaning, label === null ? name : `${name} ${label}`)];
  }
  return Object.entries(value).filter(([, n]) => n > 0).map(([key, n]) =>
    row([shown, key.replaceAll("_", " ")].join(" ").trim() + (meaning[key] ? `: ${meaning[key]}` : ""), n, "", `${name} ${key}`));
}

// Only what is new to the page of a number is written, so that a hover or a selection stays.
function drawGroups(data) {
  const known = new Set(["workers", "brokers"]);
  const groups = GROUPS.map(([title, meaning, entries]) =>
    [title, meaning, entries.flatMap((entry) => rowsOf(data, entry, known))]);
  const others = Object.keys(data).filter((name) => !known.has(name));
  groups.push(["Others", "Numbers this page has no words for", others.flatMap((name) =>
    rowsOf(data, [name, typeof data[name] === "object" ? "*" : null, name.replaceAll("_", " "), {}], known))]);
  groups.forEach(([title, meaning, rows], i) => {
    let card = $("groups").children[i];
    if (!card) {
      card = document.createElement("section");
      card.className = "card";
      const made = document.createElement("table");
      made.id = `group-${i}`;
      card.append(element("h2", title, meaning), made);
      $("groups").append(card);
    }
    card.hidden = rows.length === 0 && title === "Others";
    table(`group-${i}`, [], rows, "nothing so far");
  });
}

function drawHealth(data) {
  const found = HEALTH.map(([get, words, advice]) => [get(data) || 0, words, advice]).filter(([n]) => n > 0);
  $("health").replaceChildren(...found.map(([n, words, advice]) => {
    const item = element("li", words(n, data));
    item.append(element("small", advice));
    return item;
  }));
  if (found.length === 0) {
    const item = element("li", "All is well: no message was lost.");
    item.className = "well";
    $("health").append(item);
  }
}

// --- asking --------------------------------------------------------------------------------------

let before = null;
let at = 0;

function setState(state, text) {
  $("state").dataset.state = state;
  $("state").textContent = text;
}

async function ask(format) {
  const answer = await fetch(`${location.pathname}?format=${format}`, { cache: "no-store" });
  if (!answer.ok) throw new Error("HTTP " + answer.status);
  return answer.json();
}

async function tick() {
  try {
    const [data, recent] = await Promise.all([ask("json"), ask("recent")]);
    const now = performance.now();
    drawHealth(data);
    drawGraphs(recent);
    drawWorkers(data.workers, before, (now - at) / 1000);
    drawBrokers(data.brokers);
    drawHighlights(recent);
    drawGroups(data);
    before = data;
    at = now;
    setState("open", "live");
  } catch (error) {
    setState("failed", error instanceof TypeError ? "the server does not answer" : "no numbers: " + error.message);
  }
  setTimeout(tick, ASK_EVERY);
}

// The demo links to this page with "?demo"; elsewhere there is nothing to link to.
$("pages").hidden = location.search !== "?demo";
tick();
