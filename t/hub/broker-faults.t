BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# What else may become of a Redis, and of the way there: it loads, its memory or its disk is full, it wants
# replicas, it pauses, it keeps its data over a kill -9, it lets a user do less than that needs, it
# cuts a slow reader, it lies; bytes come one by one, connections lead nowhere, a frame is cut. Live
# subscribers of a history get every message over all of it, or are told; plain topics go on.
import base64
import os
import re
import shutil
import signal
import struct
import time

from lib.brokers import REDIS, Redis, ask, machine, metric, skip_without
from lib.crowd import Crowd, Line, room
from lib.feed import Feed, position
from lib.live import PORT, ROOT, Cases, Tap, await_, equal
from lib.shim import Liar, Shim

skip_without(REDIS, "redis-server")

tap = Tap()
case = Cases()
room(case)
DOOR, WAY, LIAR = PORT + 10, PORT + 11, PORT + 12
HTTP = """
    websocket_broker main {
        server redis://127.0.0.1:%d;
        connect_timeout 1s; command_timeout 1s; probe 500ms; reconnect max=200ms; queue 1m retry=2s;
    }
    websocket_topic "h:*" history=5000 ttl=5m;
"""
case.server += """
location = /metrics { websocket_status prometheus; }
location = /feed { websocket_subscribe $arg_t since=$arg_since format=json; }
location = /topic { websocket_publish $arg_t get; }
"""
QUIET = re.compile(r"broker main \(127.0.0.1:\d+\): (connection lost|topic .* is denied)|exited on signal 9")
folder = f"{ROOT}-aof"
shutil.rmtree(folder, ignore_errors=True)
os.makedirs(folder)
redis = Redis(DOOR, options=["--dir", folder, "--appendonly", "yes", "--appendfsync", "always"])
shim = Shim(WAY, DOOR)
# The first goes by the shim, the second straight to Redis.
ngs = [machine(n, HTTP % door, case.server, 1) for n, door in enumerate((WAY, DOOR))]
topics = (f"h:{n}" for n in range(1000))


def up():
    for ng in ngs:
        await_(lambda: metric(ng, "broker_connected") == 1, "connected")


def away(ng):
    await_(lambda: metric(ng, "broker_connected") == 0, "it is missed")


def put(ng, topic, data):
    """Publishes until it is taken."""
    def is_taken():
        status, text = ask(ng, f"/topic?t={topic}", "POST", data)
        return text if status == 202 else None
    return await_(is_taken, "it is published")


class Story:
    """A subscriber of a history on each machine, each of which has every message or is told."""

    def __init__(self):
        self.topic, self.sent = next(topics), 0
        self.feeds = [Feed(ng, self.topic) for ng in ngs]
        for feed in self.feeds:
            feed.line()
        self.go_on()

    def put(self, n=1, ng=1):
        for _ in range(n):
            self.sent += 1
            put(ngs[ng], self.topic, f"{self.sent:05d}")

    def go_on(self, told=False):
        """One from each machine, which all hear. What was tried before may have been stored as often."""
        for n in range(2):
            self.put(ng=n)
        for feed in self.feeds:
            number, heard_of = getattr(feed, "number", 0), False
            while number < self.sent:
                line = feed.line()
                if "data" not in line:
                    equal((told, line["reason"]), (True, "epoch"))
                    heard_of = True
                    number = max(number, self.sent - 2) if position(line["cursor"])[1] == 0 else self.sent
                    continue
                got = int(line["data"])
                assert got in (number, number + 1), (got, number, self.sent)
                number = got
            feed.number = number
            equal(heard_of, told)

    def close(self):
        for feed in self.feeds:
            feed.close()


def over(fault, told=False):
    story = Story()
    fault(story)
    redis.child.send_signal(signal.SIGCONT)
    shim.mode = "open"
    up()
    story.go_on(told)
    story.close()


def dripping(story):
    """Single bytes, from the greeting on."""
    shim.mode = "drip"
    redis.ask("CLIENT", "KILL", "TYPE", "pubsub")
    connections = shim.connections
    await_(lambda: shim.connections > connections or metric(ngs[0], "broker_connected"), "it is there")
    up()
    for _ in range(5):
        story.put(ng=0)
    story.go_on()


def leads_nowhere(story):
    """Half open: whatever is sent vanishes, and nothing comes."""
    shim.mode = "stuck"
    away(ngs[0])
    story.put(3)
    line = Line(ngs[0])
    crowd = Crowd(ngs[0], 1)
    line.ask("/push?data=here")
    equal([frames[1] for frames in crowd.next()], [b"here"])
    crowd.close()
    line.close()


def is_cut(story):
    for _ in range(3):
        shim.cutting = True
        story.put()
        await_(lambda: not shim.cutting, "it is cut")
        up()


def loads(story):
    """LOADING is no answer to anything: it is tried again until it is over."""
    shim.mode = "loading"
    redis.ask("CLIENT", "KILL", "TYPE", "pubsub")
    await_(lambda: "LOADING" in ngs[0].read_log(), "it is said")
    connections = shim.connections
    await_(lambda: shim.connections > connections + 3, "it is tried again")
    equal(metric(ngs[0], "broker_connected"), 0)
    story.put(3)


def is_slow_to_read(story):
    """Redis cuts a machine whose connection takes nothing; what it missed it reads afterwards."""
    redis.ask("CONFIG", "SET", "client-output-buffer-limit", "pubsub 256kb 0 0")
    lost = metric(ngs[0], "broker_reconnects_total")
    shim.mode = "stalled"
    # More than buffers on the way take.
    for _ in range(300):
        redis.ask("PUBLISH", "ws:all", "x" * 60_000)
    story.put(3)
    shim.mode = "open"
    await_(lambda: metric(ngs[0], "broker_reconnects_total") > lost, "it is cut and comes back")
    redis.ask("CONFIG", "SET", "client-output-buffer-limit", "pubsub 32mb 8mb 60")


def pauses(_):
    redis.ask("CLIENT", "PAUSE", "2500")
    away(ngs[0])


def wants_replicas(story):
    """NOREPLICAS: nothing was stored, it is tried elsewhere, which is here."""
    redis.ask("CONFIG", "SET", "min-replicas-to-write", "1")
    status, _ = ask(ngs[0], f"/topic?t={story.topic}", "POST", f"{story.sent:05d}")
    equal(status in (503, 504), True)
    redis.ask("CONFIG", "SET", "min-replicas-to-write", "0")


def disk_is_full(story):
    """MISCONF: refused and said, plain topics go on."""
    redis.ask("CONFIG", "SET", "save", "3600 1")
    redis.ask("CONFIG", "SET", "rdbcompression", "no")
    redis.ask("CONFIG", "SET", "dbfilename", "dump.rdb")
    os.makedirs(f"{folder}/dump.rdb")
    redis.ask("BGSAVE")
    await_(lambda: "rdb_last_bgsave_status:err" in redis.ask("INFO", "persistence"), "saving fails")
    status, text = ask(ngs[0], f"/topic?t={story.topic}", "POST", "x")
    equal((status, "refused by the broker" in text), (503, True))
    crowd, line = Crowd(ngs[1], 1), Line(ngs[0])

    def arrives():
        line.ask("/push?data=plain")
        crowd[0].take()
        return crowd[0].frames()
    await_(arrives, "a plain message")
    crowd.close()
    line.close()
    os.rmdir(f"{folder}/dump.rdb")
    redis.ask("CONFIG", "SET", "save", "")
    redis.ask("CONFIG", "SET", "stop-writes-on-bgsave-error", "no")


def killed_with_its_data(_):
    """What it has written it still has; it may have lost what it had not, so the epoch ends."""
    redis.ask("SET", "written", "1")
    redis.kill()
    for ng in ngs:
        away(ng)
    redis.start()
    equal(redis.ask("EXISTS", "written"), ":1")


def evicts(story):
    """allkeys-lru: what others need the room for goes, and is told."""
    redis.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    redis.ask("CONFIG", "SET", "maxmemory", "6mb")
    n = 0
    while redis.ask("EXISTS", f"ws:m:{story.topic}") == ":1":
        redis.ask("SET", f"other:{n}", "x" * 100_000)
        n += 1
        assert n < 1000
    redis.ask("CONFIG", "SET", "maxmemory", "0")
    redis.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    redis.ask("FLUSHALL")


def ahead():
    """Who has had more on one machine than another has heard of yet waits there, and hears nothing
    twice; who only says so is told after a while."""
    story = Story()
    shim.mode = "stalled"
    story.put(3)
    while story.feeds[1].line()["data"] != f"{story.sent:05d}":
        pass
    cursor = story.feeds[1].cursor
    feed = Feed(ngs[0], story.topic, cursor)
    line = feed.line()
    equal((line["resumed"], line["reason"], line["cursor"]), (False, "unavailable", cursor))
    equal(ask(ngs[0], f"/topic?t={story.topic}&since={cursor}")[0], 503)
    shim.mode = "open"
    line = feed.line()
    equal((line["resumed"], line["cursor"]), (True, cursor))
    story.put()
    equal(feed.line()["data"], f"{story.sent:05d}")
    up()
    raw = base64.urlsafe_b64decode(cursor[1:])
    beyond = "c" + base64.urlsafe_b64encode(raw[:16] + struct.pack(">Q", 1 << 40)).decode().rstrip("=")
    liar = Feed(ngs[0], story.topic, beyond)
    equal(liar.line()["reason"], "unavailable")
    story.put()
    equal(feed.line()["data"], f"{story.sent:05d}")
    equal(liar.line()["reason"], "epoch")
    story.put()
    for one in feed, liar:
        equal(one.line()["data"], f"{story.sent:05d}")
        one.close()
    story.close()


def denied():
    """A user who may publish plainly, and run no scripts: histories are refused, plain topics are not."""
    redis.ask("ACL", "SETUSER", "default", "-evalsha")
    status, text = ask(ngs[0], "/topic?t=h:denied", "POST", "x")
    equal((status, "refused by the broker" in text), (503, True))
    feed = Feed(ngs[0], "h:denied")
    equal(feed.line()["resumed"], False)
    crowd, line = Crowd(ngs[1], 1), Line(ngs[0])

    def arrives():
        line.ask("/push?data=plain")
        crowd[0].take()
        return crowd[0].frames()
    await_(arrives, "a plain message")
    redis.ask("ACL", "SETUSER", "default", "+@all")
    put(ngs[0], "h:denied", "x")
    crowd.close()
    line.close()
    feed.close()


def given_up():
    """What was asked for while nothing comes is given up with who has asked."""
    shim.mode = "stuck"
    assert ask(ngs[0], "/topic?t=h:given-up")[0] in (503, 504)
    equal(metric(ngs[0], "broker_connected"), 0)
    await_(lambda: metric(ngs[0], 'broker_topics{state="wanted"}') == 0, "nothing is wanted")
    shim.mode = "open"
    up()


def lies():
    """A history without end is read as far as it may be long, and no further."""
    for epochs in 1, 2:
        liar = Liar(LIAR, epochs)
        ng = machine(2, HTTP.replace("5000", "20") % LIAR, case.server, 1)
        try:
            ng.start()
            await_(lambda: metric(ng, "broker_connected") == 1, "connected")
            feed = Feed(ng, "h:endless")
            equal(feed.line()["resumed"], False)
            assert 20 <= liar.reads <= 60, liar.reads
            line = Line(ng)
            reads = liar.reads
            line.ask("/count?topic=h:endless")
            line.close()
            time.sleep(0.2)
            equal(liar.reads, reads)
            feed.close()
            equal(ng.stop(), 0)
            equal(ng.loud(QUIET), [])
        finally:
            ng.kill()
            liar.door.shutdown(2)
            liar.door.close()


try:
    for ng in ngs:
        ng.start()
    up()
    for name, body, *told in (
            ("bytes come one by one", dripping),
            ("a connection leads nowhere", leads_nowhere),
            ("a frame is cut", is_cut),
            ("it loads", loads),
            ("a machine is slow to read", is_slow_to_read),
            ("it pauses", pauses),
            ("it wants replicas", wants_replicas),
            ("its disk is full", disk_is_full),
            ("it is killed, and keeps its data", killed_with_its_data, True),
            ("it evicts", evicts, True),
            ("a machine is behind what a client has had", ahead, None),
            ("a user may do less", denied, None),
            ("who has asked has gone", given_up, None),
            ("it lies", lies, None)):
        if os.environ.get("ONLY", name) in name:
            tap.attempt(name, body if told == [None] else lambda: over(body, bool(told)))
            shim.mode = "open"
            redis.child.send_signal(signal.SIGCONT)

    def end():
        for ng in ngs:
            equal(ng.stop(), 0)
            equal([line for line in ng.loud() if not QUIET.search(line)], [])
    tap.attempt("nothing else is logged", end)
finally:
    for ng in ngs:
        ng.kill()
    redis.kill()
    shutil.rmtree(folder, ignore_errors=True)
tap.done()
