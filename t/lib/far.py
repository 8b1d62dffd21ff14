"""Topics that remember, over several machines and whatever broker keeps them: what is asked of machines,
and what has to be true with every broker."""

import json

from lib.brokers import ask, metric
from lib.feed import Feed, position
from lib.live import await_, equal

SERVER = """
location = /metrics { websocket_status prometheus; }
location = /feed { websocket_subscribe $arg_t since=$arg_since format=json; }
location = /raw { websocket_subscribe $arg_t; }
location = /topic { websocket_publish $arg_t get delete; client_body_buffer_size 256k; }
"""


def serve(case):
    """What is asked of machines by its Lua: to publish with or without confirm, and to forget."""
    case.server += SERVER
    case.handler("/confirm", """
        local args = ngx.req.get_uri_args()
        local n, sequence, cursor = require("resty.websocket").publish(args.t, args.data,
            { confirm = args.confirm ~= "no", idempotency_key = args.key })
        ngx.print(tostring(n), " ", tostring(sequence), " ", tostring(cursor))
    """)
    case.handler("/forget", 'ngx.print(tostring(require("resty.websocket").forget(ngx.var.arg_t)))')


def put(ng, topic, data, **headers):
    """Publishes by HTTP, which confirms."""
    status, text = ask(ng, f"/topic?t={topic}", "POST", data, **headers)
    equal(status, 202, text)
    return json.loads(text)["cursor"]


def put_once(ng, topic, data):
    """Until it is taken; whatever became of the tries before, its key makes it one message."""
    keys = {"Idempotency-Key": f"k{data}"} if topic.startswith("h:") else {}

    def taken():
        status, text = ask(ng, f"/topic?t={topic}", "POST", data, **keys)
        assert status in (202, 503, 504), f"{status} {text}"
        return status == 202 and json.loads(text)
    return await_(taken, f"{data} is taken")


def up(ngs):
    for ng in ngs:
        await_(lambda: metric(ng, "broker_connected") == 1, "connected")


def lines(feed, expected):
    """As many messages, one offset after the other."""
    got = []
    while len(got) < len(expected):
        line = feed.line()
        assert "data" in line, line
        got.append(line["data"])
    equal(got, expected)


def everywhere(ngs, topic, other):
    """What is published anywhere all have, in one order, and whoever comes later on any machine."""
    feeds = [Feed(ng, topic) for ng in ngs]
    for feed in feeds:
        equal(feed.line(), {"topic": topic, "cursor": feed.cursor, "resumed": False, "count": 0})
    cursors = [put(ngs[n % len(ngs)], topic, f"m{n}") for n in range(10)]
    offsets = [position(cursor)[1] for cursor in cursors]
    equal(offsets, sorted(set(offsets)))
    for feed in feeds:
        lines(feed, [f"m{n}" for n in range(10)])
        equal(feed.cursor, cursors[-1])
        feed.close()
    for ng in ngs:
        later = Feed(ng, topic, cursors[4])
        line = later.line()
        equal((line["resumed"], line["count"], line["cursor"]), (True, 5, cursors[4]))
        lines(later, [f"m{n}" for n in range(5, 10)])
        later.close()
        newest = Feed(ng, topic, "-2")
        equal(newest.line()["count"], 2)
        lines(newest, ["m8", "m9"])
        newest.close()
        got = json.loads(ask(ng, f"/topic?t={topic}&limit=2")[1])
        equal([m["data"] for m in got["messages"]], ["m8", "m9"])
        equal(got["cursor"], cursors[-1])
        got = json.loads(ask(ng, f"/topic?t={topic}&limit=3&since={cursors[0]}")[1])
        equal([m["data"] for m in got["messages"]], ["m1", "m2", "m3"])
        # It grants nothing, and means nothing elsewhere.
        equal(ask(ng, f"/topic?t={other}&since={cursors[0]}")[0], 400)
    return cursors


def survives(ngs, topic, fault, reason=None, live=True):
    """Live subscribers get every message over a fault, if they outlive it, or are told; and so do those
    who come back."""
    feeds = [Feed(ng, topic) for ng in ngs]
    [feed.line() for feed in feeds]
    put(ngs[0], topic, "before")
    [lines(feed, ["before"]) for feed in feeds]
    cursor = feeds[0].cursor
    fault()
    up(ngs)
    put_once(ngs[1], topic, "after")
    for feed in feeds if live else ():
        line = feed.line()
        if reason:
            equal(line.get("reason"), reason, line)
            if position(line["cursor"])[1] > 0:
                feed.close()
                continue  # it is told where "after" stands already
            line = feed.line()
        equal(line.get("data"), "after")
        feed.close()
    for feed in () if live else feeds:
        feed.close()
    for ng in ngs:
        feed = Feed(ng, topic, cursor)
        line = feed.line()
        if line.get("reason") == "unavailable":
            line = feed.line()  # its machine was reading it anew
        equal((line["resumed"], line.get("reason")), (not reason, reason), line)
        feed.close()
