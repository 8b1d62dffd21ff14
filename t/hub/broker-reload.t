BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# A reload says otherwise who keeps a topic's history, a broker or the machine itself: workers of before, which still
# serve, follow the newest configuration, too, and no history is taken for the other one. And what
# a client hears that publishes to a history whose broker is away.
import json
import os
import re
import struct
import threading

from lib.brokers import REDIS, Redis, ask, machine, metric, skip_without
from lib.far import put, serve, up
from lib.feed import Feed, position
from lib.live import PORT, Cases, Tap, await_, equal
from lib.peer import CLOSE, TEXT, Peer, frame
from lib.shim import Liar

skip_without(REDIS, "redis-server")

tap = Tap()
case = Cases()
serve(case)
DOOR, NOBODY = PORT + 10, PORT + 11
BROKER = """
    websocket_broker main { server redis://127.0.0.1:%d; connect_timeout 1s; reconnect max=200ms; queue 1m retry=100ms; }
"""
KEPT = "websocket_shutdown_close off; websocket_topic h:* history=50 ttl=5m;"
PLAIN = "websocket_shutdown_close off; websocket_topic other history=5;"
QUIET = re.compile(r"broker main .*: connection lost")
case.server += "location = /chat { websocket_subscribe $arg_t; websocket_publish_from_client on; }\n"
case.handler("/publishes", """
    local websocket = require "resty.websocket"
    local ws = assert(websocket.accept())
    for data in ws:messages() do
        local n, sequence = websocket.publish(ngx.var.arg_t, data)
        ws:send(tostring(n) .. " " .. tostring(sequence))
    end
""")


def reload(ng, http):
    """Until new workers serve."""
    ng.write(http=http)
    old = set(ng.workers())
    ng.signal("HUP")
    await_(lambda: set(ng.workers()) - old, "new workers")


def history(ng, topic):
    answer = json.loads(ask(ng, f"/topic?t={topic}")[1])
    return [message["data"] for message in answer["messages"]], position(answer["cursor"])


def case_of(http, number=0):
    ng = machine(number, http, case.server, 1)
    ng.start()
    ngs.append(ng)
    return ng


def here_again():
    """What a broker kept is kept here: it begins anew, and who was subscribed is told."""
    ng = case_of(BROKER % DOOR + KEPT)
    up([ng])
    for n in range(3):
        put(ng, "h:a", str(n))
    feed = Feed(ng, "h:a")
    before = position(feed.line()["cursor"])
    reload(ng, KEPT)
    await_(lambda: metric(ng, "broker_connected") == 0, "nobody talks to it")
    cursor = position(put(ng, "h:a", "new"))
    equal((cursor[1], cursor[0] != before[0]), (1, True))
    equal(history(ng, "h:a"), (["new"], cursor))
    equal(feed.line()["reason"], "epoch")
    if position(feed.cursor)[1] == 0:
        equal(feed.line()["data"], "new")
    put(ng, "h:a", "newer")
    equal(feed.line()["data"], "newer")
    feed.close()


def elsewhere_from_now_on():
    """What was kept here a broker keeps: a worker of before has it store what it publishes."""
    ng, other = case_of(KEPT), case_of(BROKER % DOOR + KEPT, 1)
    old = put(ng, "h:b", "old")
    peer = Peer(ng, "/publishes?t=h:b")
    feed = Feed(other, "h:b")
    feed.line()
    reload(ng, BROKER % DOOR + KEPT)
    up([ng, other])
    peer.send(frame(TEXT, "by a worker of before"))
    equal(peer.frame()[1].split()[1], b"nil")
    equal(feed.line()["data"], "by a worker of before")
    equal(history(ng, "h:b"), (["by a worker of before"], position(feed.cursor)))
    equal(ask(ng, f"/topic?t=h:b&since={old}")[0], 410)
    peer.close()
    feed.close()


def plain_from_now_on():
    """Who waits for a broker hears a topic that remembers nothing any more."""
    home = case_of(KEPT)
    cursor = put(home, "h:c", "x")
    ng = case_of(BROKER % NOBODY + KEPT, 1)
    feed = Feed(ng, "h:c", cursor)
    line = feed.line()
    equal((line["reason"], line["cursor"]), ("unavailable", cursor))
    reload(ng, BROKER % NOBODY + PLAIN)
    equal(ask(ng, "/topic?t=h:c", "POST", "plain")[0], 202)
    equal(feed.line()["data"], "plain")
    feed.close()


def a_client_is_told():
    """What a client publishes and nobody stores ends its connection: 1013."""
    ng = case_of(BROKER % NOBODY + KEPT)
    await_(lambda: ask(ng, "/confirm?t=h:d&data=x&confirm=no")[1].startswith("nil"), "it is away")
    peer = Peer(ng, "/chat?t=h:d")
    peer.send(frame(TEXT, "x"))
    equal(peer.frame(), (CLOSE, struct.pack(">H", 1013) + b"broker unavailable"))
    peer.close()


class Slow(Liar):
    """An empty Redis that answers the first script when it may."""

    def __init__(self, port):
        self.may = threading.Event()
        super().__init__(port)

    def answer(self, verb, *words):
        if verb != b"EVALSHA":
            return super().answer(verb, *words)
        self.reads += 1
        if self.reads == 1:
            self.may.wait()
        return b"*0\r\n"


def handed_over():
    """Who waits for a history as another worker takes the broker over is answered by that one."""
    slow = Slow(NOBODY)
    ng = case_of(BROKER % NOBODY + KEPT)
    up([ng])
    answers = []
    waits = threading.Thread(target=lambda: answers.append(ask(ng, "/topic?t=h:e")))
    waits.start()
    await_(lambda: slow.reads == 1, "it is read")
    reload(ng, BROKER % NOBODY + KEPT)
    waits.join()
    equal([(status, json.loads(text).get("messages")) for status, text in answers], [(200, [])])
    slow.may.set()
    slow.door.shutdown(2)
    slow.door.close()


redis, ngs = Redis(DOOR), []
try:
    for body in here_again, elsewhere_from_now_on, plain_from_now_on, a_client_is_told, handed_over:
        def attempt(body=body):
            del ngs[:]
            try:
                body()
                for ng in ngs:
                    equal(ng.stop(), 0)
                    equal([line for line in ng.loud() if not QUIET.search(line)], [])
            finally:
                for ng in ngs:
                    ng.kill()
        name = body.__name__.replace("_", " ")
        if os.environ.get("ONLY", name) in name:
            tap.attempt(name, attempt)
finally:
    redis.kill()
tap.done()
