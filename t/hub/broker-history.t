BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Topics that remember, over three machines and one Redis: stored and sent in one step, read by each
# machine once, resumed anywhere; what the broker may have lost is told, and nothing else.
import json
import os
import signal
import time

from lib import far
from lib.brokers import REDIS, Redis, ask, machine, metric, skip_without
from lib.far import lines, put, put_once, serve, up
from lib.feed import Feed, position
from lib.live import KILLED, PORT, Cases, Tap, await_, equal
from lib.peer import Peer

skip_without(REDIS, "redis-server")

tap = Tap()
case = Cases()
DOOR, MACHINES = PORT + 10, 3
BROKER = """
    websocket_broker main {
        server redis://127.0.0.1:%d;
        connect_timeout 2s; command_timeout 2s; probe 1s; reconnect max=200ms; queue 1m retry=2s;
    }
    websocket_topic "h:*" history=50 ttl=5m;
    websocket_topic "long:*" history=5000 ttl=5m;
    websocket_topic "short:*" history=50 ttl=1s;
    websocket_topic "home:*" history=5 broker=off;
""" % DOOR
serve(case)
case.handler("/history", """
    local args = ngx.req.get_uri_args()
    local messages, cursor = require("resty.websocket").history(args.t,
        { since = args.since, limit = tonumber(args.limit) })
    if not messages then return ngx.print(cursor) end
    for i, message in ipairs(messages) do messages[i] = message.data end
    ngx.print(table.concat(messages, ","), " ", cursor)
""")
case.handler("/log", 'local _, err = pcall(require("resty.websocket").publish, "h:x", "x", {confirm = true})'
             ' ngx.log(ngx.NOTICE, "said: ", tostring(err))', "return 200;", "log")
case.handler("/subscribe", """
    local ws = assert(require("resty.websocket").accept())
    local ok, state = ws:subscribe(ngx.var.arg_t, { since = ngx.var.arg_since, timeout = math.huge })
    ws:send(ok and tostring(state.recovered) .. " " .. tostring(state.reason) or state)
    for _ in ws:messages() do end
""")
LOST = r"broker main \(127.0.0.1:\d+\): connection lost"
topics = (f"h:{n}" for n in range(1000))


def fresh():
    return next(topics)


def everywhere():
    """What is published anywhere all have, in one order, one offset after the other."""
    topic = fresh()
    cursors = far.everywhere(ngs, topic, fresh())
    equal([position(cursor)[1] for cursor in cursors], list(range(1, 11)))
    for ng in ngs:
        equal(ask(ng, f"/history?t={topic}&limit=3&since={cursors[0]}")[1], f"m1,m2,m3 {cursors[3]}")


def without_limit():
    """A subscriber that waits for a copy as long as it takes."""
    topic = fresh()
    cursor = put(ngs[0], topic, "a")
    put(ngs[0], topic, "b")
    peer = Peer(ngs[2], f"/subscribe?t={topic}&since={cursor}")
    equal([peer.frame()[1], peer.frame()[1]], [b"b", b"true nil"])
    peer.close()


def answers():
    """What publish answers, with confirm and without; keys."""
    topic = fresh()
    feed = Feed(ngs[1], topic)
    feed.line()
    n, sequence, cursor = ask(ngs[0], f"/confirm?t={topic}&data=a&key=k1")[1].split()
    equal((n, sequence, position(cursor)[1]), ("0", "nil", 1))
    equal(ask(ngs[2], f"/confirm?t={topic}&data=b&key=k1")[1], f"0 nil {cursor}")
    equal(ask(ngs[1], f"/confirm?t={topic}&data=c&confirm=no")[1], "1 nil nil")
    lines(feed, ["a", "c"])
    equal(put(ngs[0], topic, "d", **{"Idempotency-Key": "k1"}), cursor)
    put(ngs[0], topic, "e")
    lines(feed, ["e"])
    feed.close()
    equal(ask(ngs[0], "/topic?t=home:a", "POST", "x")[0], 202)
    equal(json.loads(ask(ngs[1], "/topic?t=home:a")[1])["messages"], [])
    equal(ask(ngs[0], "/topic?t=plain", "GET")[0], 404)
    ask(ngs[0], "/log")
    await_(lambda: "said: cannot wait here" in ngs[0].read_log()
           or "API disabled" in ngs[0].read_log(), "it cannot wait there")


def trims():
    """By number, by age, and by hand."""
    topic = fresh()
    first = [put(ngs[0], topic, str(n)) for n in range(60)][0]
    equal(ask(ngs[1], f"/topic?t={topic}&since={first}")[0], 410)
    equal(len(json.loads(ask(ngs[1], f"/topic?t={topic}&limit=100")[1])["messages"]), 50)
    feed = Feed(ngs[2], topic, first)
    equal(feed.line()["reason"], "trimmed")
    put(ngs[0], "short:a", "x")
    await_(lambda: not json.loads(ask(ngs[1], "/topic?t=short:a")[1])["messages"], "it is too old")
    equal(ask(ngs[0], f"/forget?t={topic}")[1], "true")
    line = feed.line()
    equal((line["resumed"], line["reason"]), (False, "epoch"))
    put(ngs[1], topic, "new")
    lines(feed, ["new"])
    feed.close()
    equal(ask(ngs[0], f"/forget?t={fresh()}")[1], "false")


def long():
    """More than a piece at once, and larger messages."""
    topic = "long:a"
    for n in range(300):
        equal(ask(ngs[0], f"/confirm?t={topic}&data={n:04}" + "x" * 4000)[1][:6], "0 nil ")
    feed = Feed(ngs[1], topic, "-300")
    equal(feed.line()["count"], 300)
    equal([data[:4] for data in feed.data(300)], [f"{n:04}" for n in range(300)])
    feed.close()
    reads = redis.ask("INFO", "commandstats")
    feeds = [Feed(ngs[1], topic, "-300") for _ in range(20)]
    for feed in feeds:
        equal(feed.line()["count"], 300)
        feed.data(300)
        feed.close()
    count = lambda text: [line for line in text.splitlines() if "cmdstat_xrange" in line]
    equal(count(redis.ask("INFO", "commandstats")), count(reads), "a copy is read, not the broker")


def large():
    """A piece is as large as who reads takes, whatever the messages are."""
    topic, losses = "long:large", metric(ngs[1], "broker_reconnects_total")
    for n in range(40):
        put(ngs[0], topic, f"{n:02}" + "x" * 200_000)
    feed = Feed(ngs[1], topic, "-5")
    equal(feed.line()["count"], 5)
    equal([data[:2] for data in feed.data(5)], [f"{n:02}" for n in range(35, 40)])
    feed.close()
    equal(metric(ngs[1], "broker_reconnects_total"), losses)


def foreign():
    """What is no message of ours stands in nobody's way, and is counted."""
    topic = fresh()
    cursor = put(ngs[0], topic, "a")
    redis.ask("XADD", f"ws:s:{topic}", "2-0", "d", "of another version")
    redis.ask("HINCRBY", f"ws:m:{topic}", "s", 1)
    put(ngs[0], topic, "b")
    losses = metric(ngs[2], "broker_reconnects_total")
    feed = Feed(ngs[2], topic, cursor)
    if feed.line().get("reason") == "unavailable":
        equal(feed.line()["resumed"], True)
    lines(feed, ["b"])
    put(ngs[1], topic, "c")
    lines(feed, ["c"])
    feed.close()
    equal(metric(ngs[2], "broker_reconnects_total"), losses)
    assert metric(ngs[2], "broker_bad_messages_total") > 0
    # Of a machine that takes larger ones: told, and in nobody's way either.
    redis.ask("XADD", f"ws:s:{topic}", "5-0", "d", "x" * (8 << 20))
    redis.ask("HINCRBY", f"ws:m:{topic}", "s", 1)
    equal(position(put(ngs[0], topic, "e")), (position(cursor)[0], 6))
    late = Feed(ngs[2], topic, cursor)
    while late.line().get("reason") != "trimmed":
        pass  # before its machine has heard of it
    put(ngs[1], topic, "f")
    lines(late, ["f"])
    late.close()
    equal(metric(ngs[2], "broker_reconnects_total"), losses)


def survives(fault, told=False):
    # The feeds of workers that are killed end with them.
    far.survives(ngs, fresh(), fault, "epoch" if told else None, live=fault is not gateways_killed)


def killed_empty():
    redis.kill()
    for ng in ngs:
        await_(lambda: metric(ng, "broker_connected") == 0, "the loss is seen")
    redis.start()


def stopped():
    redis.child.send_signal(signal.SIGSTOP)
    for ng in ngs:
        await_(lambda: metric(ng, "broker_connected") == 0, "the silence is found")
    redis.child.send_signal(signal.SIGCONT)


def connections_killed():
    before = [metric(ng, "broker_reconnects_total") for ng in ngs]
    redis.ask("CLIENT", "KILL", "TYPE", "pubsub")
    for ng, n in zip(ngs, before):
        await_(lambda: metric(ng, "broker_reconnects_total") > n, "a new connection")


def gateways_killed():
    for ng in ngs:
        for pid in ng.workers():
            os.kill(pid, signal.SIGKILL)
            await_(lambda: len(ng.workers()) == 2 and pid not in ng.workers(), "another worker")


def told_once(how):
    """FLUSHALL, or the topic's keys evicted: a new epoch, which everybody is told."""
    topic = fresh()
    feed = Feed(ngs[2], topic)
    feed.line()
    put(ngs[0], topic, "a")
    lines(feed, ["a"])
    how(topic)
    put(ngs[1], topic, "b")
    equal(feed.line()["reason"], "epoch")
    put(ngs[1], topic, "c")
    # The first of the new epoch comes after the line that tells of it, or was before it.
    equal(feed.line()["data"] in ("b", "c"), True)
    feed.close()


def replication_id():
    """A master that changes its replication id ends no epoch; a promoted one does."""
    replica = Redis(DOOR + 1, options=["--replicaof", "127.0.0.1", str(DOOR)])
    await_(lambda: "connected_slaves:1" in redis.ask("INFO", "replication"), "a replica")
    before = redis.ask("INFO", "replication")
    survives(lambda: None)
    topic = fresh()
    put(ngs[0], topic, "kept")
    await_(lambda: ("master_link_status:up" in replica.ask("INFO", "replication"))
           and replica.ask("EXISTS", f"ws:m:{topic}") == ":1", "it is replicated")
    feed = Feed(ngs[1], topic, "-1")
    feed.line()
    lines(feed, ["kept"])
    cursor = feed.cursor
    redis.kill()
    replica.ask("REPLICAOF", "NO", "ONE")
    replica.kill(signal.SIGTERM)
    assert before
    redis.start()
    up(ngs)
    feed.close()
    equal(ask(ngs[2], f"/topic?t={topic}&since={cursor}")[0], 410)


def down():
    """While it is away: publishing says so, subscribing too, and goes on from the cursor later."""
    topic = fresh()
    cursor = put(ngs[0], topic, "a")
    put(ngs[0], topic, "b")
    # Its copy is here when the broker goes, that of another machine is not.
    redis.child.send_signal(signal.SIGSTOP)
    for ng in ngs:
        await_(lambda: metric(ng, "broker_connected") == 0, "it is missed")
    began = time.monotonic()
    status, text = ask(ngs[0], f"/topic?t={topic}", "POST", "x")
    equal((status in (503, 504), time.monotonic() < began + 8), (True, True))
    await_(lambda: ask(ngs[0], f"/confirm?t={topic}&data=x&confirm=no")[1].startswith("nil broker unavailable"),
           "after a while nothing is taken")
    equal(ask(ngs[0], f"/topic?t={topic}", "POST", "x")[0], 503)
    equal(ask(ngs[0], f"/history?t={topic}")[1], "broker unavailable")
    equal(ask(ngs[0], f"/topic?t={topic}")[0], 503)
    feed = Feed(ngs[2], topic, cursor)
    line = feed.line()
    equal((line["resumed"], line["reason"], line["cursor"]), (False, "unavailable", cursor))
    redis.child.send_signal(signal.SIGCONT)
    line = feed.line()
    equal(line["resumed"], True)
    lines(feed, ["b"])
    up(ngs)
    put_once(ngs[1], topic, "c")
    # What was not confirmed may have waited in the connection.
    while (line := feed.line())["data"] == "x":
        pass
    equal(line["data"], "c")
    feed.close()


def full():
    """maxmemory, noeviction: refused and said; it goes on when there is room."""
    topic = fresh()
    put(ngs[0], topic, "a")
    redis.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    redis.ask("CONFIG", "SET", "maxmemory", "1mb")
    status, text = ask(ngs[0], f"/topic?t={topic}", "POST", "b")
    equal((status, json.loads(text)["error"]), (503, "refused by the broker"))
    redis.ask("CONFIG", "SET", "maxmemory", "0")
    equal(position(put(ngs[0], topic, "c"))[1], 2)


redis = Redis(DOOR)
ngs = [machine(n, BROKER, case.server) for n in range(MACHINES)]
try:
    for ng in ngs:
        ng.start()
    up(ngs)
    for name, body in (
            ("published anywhere, heard, read and resumed everywhere", everywhere),
            ("a subscriber waits without limit", without_limit),
            ("what publish answers", answers),
            ("histories are trimmed", trims),
            ("long ones come in pieces, and once to a machine", long),
            ("messages are large", large),
            ("something else is in the stream", foreign),
            ("Redis is killed and comes back empty", lambda: survives(killed_empty, told=True)),
            ("Redis is stopped for a while", lambda: survives(stopped)),
            ("its connections are killed", lambda: survives(connections_killed)),
            ("its scripts are flushed", lambda: survives(lambda: redis.ask("SCRIPT", "FLUSH"))),
            ("workers are killed", lambda: survives(gateways_killed)),
            ("everything is flushed", lambda: told_once(lambda topic: redis.ask("FLUSHALL"))),
            ("a topic's keys are evicted", lambda: told_once(
                lambda topic: redis.ask("DEL", f"ws:s:{topic}", f"ws:m:{topic}"))),
            ("replication ids", replication_id),
            ("while the broker is away", down),
            ("its memory is full", full)):
        if os.environ.get("ONLY", name) in name:
            tap.attempt(name, body)
            redis.child.send_signal(signal.SIGCONT)
            up(ngs)

    def end():
        for ng in ngs:
            equal(ng.stop(), 0)
            equal([line for line in ng.loud(LOST) if not KILLED.search(line)], [])
    tap.attempt("nothing else is logged", end)
finally:
    for ng in ngs:
        ng.kill()
    redis.kill()
tap.done()
