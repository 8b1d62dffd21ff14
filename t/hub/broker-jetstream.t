BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Topics that remember, over three machines and a JetStream: one server that is killed, stopped and loses
# its stream; and three of which the stream's leader is killed.
import json
import os
import re
import shutil
import signal
import time

from lib.brokers import NATS, Nats, ask, machine, metric, skip_without
from lib.far import everywhere, lines, put, put_once, serve, survives, up
from lib.feed import Feed, position
from lib.live import PORT, ROOT, Cases, Tap, await_, equal

skip_without(NATS, "nats-server")

tap = Tap()
case = Cases()
DOOR, MACHINES = PORT + 10, 3
BROKER = """
    websocket_broker main {
        server nats://%s;
        connect_timeout 2s; command_timeout 2s; probe 1s; reconnect max=200ms; queue 1m retry=2s;
        jetstream WS%s;
    }
    websocket_topic "h:*" history=50 ttl=5m;
    websocket_topic "long:*" history=5000 ttl=5m;
    websocket_topic "short:*" history=50 ttl=1s;
"""
serve(case)
LOST = r"broker main \(127.0.0.1:\d+\): (connection lost|no JetStream|no answer about)"
KILLED = re.compile(r"exited on signal 9")
topics = (f"h:{n}" for n in range(1000))
folder = f"{ROOT}-nats"
shutil.rmtree(folder, ignore_errors=True)


def fresh():
    return next(topics)


def answers():
    """What publish answers, with confirm and without; keys."""
    topic = fresh()
    feed = Feed(ngs[1], topic)
    feed.line()
    n, sequence, cursor = ask(ngs[0], f"/confirm?t={topic}&data=a&key=k1")[1].split()
    equal((n, sequence), ("0", "nil"))
    equal(ask(ngs[2], f"/confirm?t={topic}&data=b&key=k1")[1], f"0 nil {cursor}")
    equal(ask(ngs[1], f"/confirm?t={topic}&data=c&confirm=no")[1], "1 nil nil")
    lines(feed, ["a", "c"])
    equal(put(ngs[0], topic, "d", **{"Idempotency-Key": "k1"}), cursor)
    # Another topic's keys are its own.
    other = fresh()
    assert position(put(ngs[0], other, "x", **{"Idempotency-Key": "k1"}))[1] > position(cursor)[1]
    put(ngs[0], topic, "e")
    lines(feed, ["e"])
    feed.close()


def trims():
    """By number, by age, and by hand."""
    topic = fresh()
    cursors = [put(ngs[n % 3], topic, str(n)) for n in range(60)]
    equal(ask(ngs[1], f"/topic?t={topic}&since={cursors[0]}")[0], 410)
    for ng in ngs:
        equal(len(json.loads(ask(ng, f"/topic?t={topic}&limit=100")[1])["messages"]), 50)
        equal(ask(ng, f"/topic?t={topic}&since={cursors[9]}")[0], 200, "just before the oldest")
        equal(ask(ng, f"/topic?t={topic}&since={cursors[8]}")[0], 410)
    feed = Feed(ngs[2], topic, cursors[0])
    equal(feed.line()["reason"], "trimmed")
    put(ngs[0], "short:a", "x")
    await_(lambda: not json.loads(ask(ngs[1], "/topic?t=short:a")[1])["messages"], "it is too old")
    equal(ask(ngs[0], f"/forget?t={topic}")[1], "true")
    line = feed.line()
    equal((line["resumed"], line["reason"]), (False, "trimmed"))
    put(ngs[1], topic, "new")
    lines(feed, ["new"])
    feed.close()
    for ng in ngs:
        # One machine has heard of it before another has.
        await_(lambda: [m["data"] for m in json.loads(ask(ng, f"/topic?t={topic}")[1])["messages"]] == ["new"],
               "the new one alone is there")
    equal(ask(ngs[0], f"/forget?t={fresh()}")[1], "false")


def long():
    """More than a piece at once, larger messages, and a machine that has not followed."""
    topic = "long:a"
    for n in range(300):
        equal(ask(ngs[0], f"/confirm?t={topic}&data={n:04}" + "x" * 4000)[1][:6], "0 nil ")
    for ng in ngs:
        feed = Feed(ng, topic, "-300")
        equal(feed.line()["count"], 300)
        equal([data[:4] for data in feed.data(300)], [f"{n:04}" for n in range(300)])
        feed.close()


def killed():
    nats.kill()
    for ng in ngs:
        await_(lambda: metric(ng, "broker_connected") == 0, "the loss is seen")
    nats.start()


def stopped():
    nats.child.send_signal(signal.SIGSTOP)
    for ng in ngs:
        await_(lambda: metric(ng, "broker_connected") == 0, "the silence is found")
    nats.child.send_signal(signal.SIGCONT)


def another_stream():
    """The stream is deleted, and made again by whoever misses it first."""
    nats.ask("$JS.API.STREAM.DELETE.WS")


def tail_lost():
    """The server forgets the newest messages, as after a power failure: an old copy of its folder."""
    nats.kill()
    shutil.rmtree(f"{folder}/a")
    shutil.copytree(f"{folder}/before", f"{folder}/a")
    nats.start()


def survives_tail():
    put(ngs[0], fresh(), "x")
    nats.kill(signal.SIGTERM)
    shutil.rmtree(f"{folder}/before", ignore_errors=True)
    shutil.copytree(f"{folder}/a", f"{folder}/before")
    nats.start()
    up(ngs)
    put_once(ngs[0], fresh(), "y")
    survives(ngs, fresh(), tail_lost, "epoch")


def gateways_killed():
    for ng in ngs:
        for pid in ng.workers():
            os.kill(pid, signal.SIGKILL)
            await_(lambda: len(ng.workers()) == 2 and pid not in ng.workers(), "another worker")


def resumes_over_dead_workers():
    topic = fresh()
    cursor = put(ngs[0], topic, "a")
    gateways_killed()
    up(ngs)
    put_once(ngs[1], topic, "b")
    for ng in ngs:
        feed = Feed(ng, topic, cursor)
        equal(feed.line()["resumed"], True)
        lines(feed, ["b"])
        feed.close()


def reloaded():
    """Messages that come while gateways are replaced: each once, in order."""
    topic = fresh()
    feeds = [Feed(ng, topic) for ng in ngs]
    [feed.line() for feed in feeds]
    for ng in ngs:
        ng.signal("HUP")
    sent = 0
    end = time.monotonic() + 2
    while time.monotonic() < end:
        put_once(ngs[sent % 3], topic, str(sent))
        sent += 1
    for feed in feeds:
        try:
            lines(feed, [str(n) for n in range(sent)])
        except EOFError:
            pass  # its worker has quit, and told it so
        feed.close()


def down():
    """While it is away: publishing says so, subscribing too, and goes on from the cursor later."""
    topic = "long:b"
    cursor = put(ngs[0], topic, "a")
    put(ngs[0], topic, "b")
    nats.child.send_signal(signal.SIGSTOP)
    for ng in ngs:
        await_(lambda: metric(ng, "broker_connected") == 0, "it is missed")
    # Not so many that a cursor of before is too old to resume from: they may be stored all the same.
    await_(lambda: time.sleep(0.05) or ask(ngs[0], f"/confirm?t={topic}&data=x&confirm=no")[1].startswith(
        "nil broker unavailable"), "after a while nothing is taken")
    equal(ask(ngs[0], f"/topic?t={topic}", "POST", "x")[0], 503)
    equal(ask(ngs[0], f"/topic?t={topic}")[0], 503)
    feed = Feed(ngs[2], topic, cursor)
    line = feed.line()
    equal((line["resumed"], line["reason"], line["cursor"]), (False, "unavailable", cursor))
    nats.child.send_signal(signal.SIGCONT)
    # A try that comes too early is told like the first.
    while (line := feed.line()).get("reason") == "unavailable":
        pass
    equal(line["resumed"], True, line)
    lines(feed, ["b"])
    up(ngs)
    put_once(ngs[0], topic, "c")
    # What was not confirmed may have waited in the connection.
    while (line := feed.line()).get("data") == "x":
        pass
    equal(line.get("data"), "c", line)
    feed.close()


def foreign():
    """What others write there is counted and passed over, and hides nothing."""
    topic = fresh()
    feed = Feed(ngs[1], topic)
    feed.line()
    put(ngs[0], topic, "a")
    lines(feed, ["a"])
    before = metric(ngs[1], "broker_bad_messages_total")
    nats.publish(f"ws.p.{topic.replace(':', '=3A')}", b"garbage")
    nats.publish("ws.l.h=3A0", b"garbage", b"Nats-Sequence: 5\r\n")
    put(ngs[2], topic, "b")
    lines(feed, ["b"])
    assert metric(ngs[1], "broker_bad_messages_total") > before
    feed.close()


def refused():
    """A stream that is full, and one that no longer republishes: refused and said."""
    topic = fresh()
    put(ngs[0], topic, "a")
    info = nats.ask("$JS.API.STREAM.INFO.WS")["config"]
    full = {**info, "max_bytes": 1, "discard": "new"}
    assert "error" not in nats.ask("$JS.API.STREAM.UPDATE.WS", full)
    status, text = ask(ngs[0], f"/topic?t={topic}", "POST", "b")
    equal((status, json.loads(text)["error"]), (503, "refused by the broker"))
    await_(lambda: "a message is refused: maximum bytes exceeded" in ngs[0].read_log(), "it is said")
    assert "error" not in nats.ask("$JS.API.STREAM.UPDATE.WS", info)
    put(ngs[0], topic, "c")


def narrow():
    """A stream that keeps less than the topics need is said."""
    info = nats.ask("$JS.API.STREAM.INFO.WS")["config"]
    equal(info["max_msgs_per_subject"], 5001)
    assert "error" not in nats.ask("$JS.API.STREAM.UPDATE.WS", {**info, "max_msgs_per_subject": 40})
    await_(lambda: "is narrower than its topics: max_msgs_per_subject is less than 5001" in ngs[0].read_log(),
           "it is said")


def leader_killed():
    """The stream's leader of three dies: another one goes on, and nothing is missing."""
    info = servers[0].ask("$JS.API.STREAM.INFO.WS")
    leader = next(s for s in servers if s.name == info["cluster"]["leader"])
    print(f"# {leader.name} leads", flush=True)
    leader.kill()
    for ng in ngs:
        await_(lambda: metric(ng, "broker_connected") == 1, "at another one, or still")
    return leader


def cluster():
    topic = fresh()
    everywhere(ngs, topic, fresh())
    leader = []
    survives(ngs, fresh(), lambda: leader.append(leader_killed()))
    leader[0].start()
    survives(ngs, fresh(), lambda: None)
    ducks()


def ducks():
    """A server that is about to end is left before it does, for another that is there by then."""
    topic = fresh()
    feeds = [Feed(ng, topic) for ng in ngs]
    [feed.line() for feed in feeds]
    logs = [len(ng.read_log()) for ng in ngs]
    for n, server in enumerate(servers):
        # It ends when nobody is there any more, or after half a minute.
        server.child.send_signal(signal.SIGUSR2)
        await_(lambda: server.child.poll() is not None, "it ends")
        server.start()
        up(ngs)
        put_once(ngs[0], topic, str(n))
        [lines(feed, [str(n)]) for feed in feeds]
    said = [ng.read_log()[start:] for ng, start in zip(ngs, logs)]
    assert not any("connection lost" in log for log in said), said
    [feed.close() for feed in feeds]


def check_end():
    for ng in ngs:
        equal(ng.stop(), 0)
        equal([line for line in ng.loud(LOST) if not KILLED.search(line) and not OTHER.search(line)], [])


OTHER = re.compile(r"a message is refused: maximum bytes|is narrower than its topics")
nats, servers = Nats(DOOR, folder), []
ngs = [machine(n, BROKER % (f"127.0.0.1:{DOOR}", ""), case.server) for n in range(MACHINES)]


def attempt(cases):
    for name, body in cases:
        if os.environ.get("ONLY", name) in name:
            tap.attempt(name, body)


try:
    for ng in ngs:
        ng.start()
    up(ngs)
    for name, body in (
            ("published anywhere, heard, read and resumed everywhere", lambda: everywhere(ngs, fresh(), fresh())),
            ("what publish answers", answers),
            ("histories are trimmed", trims),
            ("long ones come in pieces", long),
            ("NATS is killed and comes back", lambda: survives(ngs, fresh(), killed)),
            ("NATS is stopped for a while", lambda: survives(ngs, fresh(), stopped)),
            ("the stream is deleted and made again", lambda: survives(ngs, fresh(), another_stream, "epoch")),
            ("the stream loses its newest messages", survives_tail),
            ("workers are killed", resumes_over_dead_workers),
            ("reloads", reloaded),
            ("while the broker is away", down),
            ("what others write", foreign),
            ("the stream is full", refused),
            ("the stream is narrow", narrow)):
        if os.environ.get("ONLY", name) in name:
            tap.attempt(name, body)
            nats.child.send_signal(signal.SIGCONT)
            up(ngs)
    tap.attempt("nothing else is logged", check_end)
    for ng in ngs:
        ng.kill()
    nats.kill()
    shutil.rmtree(folder)
    ports, routes = range(DOOR, DOOR + 3), range(DOOR + 3, DOOR + 6)
    servers = [Nats(port, folder, name, cluster=(route, routes), wait=False)
               for port, route, name in zip(ports, routes, "abc")]
    [await_(server.answers, "NATS comes up") for server in servers]
    await_(lambda: (servers[0].ask("$JS.API.INFO", patience=1) or {}).get("streams") == 0, "they agree on who leads")
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    ngs = [machine(n, BROKER % (hosts, " replicas=3"), case.server) for n in range(MACHINES)]
    for ng in ngs:
        ng.start()
    up(ngs)
    if os.environ.get("ONLY", "cluster") in "cluster":
        tap.attempt("three servers, of which the leader is killed", cluster)
    tap.attempt("nothing else is logged there", check_end)
finally:
    for ng in ngs:
        ng.kill()
    for server in [nats, *servers]:
        server.kill()
    shutil.rmtree(folder, ignore_errors=True)
tap.done()
