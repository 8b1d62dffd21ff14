BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Who cannot keep up with a topic that remembers: a slow reader is filled from the history as it reads,
# whatever its send buffer; what was trimmed meanwhile is told, to each kind of subscriber in its way;
# who takes nothing at all is closed with 1013 where slow ones are. Rules that change by a reload, zones
# that are full, floods of topics.
import json
import struct
import threading

from lib.crowd import Line
from lib.live import Cases, Nginx, Tap, await_, equal
from lib.peer import CLOSE, TEXT, Peer

tap = Tap()
case = Cases()
case.handler("/publish", """
    local websocket = require "resty.websocket"
    local args = ngx.req.get_uri_args()
    local padding = ("."):rep(tonumber(args.size) or 0)
    for n = tonumber(args.from) or 1, tonumber(args.to) or 1 do
        local ok, err = websocket.publish(args.topic, n .. padding)
        if not ok then return ngx.print(err) end
    end
    ngx.print("done")
""")
case.handler("/raw", """
    local ws = assert(require("resty.websocket").accept())
    assert(ws:subscribe(ngx.var.arg_topic, { since = tonumber(ngx.var.arg_since) }))
    live.report("open")
    live.report(ws:recv())
""", "websocket_send_buffer 32k; websocket_shutdown_close off;")
case.handler("/told", """
    local ws = assert(require("resty.websocket").accept())
    assert(ws:subscribe(ngx.var.arg_topic, { on_gap = function(topic, reason)
        live.report("gap", topic, reason)
    end }))
    live.report("open")
    live.report(ws:recv())
""", "websocket_send_buffer 32k;")
case.handler("/pid", "ngx.print(ngx.worker.pid())")
case.handler("/history", """
    local websocket = require "resty.websocket"
    local args = ngx.req.get_uri_args()
    local messages, cursor = websocket.history(args.topic, { since = args.since, limit = 1000 })
    ngx.print(messages and #messages or "nil", " ", cursor)
""")
case.handler("/flood", """
    local websocket = require "resty.websocket"
    local from, to = ngx.var.arg_from, ngx.var.arg_to
    for n = from, to do
        assert(websocket.publish("kept:flood:" .. n, "x"))
        if n % 1000 == 0 then ngx.sleep(0.001) end
    end
    ngx.print("done")
""")
case.server += """
    location = /info { websocket_status; }
    location = /json { websocket_subscribe $arg_topic since=$arg_since format=json; websocket_send_buffer 32k; }
    location = /ignore { websocket_subscribe $arg_topic gap=ignore; websocket_send_buffer 32k; }
    location = /stuck { websocket_subscribe $arg_topic; websocket_send_buffer 32k; websocket_send_timeout 200ms; }
    location = /patient {
        websocket_subscribe $arg_topic; websocket_send_buffer 32k; websocket_send_timeout 200ms;
        websocket_slow_consumer drop;
    }
"""
HTTP = "websocket_history_zone 4m; websocket_topic kept:* history=1000 bytes=3m; websocket_topic kept:few history=10;"
SIZE = 1000


def nginx(name, http=HTTP, workers=1):
    """Decorator: a case with an nginx of its own."""
    def run(body):
        def attempt():
            ng = Nginx(server=case.server, http=http, listen="sndbuf=16k", workers=workers)
            try:
                ng.start()
                body(ng)
                equal(ng.stop(), 0)
                loud = ng.loud()
                assert not loud, "nginx logged:\n" + "\n".join(loud[:10])
                found = ng.valgrind_findings()
                assert not found, "valgrind:\n" + "\n".join(found[:200])
            finally:
                ng.kill()
        tap.attempt(name, attempt)
    return run


def publish(line, topic, first, last, size=SIZE):
    equal(line.ask(f"/publish?topic={topic}&from={first}&to={last}&size={size}"), "done")


def numbers(peer, count, size=SIZE):
    found = []
    for _ in range(count):
        first, payload = peer.frame()
        equal((first, payload[-size:]), (TEXT, b"." * size))
        found.append(int(payload[:-size]))
    return found


@nginx("a slow reader gets everything, in order, while it is far behind")
def _(ng):
    line = Line(ng)
    slow, fast = Peer(ng, "/raw?topic=kept:a", window=8192), Peer(ng, "/raw?topic=kept:a")
    for peer in slow, fast:
        equal(peer.report(), "open")
    publish(line, "kept:a", 1, 400)
    equal(numbers(fast, 400), list(range(1, 401)))
    equal(line.info()["slow_consumers"], {"dropped": 0, "closed": 0})
    publish(line, "kept:a", 401, 500)
    equal(numbers(slow, 300), list(range(1, 301)))
    publish(line, "kept:a", 501, 600)
    equal(numbers(slow, 300), list(range(301, 601)))
    publish(line, "kept:a", 601, 601)
    equal((numbers(slow, 1), numbers(fast, 201)[-1]), ([601], 601))
    # From the beginning, more than the send buffer holds.
    late = Peer(ng, "/raw?topic=kept:a&since=300", window=8192)
    equal(late.report(), "open")
    publish(line, "kept:a", 602, 610)
    equal(numbers(late, 309), list(range(302, 611)))
    [peer.close() for peer in (slow, fast, late)]
    line.close()


@nginx("what is trimmed before a slow reader has read it is told, each kind in its way")
def _(ng):
    line = Line(ng)
    raw, told = (Peer(ng, f"/{kind}?topic=kept:few", window=4096) for kind in ("raw", "told"))
    lines, ignores = (Peer(ng, f"/{kind}?topic=kept:few", window=4096) for kind in ("json", "ignore"))
    for peer in raw, told:
        equal(peer.report(), "open")
    equal("resumed" in json.loads(lines.frame()[1]), True)
    publish(line, "kept:few", 1, 300)
    got = {}

    def read(peer):
        got[peer] = [peer.frame()]
        while got[peer][-1][0] != CLOSE and b"1000" not in got[peer][-1][1][:100]:
            got[peer].append(peer.frame())
    threads = [threading.Thread(target=read, args=(peer,)) for peer in (raw, told, lines, ignores)]
    [thread.start() for thread in threads]
    await_(lambda: sum(line.info()["history_gaps"].values()) == 4, "all have lost something")
    publish(line, "kept:few", 1000, 1000)
    [thread.join() for thread in threads]
    equal(told.report(), "gap | kept:few | trimmed")
    equal(got[raw].pop(), (CLOSE, struct.pack(">H", 1012) + b"messages lost: trimmed"))
    # What came is a beginning without a hole, and then what was live after the gap.
    for peer in raw, told, ignores:
        came = [int(payload[:-SIZE]) for first, payload in got[peer]]
        last = came.pop() if peer is not raw else 1000
        equal((came, last), (list(range(1, len(came) + 1)), 1000))
        assert 0 < len(came) < 290, came
    told_of = [json.loads(payload) for first, payload in got[lines]]
    equal(told_of.pop()["data"][:4], "1000")
    gap = told_of.pop()
    equal((gap["resumed"], gap["count"], gap["reason"]), (False, 0, "trimmed"))
    equal([int(line["data"][:-SIZE]) for line in told_of], list(range(1, len(told_of) + 1)))
    gaps = line.info()["history_gaps"]
    equal(gaps, {"yes": 3, "no": 1})
    [peer.close() for peer in (raw, told, lines, ignores)]
    line.close()


@nginx("who takes nothing for the time-out of sending: 1013 where slow ones are closed, patience elsewhere")
def _(ng):
    line = Line(ng)
    stuck, patient = (Peer(ng, f"/{kind}?topic=kept:s", window=4096) for kind in ("stuck", "patient"))
    publish(line, "kept:s", 1, 500)
    await_(lambda: line.info()["connections_open"] == 1, "the stuck one is closed")
    equal(line.info()["slow_consumers"], {"dropped": 0, "closed": 1})
    equal(line.info()["connections_closed"]["1013"], 1)
    equal(numbers(patient, 500), list(range(1, 501)))
    [peer.close() for peer in (stuck, patient)]
    line.close()


@nginx("rules change by a reload: kept from now on, no more, fewer; old workers follow", workers=2)
def _(ng):
    line = Line(ng)
    old = Peer(ng, "/raw?topic=late:a")
    kept = Peer(ng, "/raw?topic=kept:b")
    for peer in old, kept:
        equal(peer.report(), "open")
    publish(line, "late:a", 1, 1)
    publish(line, "kept:b", 1, 20)
    equal(line.ask("/history?topic=late:a").split()[0], "nil")
    cursor = line.ask("/history?topic=kept:b").split()[1]
    line.close()
    before = ng.workers()
    ng.write(http="websocket_history_zone 4m; websocket_topic late:* history=5; websocket_topic kept:b history=3;")
    ng.signal("HUP")
    await_(lambda: len(ng.workers()) == 2 and not set(ng.workers()) & set(before), "HUP")
    line = Line(ng)
    publish(line, "late:a", 2, 4)
    publish(line, "kept:b", 21, 21)
    equal(line.ask("/history?topic=late:a").split()[0], "3")
    equal(line.ask("/history?topic=kept:b").split()[0], "3")
    equal(line.ask(f"/history?topic=kept:b&since={cursor}").split()[0], "1")
    equal(numbers(old, 4), [1, 2, 3, 4])
    equal(numbers(kept, 21), list(range(1, 22)))
    line.close()
    before = ng.workers()
    ng.write(http="websocket_history_zone 4m;")
    ng.signal("HUP")
    await_(lambda: len(ng.workers()) == 2 and not set(ng.workers()) & set(before), "HUP")
    line = Line(ng)
    publish(line, "late:a", 5, 5)
    equal(numbers(old, 1), [5])
    equal(line.ask("/history?topic=late:a").split(None, 1), ["nil", "no history for this topic"])
    [peer.close() for peer in (old, kept)]
    line.close()


@nginx("a flood of topics in a full zone: nobody with subscribers loses anything")
def _(ng):
    line = Line(ng)
    peer = Peer(ng, "/json?topic=kept:mine")
    json.loads(peer.frame()[1])
    publish(line, "kept:mine", 1, 50)
    cursors = [json.loads(peer.frame()[1])["cursor"] for _ in range(50)]
    for start in range(1, 60_001, 10_000):
        equal(line.ask(f"/flood?from={start}&to={start + 9999}"), "done")
    info = line.info()
    assert info["history_evicted"] > 1000 and info["history_topics"] > 1000, info
    assert info["history_bytes"] <= info["history_zone_bytes"] <= 4 << 20
    equal(info["history_epochs_ended"], {"evicted": info["history_evicted"], "forgotten": 0, "killed": 0})
    equal(line.ask(f"/history?topic=kept:mine&since={cursors[0]}").split()[0], "49")
    equal(line.ask("/history?topic=kept:flood:60000").split()[0], "1")
    equal(line.ask("/history?topic=kept:flood:1").split()[0], "0")
    publish(line, "kept:mine", 51, 51)
    equal(json.loads(peer.frame()[1])["data"][:2], "51")
    # Reading and subscribing names that nobody ever published to costs nothing.
    topics = line.info()["history_topics"]
    for n in range(200):
        line.ask(f"/history?topic=kept:never:{n}")
        Peer(ng, f"/json?topic=kept:never:{n}").close()
    equal(line.info()["history_topics"], topics)
    # One topic of large messages keeps to its share.
    publish(line, "kept:mine", 1, 200, 20000)
    assert line.info()["history_bytes"] <= 4 << 20
    equal(line.ask(f"/publish?topic=kept:mine&to=1&size={4 << 20}"), "message too large for the history")
    peer.close()
    line.close()


tap.done()
