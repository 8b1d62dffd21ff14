BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# The hub over reloads: a stream goes on for the subscribers of both generations, the zone and its
# numbers stay, connections are told and spread, old workers end. One nginx a case.
import os
import re
import signal
import struct
import time

from lib.crowd import WORKERS, Crowd, Line, lines, room
from lib.live import VALGRIND, Cases, Nginx, Tap, await_, equal
from lib.peer import CLOSE, TEXT, Peer, frame, head

tap = Tap()
case = Cases()
SLOW = 8 if VALGRIND else 1
IDLE = 50 if VALGRIND else 1000
EACH = 300 if VALGRIND else 3000
room(case, f"websocket_shutdown_close 1001 bye over={1000 * SLOW}ms;")
IDLER = """
    local websocket = require "resty.websocket"
    local ws = assert(websocket.accept())
    assert(ws:subscribe("room"))
    ws:send(ngx.worker.pid() .. " " .. ws.id)
    ws:recv()
"""
case.handler("/idle", IDLER)
case.handler("/stays", IDLER, "websocket_shutdown_close off;")
case.handler("/half-a-minute", IDLER, "websocket_shutdown_close 1012 later over=30s;")
case.handler("/late", """
    ngx.req.set_uri_args("id=1")
    live.take_signal()
    local ws = assert(require("resty.websocket").accept())
    ws:recv()
""")
WAIT = """access_by_lua_block {
    ngx.req.set_uri_args("id=%d")
    require("live").take_signal()
}"""
case.server += f"""
    location = /late-alone {{ {WAIT % 2} websocket_subscribe room; }}
    location = /late-stays {{
        {WAIT % 3}
        websocket_subscribe room;
        websocket_shutdown_close off;
    }}
"""
case.server += """
    location = /alone { websocket_subscribe room; }
    location = /alone-spread {
        websocket_subscribe room;
        websocket_shutdown_close 1001 bye over=400ms;
    }
    location = /alone-beats {
        websocket_subscribe room;
        websocket_shutdown_close off;
        websocket_ping_interval 20ms;
        websocket_ping_timeout 60s;
    }
    location = /alone-stays { websocket_subscribe room; websocket_shutdown_close off; }
"""


def nginx(name, logs=None, killed=None, **sections):
    """Decorator: a case with an nginx of its own, which the case ends. `logs` matches lines above
    notice that it causes, `killed` stands in the master's alert about a worker it kills."""
    def run(body):
        def attempt():
            ng = Nginx(**{"server": case.server, "workers": WORKERS, "listen": "reuseport",
                          **sections})
            try:
                ng.start()
                body(ng)
                loud = [line for line in ng.loud(logs) if not (killed and killed in line)]
                assert not loud, "nginx logged:\n" + "\n".join(loud[:10])
                found = ng.valgrind_findings()
                assert not found, "valgrind:\n" + "\n".join(found[:200])
            finally:
                ng.kill()
        only = os.environ.get("ONLY")
        if not only or only in name:
            tap.attempt(name, attempt)
    return run


def reload(ng):
    """Until the new generation serves; the workers of before."""
    old = ng.workers()
    ng.signal("HUP")
    await_(lambda: len(ng.workers()) == ng.sections["workers"]
           and not set(ng.workers()) & set(old), "new workers")
    return old


def gone(pids):
    return not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def numbers(frames, who):
    return [int(p[1:8]) for first, p in frames if first == TEXT and p[:1] == who.encode()]


@nginx("a reload in the middle of the stream: nobody of the old generation misses a message")
def _(ng):
    told, stay = Crowd(ng, 8 * WORKERS), Crowd(ng, 4 * WORKERS, "/stays")
    old_lines = list(lines(ng).values())
    for who, line in zip("abcd", old_lines):
        line.start(f"/flood?from={who}&n={EACH}&burst=10")
    stay.until(lambda s: len(s.data) > 2000)
    old = reload(ng)
    fresh = Crowd(ng, 4 * WORKERS, "/stays")
    new_lines = list(lines(ng).values())
    assert not {line.pid for line in new_lines} & set(old)
    for who, line in zip("efgh", new_lines):
        line.start(f"/flood?from={who}&n={EACH // 3}&burst=10")
    told.until(lambda s: s.over, what="the old connections end")
    for line in old_lines + new_lines:
        line.end()
        line.close()
    line = Line(ng)
    for one in told:
        one.sock.close()
    await_(lambda: line.ask("/count?topic=room") == str(len(stay) + len(fresh)), "those who stay")
    line.ask("/push?data=the-end")
    mark = b"\x81\x07the-end"
    stay.until(lambda s: s.data.endswith(mark))
    fresh.until(lambda s: s.data.endswith(mark))
    cut = set()
    for one in told:
        *frames, last = one.frames()
        equal(last, (CLOSE, b"\x03\xe9bye"))
        for who in "abcdefgh":
            got = numbers(frames, who)
            equal(got, list(range(1, len(got) + 1)), f"{who}, until it was closed")
        cut.add(len(frames))
    assert len(cut) > 2 or VALGRIND, f"all were closed at one time: {cut}"
    all_of = {who: EACH for who in "abcd"[:len(old_lines)]}
    all_of.update({who: EACH // 3 for who in "efgh"[:len(new_lines)]})
    for one in stay:
        frames = one.frames()
        for who, n in all_of.items():
            equal(numbers(frames, who), list(range(1, n + 1)), who)
    for one in fresh:
        frames = one.frames()
        for who, n in all_of.items():
            got = numbers(frames, who)
            equal(got, list(range(n - len(got) + 1, n + 1)), f"{who}, since it came")
        equal(set(numbers(frames, "e")), set(range(1, EACH // 3 + 1)))
    for crowd in told, stay, fresh:
        crowd.close()
    await_(lambda: gone(old), "the old workers end after their last connections")
    line.close()
    equal(ng.stop(), 0)


@nginx("the zone is used again: numbers go on, ids hold across generations")
def _(ng):
    crowd = Crowd(ng, 2 * WORKERS, "/stays")
    line = Line(ng)
    line.ask("/push?data=one")
    before = line.info()
    line.close()
    reload(ng)
    fresh = Crowd(ng, 2 * WORKERS, "/stays")
    line = Line(ng)
    after = line.info()
    for name in "published", "delivered", "connections_accepted":
        assert after[name] >= before[name] > 0, name
    equal(after["connections_open"], len(crowd) + len(fresh))
    equal(line.ask("/count"), str(len(crowd) + len(fresh)))
    equal(len(after["workers"]), 2 * WORKERS)
    for one in crowd[0], fresh[0]:
        equal(line.ask(f"/send?to={one.id}&data=direct"), "true")
    crowd.until(lambda s: s is not crowd[0] or s.data[-6:] == b"direct")
    fresh.until(lambda s: s is not fresh[0] or s.data[-6:] == b"direct")
    equal(line.ask(f"/close?to={crowd[0].id}"), "true")
    crowd.until(lambda s: s is not crowd[0] or s.over)
    line.close()
    crowd.close()
    fresh.close()
    equal(ng.stop(), 0)


@nginx(f"an old worker with {IDLE} idle connections tells all of them and ends at once", workers=1,
       events="worker_connections 2048;")
def _(ng):
    half = IDLE // 2
    crowd = Crowd(ng, half, "/idle")
    alone = Crowd(ng, half, "/alone", hello=False)
    began = time.monotonic()
    old = reload(ng)
    for one in [*crowd, *alone]:
        one.sock.settimeout(10 * SLOW)
        while one.take():
            pass
        one.sock.close()
        equal(one.frames(), [(CLOSE, b"\x03\xe9server is shutting down")])
    last = time.monotonic()
    await_(lambda: gone(old), "the old worker ends")
    took = time.monotonic() - last
    assert took < 1 * SLOW, f"it ended {took:.2f} s after its last connection"
    assert last - began < 10 * SLOW, f"{last - began:.2f} s"
    equal(ng.stop(), 0)


@nginx("websocket_shutdown_close off: they stay until worker_shutdown_timeout, and hear nothing",
       main=f"worker_shutdown_timeout {700 * SLOW}ms;")
def _(ng):
    crowd = Crowd(ng, WORKERS, "/stays")
    alone = Crowd(ng, WORKERS, "/alone-stays", hello=False)
    began = time.monotonic()
    old = reload(ng)
    line = Line(ng)
    line.ask("/push?data=still-here")
    line.close()
    equal(set(crowd.next()) | set(alone.next()), {(TEXT, b"still-here")})
    crowd.until(lambda s: s.over)
    alone.until(lambda s: s.over)
    took = time.monotonic() - began
    assert 0.6 * SLOW < took < 3 * SLOW, f"{took:.2f} s"
    equal({bytes(one.data) for one in [*crowd, *alone]}, {b""}, "no close frame")
    crowd.close()
    alone.close()
    await_(lambda: gone(old), "the old workers end")
    equal(ng.stop(), 0)


@nginx("websocket_shutdown_close off without a handler: the old worker stays for them", workers=1)
def _(ng):
    plain = Crowd(ng, 3, "/alone-stays", hello=False)
    beating = Crowd(ng, 3, "/alone-beats", hello=False)
    old = reload(ng)
    line = Line(ng)
    # A worker that quits looks for timers in every turn of its loop: several turns.
    for n in range(5):
        line.ask(f"/push?data=still-{n}")
        equal(set(plain.next()), {(TEXT, b"still-%d" % n)})
        beating.until(lambda s: b"still-%d" % n in s.data)
    beating.until(lambda s: b"\x89\x00" in s.data, what="a ping")
    assert not gone(old)
    for one in beating:
        one.send(frame(CLOSE, b"\x03\xe8"))
    beating.until(lambda s: s.over)
    beating.close()
    line.ask("/push?data=only-you")
    equal(set(plain.next()), {(TEXT, b"only-you")})
    line.close()
    plain.close()
    await_(lambda: gone(old), "the old worker ends with the last of them")
    equal(ng.stop(), 0)


@nginx("connections that are upgraded when their worker has been told already", workers=1)
def _(ng):
    peers = [Peer(ng, request=head(path)) for path in ("/late", "/late-alone", "/late-stays")]
    await_(lambda: ng.connections() == 3, "they wait")
    old = reload(ng)
    for id in 1, 2, 3:
        ng.get(f"/live/signal?id={id}")
    for peer in peers:
        assert peer.until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
    for peer in peers[:2]:
        equal(peer.frame(), (CLOSE, b"\x03\xe9server is shutting down"))
        equal(peer.rest(), b"")
        peer.close()
    line = Line(ng)
    await_(lambda: line.ask("/count?topic=room") == "1", "the third stays")
    line.ask("/push?data=you")
    equal(peers[2].frame(), (TEXT, b"you"))
    line.close()
    assert not gone(old)
    peers[2].close()
    await_(lambda: gone(old), "the old worker ends")
    equal(ng.stop(), 0)


@nginx("connections without a handler that talk on while they wait to be told", workers=1)
def _(ng):
    crowd = Crowd(ng, 20, "/alone-spread", hello=False)
    old = reload(ng)
    for _ in range(3):
        for one in crowd:
            one.send(frame(TEXT, "talk"))
    crowd.until(lambda s: s.over)
    equal({tuple(one.frames()) for one in crowd}, {((CLOSE, b"\x03\xe9bye"),)})
    crowd.close()
    await_(lambda: gone(old), "the old worker ends")
    equal(ng.stop(), 0)


@nginx("over=30s: few are told in the first seconds, one by one")
def _(ng):
    crowd = Crowd(ng, 20 if VALGRIND else 300, "/half-a-minute")
    ng.signal("HUP")
    told, limit = {}, time.monotonic() + 2
    while time.monotonic() < limit:
        for key, _ in crowd.selector.select(limit - time.monotonic()):
            if not key.data.take():
                crowd.selector.unregister(key.data.sock)
            if key.data.data:
                told.setdefault(id(key.data), time.monotonic())
    for one in crowd:
        equal(one.frames(), [(CLOSE, b"\x03\xf4later")] * (id(one) in told))
    # 300 in thirty seconds are twenty in two; none is as likely as one in five hundred million.
    assert (VALGRIND or told) and len(told) < len(crowd) / 3, f"{len(told)} of {len(crowd)}"
    crowd.close()
    equal(ng.stop(), 0)


@nginx("another size of the zone: a new one for the new workers, the old ones finish in theirs")
def _(ng):
    crowd = Crowd(ng, 2 * WORKERS, "/stays")
    old_line = Line(ng)
    ng.write(http="websocket_zone 2m;")
    old = reload(ng)
    fresh = Crowd(ng, 2 * WORKERS, "/stays")
    new_line = Line(ng)
    for _ in range(20):
        new_line.ask("/push?data=new")
        equal(set(fresh.next()), {(TEXT, b"new")})
    equal(new_line.ask("/count?topic=room"), str(len(fresh)))
    equal(bytes(crowd[0].data), b"")
    equal(len(new_line.info()["workers"]), WORKERS)
    for each in old_line, new_line:
        each.close()
    crowd.close()
    await_(lambda: gone(old), "the old workers end")
    fresh.close()
    equal(ng.stop(), 0)


@nginx("as many workers as there are rows by default, and some more", workers=1 if VALGRIND else 68)
def _(ng):
    count = ng.sections["workers"]
    line = Line(ng)
    await_(lambda: len(line.info()["workers"]) == count, "a row for each")
    crowd = Crowd(ng, count, hello=False)
    await_(lambda: line.ask("/count?topic=room") == str(len(crowd)), "all are in")
    line.ask("/push?data=to-all")
    crowd.until(lambda s: s.data.endswith(b"\x81\x06to-all"))
    line.close()
    crowd.close()
    equal(ng.stop(), 0)


@nginx("more workers than rows: each serves its own, and takes a row that is free later",
       workers=1, logs="$^", killed="more workers than the zone has rows")
def _(ng):
    if VALGRIND:
        return
    # The zone was made for one worker, with 64 rows.
    ng.write(workers=66)
    reload(ng)
    line = Line(ng)
    crowd = Crowd(ng, 66, "/stays")
    await_(lambda: len(line.info()["workers"]) == 64, "all rows are taken")
    seated = {worker["pid"] for worker in line.info()["workers"]}
    line.close()
    rest = [one for one in crowd if one.pid not in seated]
    equal(len({one.pid for one in rest}), 2)
    pid = rest[0].pid
    own = [one for one in crowd if one.pid == pid]
    talker = Line(ng)
    while talker.pid != pid:
        talker.close()
        talker = Line(ng)
    equal(talker.ask("/push?data=own&scope=worker"), f"{len(own)} 0")
    equal(talker.ask("/push?data=own"), "nil more workers than the zone has rows")
    crowd.until(lambda s: s not in own or s.data == b"\x81\x03own" * 2)
    equal(talker.ask("/count?topic=room"), str(len(own)))
    for one in own:
        one.data.clear()
    talker.close()

    ng.write(workers=2)
    reload(ng)
    for one in crowd:
        if one not in own:
            one.sock.close()
    line = Line(ng)
    await_(lambda: line.ask("/count?topic=room") == str(len(own)), "it has a row, and is heard of")
    await_(lambda: {worker["pid"] for worker in line.info()["workers"]} == {pid, *ng.workers()},
           "the new workers have rows too")
    line.ask("/push?data=hello")
    crowd.until(lambda s: s not in own or s.data == b"\x81\x05hello")
    line.close()
    for one in own:
        one.sock.close()
    equal(ng.stop(), 0)


@nginx("a configuration without an http block in between")
def _(ng):
    crowd = Crowd(ng, 2 * WORKERS, "/stays")
    with open(ng.conf) as f:
        whole = f.read()
    with open(ng.conf, "w") as f:
        f.write(whole[:whole.index("http {")])
    old = reload(ng)
    with open(ng.conf, "w") as f:
        f.write(whole)
    without = reload(ng)
    await_(lambda: gone(without), "workers without http have nothing to wait for")
    fresh = Crowd(ng, 2 * WORKERS)
    for line in lines(ng).values():
        line.ask("/push?data=again")
        equal(set(fresh.next()), {(TEXT, b"again")})
        line.close()
    crowd.close()
    fresh.close()
    await_(lambda: gone(old), "the old workers end")
    equal(ng.stop(), 0)


FAILED = r"bind\(\) to 192\.0\.2\.1:\d+ failed"


@nginx("a reload that fails leaves the zone alone: workers that die later are replaced", FAILED,
       killed="exited on signal 9")
def _(ng):
    crowd = Crowd(ng, 2 * WORKERS)
    workers = ng.workers()
    # The zone is made before the listening sockets are; this address is nobody's (RFC 5737).
    ng.write(http="websocket_zone 16m;", prelude="listen 192.0.2.1:1;")
    ng.signal("HUP")
    await_(lambda: re.search(FAILED, ng.read_log()), "nginx refuses")
    equal(ng.workers(), workers)
    victim = crowd[0].pid
    os.kill(victim, signal.SIGKILL)
    mine = [one for one in crowd if one.pid == victim]
    crowd.until(lambda s: s not in mine or s.over)
    await_(lambda: len(ng.workers()) == WORKERS and victim not in ng.workers(), "another worker")
    new = Crowd(ng, 2 * WORKERS)
    rest = [one for one in crowd if one not in mine]
    for line in lines(ng).values():
        equal(line.ask("/count?topic=room"), str(len(rest) + len(new)))
        line.ask(f"/push?data=from-{line.pid}")
        equal(set(new.next()), {(TEXT, f"from-{line.pid}".encode())})
        line.close()
    crowd.close()
    new.close()
    ng.write(http="", prelude="")
    equal(ng.stop(), 0)


tap.done()
