BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Topics that remember: publishing and reading, resuming by cursor, by number and by "last", in every
# reason that it may not work for; formats; idempotency keys; several topics at once; closing a topic.
import json
import re

from lib.crowd import WORKERS, Crowd, Line, empty, lines, room
from lib.live import VALGRIND, Cases, await_, equal, run
from lib.peer import BINARY_FRAME, CLOSE, TEXT, Peer, frame

case = Cases()
room(case)
HTTP = """
    websocket_topic kept:* history=10 ttl=10m;
    websocket_topic kept:many history=1000;
    websocket_topic kept:small history=1000 bytes=4k;
    websocket_topic kept:plain;
    websocket_topic kept:brief history=10 ttl=30ms;
    websocket_history_zone 1m;
"""
# What the query says, called in the worker that takes the request; results are JSON.
case.handler("/call", """
    local websocket = require "resty.websocket"
    local args = ngx.req.get_uri_args()
    local opts = {}
    for name, value in pairs(args) do
        local option = name:match("^o%.(.+)")
        if option then opts[option] = tonumber(value) or (value == "true") or value end
    end
    local what = { websocket[args.call](args.topic, args.data or opts, opts) }
    for i = 1, 4 do if what[i] == nil then what[i] = false end end
    ngx.print(live.json(what))
""")
case.handler("/ws", """
    local websocket = require "resty.websocket"
    local args = ngx.req.get_uri_args()
    local ws = assert(websocket.accept())
    local on_gap
    if args.gap then
        on_gap = function(topic, reason) ws:send("gap " .. topic .. " " .. reason) end
    end
    local ok, state = ws:subscribe(args.topic, {
        since = tonumber(args.since) or args.since, format = args.format, on_gap = on_gap })
    if args.format ~= "json" then
        ws:send("state " .. live.json(state))
    end
    live.report("open")
    ws:recv()
""", "websocket_resume_limit 20;")
case.server += "location /publish/ { websocket_publish $arg_topic; }\n"


def publish(line, topic, *datas, **opts):
    """Publishes; the last cursor."""
    for data in datas:
        n, seq, cursor, _ = call(line, "publish", topic, data, **opts)
        assert cursor, (n, seq)
    return cursor


def call(line, name, topic, data=None, **opts):
    query = f"/call?call={name}&topic={topic}" + (f"&data={data}" if data is not None else "")
    return json.loads(line.ask(query + "".join(f"&o.{n}={v}" for n, v in opts.items())))


def subscribe(ng, topic, **args):
    """A raw subscriber and the state that it was told in Lua."""
    query = "".join(f"&{name}={value}" for name, value in args.items())
    peer = Peer(ng, f"/ws?topic={topic}{query}")
    if args.get("format") == "json":
        return peer, json.loads(peer.frame()[1])
    first, payload = peer.frame()
    held = []
    while not payload.startswith(b"state "):
        held.append((first, payload))
        first, payload = peer.frame()
    peer.held = held
    return peer, json.loads(payload[6:])


def texts(peer, n):
    held, peer.held = getattr(peer, "held", []), []
    held += [peer.frame() for _ in range(n - len(held))]
    return [payload.decode() for first, payload in held]


@case("published, and read: offsets, cursors, times, both ways, from a cursor on")
def _(ng):
    line = Line(ng)
    start = call(line, "history", "kept:a", limit=0)
    equal(start[0], [])
    cursors = [publish(line, "kept:a", f"m{n}") for n in range(1, 5)]
    n, seq, cursor, _ = call(line, "publish", "kept:a", "bin", type="binary")
    equal((n, seq > 0, bool(re.match(r"^c[\w-]{32}$", cursor))), (0, True, True))
    messages, last, *_ = call(line, "history", "kept:a")
    equal([(m["data"], m["type"], m["offset"], m["cursor"]) for m in messages],
          [(f"m{n}", "text", n, cursors[n - 1]) for n in range(1, 5)] + [("bin", "binary", 5, cursor)])
    equal(last, cursor)
    assert all(1.6e12 < m["time"] < 1e13 for m in messages), messages
    data = lambda *args, **opts: [m["data"] for m in call(line, "history", "kept:a", **opts)[0]]
    equal(data(since=cursors[1]), ["m3", "m4", "bin"])
    equal(data(since=cursors[0], limit=2), ["m2", "m3"])
    equal(data(since=start[1]), ["m1", "m2", "m3", "m4", "bin"])
    equal(data(limit=2), ["m4", "bin"])
    equal(data(limit=2, reverse="true"), ["bin", "m4"])
    equal(data(since=cursors[2], reverse="true"), ["bin", "m4"])
    equal(data(since=cursor), [])
    equal(call(line, "history", "kept:a", limit=0)[1], cursor)
    equal(call(line, "history", "kept:plain")[:2], [False, "no history for this topic"])
    equal(call(line, "history", "else")[:2], [False, "no history for this topic"])
    equal(call(line, "history", "kept:b", since=cursor)[:2], [False, "cursor"])
    publish(line, "kept:a", *[f"n{n}" for n in range(8)])
    equal(call(line, "history", "kept:a", since=cursors[0])[:2], [False, "trimmed"])
    equal(call(line, "forget", "kept:a")[:1], [True])
    equal(call(line, "history", "kept:a", since=cursors[0])[:2], [False, "epoch"])
    equal(call(line, "history", "kept:a")[0], [])
    line.close()


@case("resumed: after a cursor, exactly at the top, the last, the newest, from the beginning")
def _(ng):
    line = Line(ng)
    for asked, count, first in [("c2", 3, 3), ("c5", 0, 6), ("last", 1, 5), (2, 2, 4), (100, 5, 1),
                                ("c0", 5, 1), (0, 0, 6)]:
        call(line, "forget", "kept:r")
        cursors = {"c0": call(line, "history", "kept:r", limit=0)[1]}
        for n in range(1, 6):
            cursors[f"c{n}"] = publish(line, "kept:r", f"m{n}")
        since = cursors.get(asked, asked)
        peer, state = subscribe(ng, "kept:r", since=since)
        equal((state["recovered"], state["count"]), (True, count), since)
        assert state["cursor"].startswith("c")
        equal(texts(peer, count), [f"m{n}" for n in range(first, 6)])
        publish(line, "kept:r", "live")
        equal(texts(peer, 1), ["live"])
        peer.close()
    line.close()


@case("not resumed: each reason, and live from then on, in raw and in JSON")
def _(ng):
    line = Line(ng)
    old = publish(line, "kept:x", "old")
    call(line, "forget", "kept:x")
    start = call(line, "history", "kept:x", limit=0)[1]
    first = publish(line, "kept:x", "m1")
    other = publish(line, "kept:y", "other")
    for n in range(2, 15):
        last = publish(line, "kept:x", f"m{n}")
    many = publish(line, "kept:many", *[f"m{n}" for n in range(1, 25)][:1])
    publish(line, "kept:many", *[f"m{n}" for n in range(2, 25)])
    beyond = last[:-4] + ("AAAA" if not last.endswith("AAAA") else "BBBB")
    for topic, since, reason in [
            ("kept:x", old, "epoch"), ("kept:x", first, "trimmed"), ("kept:x", start, "trimmed"),
            ("kept:many", many, "too many"), ("kept:x", other, "cursor"), ("kept:x", "c", "cursor"),
            ("kept:x", last[:-1], "cursor"), ("kept:x", "x" + last[1:], "cursor"),
            ("kept:x", "c" + "%21" * 32, "cursor"), ("kept:x", "", "cursor"),
            ("kept:x", last + "A", "cursor"), ("plain", last, "epoch"), ("kept:plain", 3, "epoch")]:
        raw, told = subscribe(ng, topic, since=since)
        lines, line_told = subscribe(ng, topic, since=since, format="json")
        cursor = told.pop("cursor", None)
        equal(told, {"recovered": False, "count": 0, "reason": reason}, (topic, since))
        equal(bool(cursor), topic in ("kept:x", "kept:many"))
        expected = {"topic": topic, "resumed": False, "count": 0, "reason": reason}
        if cursor:
            expected["cursor"] = cursor
        equal(line_told, expected)
        n, seq, after, _ = call(line, "publish", topic, "live")
        equal(n, 2)
        equal(raw.frame(), (TEXT, b"live"))
        expected = {"topic": topic, "data": "live"}
        if cursor:
            expected["cursor"] = after
        equal(json.loads(lines.frame()[1]), expected)
        # The cursor that was told is good for what came after it.
        if cursor:
            again, state = subscribe(ng, topic, since=cursor)
            equal((state["recovered"], texts(again, 1)), (True, ["live"]))
            again.close()
        raw.close()
        lines.close()
        await_(lambda: line.ask(f"/count?topic={topic}") == "0", "gone")
    info = line.info()["resumes"]
    assert all(info[name] > 0 for name in ("recovered", "epoch", "trimmed", "too many", "cursor")), info
    line.close()


@case("in JSON: any text, binary as base64, one line before what is resumed")
def _(ng):
    line = Line(ng)
    topic = "kept:%C3%A9%22"
    name = 'kept:é"'
    start = call(line, "history", topic, limit=0)[1]
    call(line, "publish", topic, "%22%5C%0A%01%E2%82%AC")
    last = call(line, "publish", topic, "%00%FF", type="binary")[2]
    peer, state = subscribe(ng, topic, since=start, format="json")
    equal(state, {"topic": name, "cursor": start, "resumed": True, "count": 2})
    one, two = (json.loads(peer.frame()[1]) for _ in range(2))
    equal((one["topic"], one["data"]), (name, '"\\\n\x01€'))
    equal(two, {"topic": name, "cursor": last, "data": "AP8=", "base64": True})
    again, state = subscribe(ng, topic, since=one["cursor"], format="json")
    equal((state["resumed"], state["count"]), (True, 1))
    equal(json.loads(again.frame()[1]), two)
    peer.close()
    again.close()
    line.close()


@case("an idempotency key: once, whichever worker is asked; forgotten with its history")
def _(ng):
    all_lines = list(lines(ng).values())
    peer, _ = subscribe(ng, "kept:key")
    first = call(all_lines[0], "publish", "kept:key", "one", idempotency_key="k1")
    equal(first[0], 1)
    for line in all_lines:
        equal(call(line, "publish", "kept:key", "again", idempotency_key="k1"),
              [0, False, first[2], False])
    publish(all_lines[-1], "kept:key", "two", idempotency_key="k2")
    publish(all_lines[0], "kept:other", "elsewhere", idempotency_key="k1")
    equal(texts(peer, 2), ["one", "two"])
    # Its message is trimmed away, and the key is still known.
    publish(all_lines[0], "kept:key", *[f"m{n}" for n in range(12)])
    equal(call(all_lines[-1], "publish", "kept:key", "again", idempotency_key="k1")[2], first[2])
    equal(texts(peer, 12), [f"m{n}" for n in range(12)])
    call(all_lines[0], "forget", "kept:key")
    equal(call(all_lines[-1], "publish", "kept:key", "new", idempotency_key="k1")[0], 1)
    peer.close()
    [line.close() for line in all_lines]


case.handler("/misuse", """
    local websocket = require "resty.websocket"
    local function said(...)
        local ok, err = pcall(...)
        ngx.say(ok and "no error" or (err:gsub("^.-:%d+: ", "")))
    end
    said(websocket.publish, "plain", "x", { idempotency_key = "k" })
    said(websocket.publish, "kept:m", "x", { idempotency_key = "" })
    said(websocket.publish, "kept:m", "x", { idempotency_key = ("k"):rep(65) })
    said(websocket.publish, "kept:m", "x", { scope = "worker" })
    said(websocket.publish, { "plain", "kept:m" }, "x")
    said(websocket.publish, {}, "x")
    said(websocket.publish, { 1 }, "x")
    said(websocket.publish, "kept:m", "x", { more = 1 })
    said(websocket.history, "kept:m", { since = -1 })
    said(websocket.history, "kept:m", { limit = "x" })
    said(websocket.history)
    said(websocket.forget, 1)
    said(websocket.close_topic, "room", 1005)
    ngx.say(websocket.forget("plain"))
    ngx.say(websocket.publish("kept:small", ("x"):rep(5000)))
    ngx.say(websocket.history(""))
    ngx.say(websocket.publish({ "a", ("t"):rep(256) }, "x"))
""")
case.handler("/subscribe-misuse", """
    local ws = assert(require("resty.websocket").accept())
    local function said(...)
        local ok, err = pcall(ws.subscribe, ws, ...)
        ws:send(ok and "no error" or (err:gsub("^.-:%d+: ", "")))
    end
    said("kept:m", { since = {} })
    said("kept:m", { since = 1.5 })
    said("kept:m", { format = "xml" })
    said("kept:m", { on_gap = "x" })
    said("kept:m", { timeout = -1 })
    said("kept:m", { info2 = 1 })
    said("kept:m\\255", { format = "json" })
    said("kept:m", 1)
""")


@case("misuse is an error that names the argument; what the world does is nil and a text")
def _(ng):
    line = Line(ng)
    for said, expected in zip(line.ask("/misuse").splitlines(), [
        "an idempotency key needs a topic with a history",
        'bad "idempotency_key" option: 1 to 64 bytes expected',
        'bad "idempotency_key" option: 1 to 64 bytes expected',
        "a topic with a history has no other scope",
        "a topic with a history is published to alone",
        'bad "topic" argument: 1 to 255 topics expected',
        'bad "topic" argument: array of strings expected',
        'unknown option "more" (known: confirm, except, idempotency_key, scope, type)',
        'bad "since" option: a cursor, "last" or a number of messages expected',
        'bad "limit" option: number expected',
        'bad "topic" argument: string expected, got nil',
        'bad "topic" argument: string expected, got number',
        'bad "code" argument: not a close code that may be sent',
        "nilno history for this topic", "nilmessage too large for the history",
        "niltopic is empty", "niltopic is too long"], strict=True):
        equal(said, expected)
    line.close()
    peer = Peer(ng, "/subscribe-misuse")
    for expected in [
        'bad "since" option: a cursor, "last" or a number of messages expected',
        'bad "since" option: a cursor, "last" or a number of messages expected',
        'bad "format" option: "raw" or "json" expected',
        'bad "on_gap" option: function expected, got string',
        'bad "timeout" option: milliseconds expected',
        'unknown option "info2" (known: format, info, on_gap, since, timeout)',
        "topic is not utf-8, which json needs",
        'bad "opts" argument: table expected, got number']:
        equal(peer.frame()[1].decode(), expected)
    peer.close()


case.handler("/several", """
    local websocket = require "resty.websocket"
    ngx.print(live.json { websocket.publish({ "kept:plain", "p2", "p3" }, ngx.var.arg_data) })
""")


@case("several topics at once: each connection once, the sum of subscribers; all are closed")
def _(ng):
    line = Line(ng)
    crowd = Crowd(ng, 4 * WORKERS, "/room?topics=kept:plain,p2")
    others = Crowd(ng, 2 * WORKERS, "/room?topics=p3")
    everybody = [*crowd, *others]
    equal(json.loads(line.ask("/several?data=hello"))[0], 2 * len(crowd) + len(others))
    line.ask("/several?data=again")
    equal({*crowd.next(), *others.next()}, {(TEXT, b"hello")})
    equal({*crowd.next(), *others.next()}, {(TEXT, b"again")})
    closed = json.loads(line.ask("/close-topic?topic=p3"))
    equal(closed, len(others))
    others.until(lambda s: s.over)
    equal({one.frame() for one in others}, {(CLOSE, b"\x0f\xa2gone")})
    equal(json.loads(line.ask("/close-topic?topic=p2")), len(crowd))
    crowd.until(lambda s: s.over)
    [one.sock.close() for one in everybody]
    line.close()


case.handler("/close-topic", """
    ngx.print(require("resty.websocket").close_topic(ngx.var.arg_topic, 4002, "gone"))
""")


@case("one order for all subscribers of all workers; who was left out hears nothing", skip_valgrind=True)
def _(ng):
    crowd = Crowd(ng, 6 * WORKERS, "/room?topics=kept:many")
    publishers = list(lines(ng).values())
    for n, publisher in enumerate(publishers):
        publisher.start(f"/kept-flood?topic=kept:many&from={'abcd'[n]}&n=500")
    for publisher in publishers:
        publisher.end()
    size = 10 * 500 * len(publishers)
    crowd.until(lambda s: len(s.data) >= size)
    streams = {bytes(one.data) for one in crowd}
    equal(len(streams), 1, "orders")
    for one in crowd:
        one.data.clear()
    line = publishers[0]
    for one in crowd[:3]:
        call(line, "publish", "kept:many", "but-one", **{"except": one.id})
        call(line, "publish", "kept:many", "to-all")
        for other, got in zip(crowd, crowd.next()):
            equal(got, (TEXT, b"to-all" if other is one else b"but-one"))
        equal({got for got in (crowd_rest(crowd, one))}, {(TEXT, b"to-all")})
    # Neither does it who comes back.
    [publisher.close() for publisher in publishers]
    crowd.close()
    empty(ng)


def crowd_rest(crowd, but):
    crowd.until(lambda s: s is but or len(s.data) >= 8)
    return [one.frame() for one in crowd if one is not but]


case.handler("/kept-flood", """
    local publish = require("resty.websocket").publish
    local args = ngx.req.get_uri_args()
    for n = 1, tonumber(args.n) do
        assert(publish(args.topic, args.from .. ("%07d"):format(n)))
        if n % 20 == 0 then ngx.sleep(0.001) end
    end
""")


@case("what is too old is not there; the position is")
def _(ng):
    line = Line(ng)
    cursor = publish(line, "kept:brief", "gone-soon")
    await_(lambda: call(line, "history", "kept:brief")[0] == [], "it is too old")
    equal(call(line, "history", "kept:brief")[1], cursor)
    peer, state = subscribe(ng, "kept:brief", since=cursor)
    equal((state["recovered"], state["count"]), (True, 0))
    peer.close()
    line.close()


run(case, http=HTTP, workers=WORKERS, listen="reuseport")
