BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Three machines (three nginx with zones of their own) over one Redis: what is published on each is
# heard on all, in order and once, and whatever happens to Redis or to a worker, publishing goes on
# at home and no topic stays deaf.
import itertools
import os
import random
import re
import signal
import socket
import subprocess
import threading
import time

from lib.brokers import REDIS, Redis, level, machine, metric, skip_without
from lib.crowd import Crowd, Line, room
from lib.live import KILLED, PATIENCE, PORT, Cases, Nginx, Tap, await_, equal
from lib.peer import TEXT

skip_without(REDIS, "redis-server")

tap = Tap()
case = Cases()
room(case)
case.server += """
location = /metrics { websocket_status prometheus; }
location = /stay { websocket_subscribe room; websocket_shutdown_close off; }
"""
WORKERS, MACHINES, DOOR = 2, 3, PORT + 10
WORD = "open sesame"
BROKER = """
    websocket_broker main {
        server redis://127.0.0.1:%d;
        password_file word;
        connect_timeout 2s; command_timeout 2s; probe 1s; reconnect max=300ms; queue 1m retry=30s;
    }
    websocket_topic "home:*" broker=off;
""" % DOOR
LOST = r"broker main \(127.0.0.1:\d+\): connection lost"


def Server():
    return Redis(DOOR, WORD)


def heard(crowd, expected):
    """Everybody hears these, in this order for each first letter, and nothing else."""
    got = {id(one): [] for one in crowd}

    def done(one):
        got[id(one)] += [payload.decode() for _, payload in one.frames()]
        return len(got[id(one)]) >= len(expected)
    crowd.until(done, what=f"{len(expected)} messages")
    for one in crowd:
        for first in sorted({text[0] for text in expected}):
            equal([text for text in got[id(one)] if text[0] == first],
                  [text for text in expected if text[0] == first])


redis = Server()
ngs = [machine(n, BROKER, case.server, WORKERS, {"word": WORD}) for n in range(MACHINES)]


def all_hear(topics=1):
    """Everybody on every machine hears what each machine publishes."""
    for ng in ngs:
        level(ng, topics)
    for n, ng in enumerate(ngs):
        line = Line(ng)
        sent = [f"{n}{i:04d}" for i in range(50)]
        for text in sent:
            line.ask(f"/push?data={text}")
        for crowd in crowds:
            heard(crowd, sent)
        line.close()


def attempt():
    all_hear()
    for n, ng in enumerate(ngs):
        others = [one for m in range(MACHINES) if m != n for one in crowds[m]]
        line = Line(ng)
        await_(lambda: metric(ng, "nodes_known") == MACHINES - 1, "the others' heartbeats")
        for one in others:
            equal(line.ask(f"/send?to={one.id}&data=to-{one.id}"), "true")
        equal(line.ask(f"/send?to=00000001{others[0].id[8:]}&data=x"), "nilno such connection")
        line.close()
        for m in range(MACHINES):
            for one in crowds[m]:
                if m != n:
                    crowds[m].until(lambda s: s is not one or len(s.data) >= 37)
                    equal(one.frames(), [(TEXT, f"to-{one.id}".encode())])
    # One word to all, which ends the test: nothing came twice, and nothing stayed where it should not.
    line = Line(ngs[0])
    line.ask("/push?data=x&scope=node")
    line.ask(f"/push?data=y&except={crowds[1][0].id}")
    line.ask("/push?data=z")
    for m, crowd in enumerate(crowds):
        for one in crowd:
            expected = (["x"] if m == 0 else []) + ([] if one is crowds[1][0] else ["y"]) + ["z"]
            crowd.until(lambda s: s is not one or len(s.data) >= 3 * len(expected))
            equal([payload.decode() for _, payload in one.frames()], expected)
    line.close()


def close_far():
    one = crowds[2].pop()
    crowds[2].selector.unregister(one.sock)
    line = Line(ngs[0])
    equal(line.ask(f"/close?to={one.id}"), "true")
    one.sock.setblocking(True)
    one.sock.settimeout(PATIENCE)
    one.take()
    equal(one.frame(), (0x88, b"\x0f\xa1go"))
    one.sock.close()
    line.close()


def stays_home():
    crowd = Crowd(ngs[1], 2, "/room?topics=home:a")
    line = Line(ngs[0])
    line.ask("/push?topic=home:a&data=x")
    line.ask("/push?data=z")
    for each in crowds:
        heard(each, ["z"])
    line.close()
    equal([one.frames() for one in crowd], [[] for _ in crowd])
    for one in crowd:
        one.sock.close()
    equal(metric(ngs[1], 'broker_topics{state="wanted"}'), 1)


def killed():
    global redis
    redis.kill()
    for ng in ngs:
        await_(lambda: metric(ng, "broker_connected") == 0, "the loss is seen")
    line = Line(ngs[0])
    line.ask("/push?data=q1")
    line.ask("/push?data=q2")
    heard(crowds[0], ["q1", "q2"])
    redis = Server()
    line.close()
    # What waited was sent when Redis was there again, to whoever was there already.
    for ng in ngs:
        level(ng, 1)
    time.sleep(0.3)
    for crowd in crowds[1:]:
        for one in crowd:
            one.take()
            assert [p for _, p in one.frames()] in ([], [b"q1"], [b"q2"], [b"q1", b"q2"])
    assert all(metric(ng, "broker_reconnects_total") >= 1 for ng in ngs)
    all_hear()


def clients_killed():
    for kind in "normal", "pubsub":
        redis.ask("CLIENT", "KILL", "TYPE", kind)
    all_hear_again()


def stopped():
    redis.child.send_signal(signal.SIGSTOP)
    try:
        for ng in ngs:
            await_(lambda: metric(ng, "broker_connected") == 0, "the silence is found")
    finally:
        redis.child.send_signal(signal.SIGCONT)
    all_hear_again()


def all_hear_again():
    """As all_hear, once the new connections are there: gauges may be those of the old ones."""
    def together():
        line = Line(ngs[0])
        line.ask("/push?data=e")
        line.close()
        time.sleep(0.05)
        got = []
        for crowd in crowds:
            for one in crowd:
                one.take()
                got.append(bool(one.frames()))
        return all(got)
    await_(together, "all hear")
    drain()
    all_hear()


def drain():
    time.sleep(0.3)
    for crowd in crowds:
        for one in crowd:
            one.take()
            one.frames()


def wrong_password():
    redis.ask("CONFIG", "SET", "requirepass", "another")
    redis.word = "another"
    redis.ask("CLIENT", "KILL", "TYPE", "pubsub")
    for ng in ngs:
        await_(lambda: metric(ng, 'broker_errors_total{kind="refused"}') >= 2, "refused")
        assert WORD not in ng.read_log() and "another" not in ng.read_log()
    redis.ask("CONFIG", "SET", "requirepass", WORD)
    redis.word = WORD
    all_hear_again()


def garbage():
    """Something else listens where Redis was."""
    global redis
    redis.kill()
    with socket.create_server(("127.0.0.1", DOOR)) as door:
        door.settimeout(PATIENCE)
        answers = itertools.cycle((
            b"HTTP/1.1 400 Bad Request\r\n\r\n", random.randbytes(3000),
            b">3\r\n$7\r\nmessage\r\n$6\r\nws:all\r\n$536870912\r\n" + bytes(100000)))
        while not all(metric(ng, 'broker_errors_total{kind="protocol"}') >= 2 for ng in ngs):
            peer, _ = door.accept()
            peer.settimeout(0.2)
            try:
                peer.sendall(next(answers))
                while peer.recv(65536):
                    pass
            except OSError:
                pass
            peer.close()
    redis = Server()
    all_hear_again()


def gateway_killed():
    """Each worker in turn: one of them had the connection."""
    ng = ngs[1]
    gaps = metric(ng, "broker_gaps_total")
    for pid in ng.workers():
        os.kill(pid, signal.SIGKILL)
        await_(lambda: len(ng.workers()) == WORKERS and pid not in ng.workers(), "another worker")
        for one in [one for one in crowds[1] if one.pid == pid]:
            crowds[1].selector.unregister(one.sock)
            crowds[1].remove(one)
            one.sock.close()
        crowds[1].add(ng, 4, "/room")
        all_hear_again()
    assert metric(ng, "broker_gaps_total") > gaps


def reloaded():
    """While others publish: what is heard is in order and comes once, and afterwards all is well."""
    ng, end = ngs[2], threading.Event()
    numbers, gaps = [], metric(ngs[2], "broker_gaps_total")
    all_hear()

    def publishes():
        line = Line(ngs[0])
        n = 0
        while not end.is_set():
            n += 1
            line.ask(f"/push?data=r{n:06d}")
            time.sleep(0.002)
        numbers.append(n)
        line.close()
    # Connections that old workers keep, and a publisher of this machine.
    stay = Crowd(ng, 4, "/stay", hello=False)
    own = []

    def publishes_here():
        n = 0
        while not end.is_set():
            n += 1
            ng.get(f"/push?data=o{n:06d}")
            time.sleep(0.01)
        own.append(n)
    threads = [threading.Thread(target=body) for body in (publishes, publishes_here)]
    [thread.start() for thread in threads]
    try:
        for _ in range(3):
            old = set(ng.workers())
            ng.signal("HUP")
            await_(lambda: len(ng.workers()) == WORKERS and not old & set(ng.workers()), "reload")
            level_of_new = lambda: metric(ng, "broker_connected") == 1
            await_(level_of_new, "a gateway of the new generation")
    finally:
        end.set()
        [thread.join() for thread in threads]
    for m, crowd in enumerate(crowds):
        if m == 2:
            crowd = stay  # the others were closed by the reload, with 1001
        last = f"r{numbers[0]:06d}"
        got = {id(one): [] for one in crowd}

        def done(one):
            got[id(one)] += [payload.decode() for _, payload in one.frames()]
            return last in got[id(one)] and f"o{own[0]:06d}" in got[id(one)]
        crowd.until(done, what=last)
        for one in crowd:
            for letter, count in ("r", numbers[0]), ("o", own[0]):
                equal([text for text in got[id(one)] if text[0] == letter],
                      [f"{letter}{n:06d}" for n in range(1, count + 1)])
    equal(metric(ng, "broker_gaps_total"), gaps)
    stay.close()
    for one in list(crowds[2]):
        one.sock.close()
    crowds[2] = Crowd(ng, 4)
    all_hear_again()


def refused():
    ng = Nginx(server="", number=9)
    for lines, text in (
            ("server http://a;", 'unknown broker scheme "http" in "http://a"'),
            ("server rediss://a; tls_trusted_certificate none.pem;", 'cannot load authorities "[^"]*/none.pem"'),
            ("server redis://a; tls_name b;", 'begin with "tls_" for a server without tls'),
            ("server rediss://a; tls_verify maybe;", 'invalid value "maybe"'),
            ("server redis+sentinel://a;", "no name of a master"),
            ("server redis+cluster://a/1;", "invalid database in the address"),
            ("server redis+cluster://a,;", "no host in the address"),
            ("server redis+cluster://a; prefix '{x}:';", 'a brace in the prefix of broker "main"'),
            ("server redis://me:word@127.0.0.1;", "a user or password in the address"),
            ("server redis://127.0.0.1:99999;", "invalid port"),
            ("user a;", 'no "server" in broker "main"'),
            ("server unix:/r; password_file none;", 'cannot read "password_file" "[^"]*/none": No such file'),
            ("server unix:/r; password_env NO_SUCH;", "no password in the environment variable"),
            ("server unix:/r; queue 1m retry=x;", 'invalid value "x"'),
            ("server unix:/r; prefix a b;", "invalid number of arguments"),
            ("server unix:/r; server unix:/s;", '"server" is duplicate'),
            ("server unix:/r; what 1;", 'unknown directive "what"')):
        ng.write(http="websocket_broker main {\n" + lines + "\n}\n")
        done = subprocess.run(ng.command("-t"), capture_output=True, text=True)
        assert done.returncode and re.search(text + r".* in .*nginx.conf:\d+", done.stderr), done.stderr
    for http, text in (
            ("websocket_broker a { server unix:/r; } websocket_broker a { server unix:/r; }",
             'duplicate broker "a"'),
            ("".join("websocket_broker b%d { server unix:/r; } " % n for n in range(9)),
             "more than 8 brokers"),
            ("websocket_broker a { server unix:/r; } websocket_topic a history=5 bytes=1m;",
             '"bytes" with a broker'),
            ("websocket_topic a broker=b;", 'unknown broker "b"')):
        ng.write(http=http)
        done = subprocess.run(ng.command("-t"), capture_output=True, text=True)
        assert done.returncode and text in done.stderr, done.stderr


try:
    tap.attempt("what is wrong in a block is told with its line", refused)
    for ng in ngs:
        ng.start()
    crowds = [Crowd(ng, 4) for ng in ngs]
    for name, body in (
            ("what each machine publishes all hear, in order and once", attempt),
            ("a connection of another machine is closed by its id", close_far),
            ("a topic with broker=off stays on its machine", stays_home),
            ("Redis is killed and comes back empty", killed),
            ("its clients are killed", clients_killed),
            ("Redis is stopped: the probe finds it", stopped),
            ("the password is wrong, and right again", wrong_password),
            ("something else is there", garbage),
            ("a worker is killed, whichever had the connection", gateway_killed),
            ("a reload while messages come", reloaded)):
        if os.environ.get("ONLY", name) in name:
            tap.attempt(name, body)

    def end():
        for ng in ngs:
            equal([line for line in ng.loud(LOST) if not KILLED.search(line)], [])
            equal(ng.stop(), 0)
            equal(ng.loud(LOST), [])
    tap.attempt("nothing else is logged, and nginx ends without a word", end)
finally:
    for ng in ngs:
        ng.kill()
    redis.kill()
tap.done()
