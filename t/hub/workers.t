BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# The hub over four workers: pushed from every phase of every worker to the subscribers of all, by
# topic and by id; scopes; numbers over all workers; a thousand subscribers and four publishers at
# once.
import json
import re
import time
from collections import Counter

from lib.crowd import WORKERS, Crowd, Line, empty, lines, room
from lib.live import VALGRIND, Cases, await_, equal, run
from lib.peer import BINARY_FRAME, CLOSE, TEXT, frame

case = Cases()
room(case)
case.server += "location /publish/ { websocket_publish room; }\n"
MANY, EACH = (40, 100) if VALGRIND else (1000, 2500)


@case("from a location, a timer, the log phase, a header filter, and another connection")
def _(ng):
    crowd = Crowd(ng, 8 * WORKERS)
    for pid, line in lines(ng).items():
        for phase in "push", "timer", "log", "filter":
            line.ask(f"/{phase}?data={phase}-{pid}")
            equal(set(crowd.next()), {(TEXT, f"{phase}-{pid}".encode())})
        line.close()
    for pid, members in crowd.by_worker().items():
        members[0].send(frame(TEXT, f"publish from a connection of {pid}"))
        equal(set(crowd.next()), {(TEXT, f"from a connection of {pid}".encode())})
    crowd.close()
    empty(ng)


@case("by id: sent and closed from any worker; gone is known to be gone")
def _(ng):
    crowd = Crowd(ng, 8 * WORKERS)
    to = {pid: members[0] for pid, members in crowd.by_worker().items()}
    all_lines = lines(ng)
    for line in all_lines.values():
        for pid, one in to.items():
            equal(line.ask(f"/send?to={one.id}&data={line.pid}-{pid}"), "true")
            crowd.until(lambda s: s is not one or len(s.data) > 4)
            equal(one.frames(), [(TEXT, f"{line.pid}-{pid}".encode())])
    for line, one in zip(all_lines.values(), list(to.values())[1:] + list(to.values())[:1]):
        equal(line.ask(f"/close?to={one.id}"), "true")
        crowd.until(lambda s: s is not one or s.over)
        equal(one.frames(), [(CLOSE, b"\x0f\xa1go")])
        one.sock.close()
    assert not any(one.data for one in crowd), "a message for one connection came to others"
    line = all_lines.popitem()[1]
    # Its worker is alive: only that one knows. Nothing comes of it.
    assert line.ask(f"/send?to={one.id}&data=x") in ("true", "nilno such connection")
    equal(line.ask("/send?to=003ffff0" + "0" * 24 + "&data=x"), "nilno such connection")
    equal(line.ask("/send?to=" + "0" * 31 + "&data=x"), "nilinvalid connection id")
    for each in [line, *all_lines.values()]:
        each.close()
    crowd.close()


@case("binary, all but one, and each scope")
def _(ng):
    crowd = Crowd(ng, 8 * WORKERS)
    line, *others = lines(ng).values()
    here = [one for one in crowd if one.pid == line.pid]
    line.ask("/push?data=%00%ff&type=binary")
    equal(set(crowd.next()), {(BINARY_FRAME, b"\0\xff")})

    odd = next(one for one in crowd if one.pid != line.pid or WORKERS == 1)
    line.ask(f"/push?data=most&except={odd.id}")
    line.ask("/push?data=all&scope=cluster")
    for one, got in zip(crowd, crowd.next()):
        equal(got, (TEXT, b"all" if one is odd else b"most"))
    equal(sum(got == (TEXT, b"all") for got in crowd_rest(crowd, odd)), len(crowd) - 1)

    reached, _ = line.ask("/push?data=here&scope=worker").split()
    equal(int(reached), len(here), "of this worker")
    reached, _ = line.ask("/push?data=everywhere&scope=node").split()
    equal(int(reached), len(crowd), "of all workers")
    for one, got in zip(crowd, crowd.next()):
        equal(got, (TEXT, b"here" if one in here else b"everywhere"))
    for each in [line, *others]:
        each.close()
    crowd.close()


def crowd_rest(crowd, but):
    crowd.until(lambda s: s is but or len(s.data) >= 5)
    return [one.frame() for one in crowd if one is not but]


@case("count and the subscribers of a publication are over all workers, at once and afterwards")
def _(ng):
    crowd, other = Crowd(ng, 30), Crowd(ng, 10, "/room?topics=room,other")
    all_lines = lines(ng)
    of = [len(crowd) + len(other), len(crowd) + len(other), len(other), 0]
    for line in all_lines.values():
        equal([int(line.ask(f"/count{q}"))
               for q in ("", "?topic=room", "?topic=other", "?topic=none")], of)
        answer = json.loads(line.ask("/publish/", "POST", "hello"))
        equal(answer["subscribers"], of[0])
        equal({*crowd.next(), *other.next()}, {(TEXT, b"hello")})
        status = line.info()
        equal(len(status["workers"]), WORKERS)
        equal(sum(worker["open"] for worker in status["workers"]), of[0])
        equal(status["subscriptions"], of[0] + of[2])
    for one in other:
        one.send(frame(CLOSE, b"\x03\xe8"))
    other.until(lambda s: s.over)
    for line in all_lines.values():
        await_(lambda: [int(line.ask(f"/count{q}")) for q in ("", "?topic=room", "?topic=other")]
               == [len(crowd), len(crowd), 0], "the others are gone")
        line.close()
    crowd.close()
    other.close()
    empty(ng)


@case(f"{MANY} subscribers, {4 * EACH} messages of 4 publishers at once: all, in order, none twice")
def _(ng):
    crowd = Crowd(ng, MANY)
    spread = Counter(one.pid for one in crowd)
    publishers = list(lines(ng).values())
    publishers += [Line(ng) for _ in range(4 - len(publishers))]
    before = publishers[0].info()
    began = time.monotonic()
    for who, line in zip("abcd", publishers):
        line.start(f"/flood?from={who}&n={EACH}")
    for line in publishers:
        line.end()
    size = 4 * EACH * 10
    crowd.until(lambda s: len(s.data) >= size)
    took = time.monotonic() - began
    # In one worker all subscribers are sent the same, so there are few streams to look through.
    streams = Counter(bytes(one.data) for one in crowd)
    for stream in streams:
        equal(len(stream), size)
        equal(stream[0::10] + stream[1::10], b"\x81" * (4 * EACH) + b"\x08" * (4 * EACH))
        text = b" ".join(stream[at + 2:at + 10] for at in range(0, size, 10)).decode()
        for who in "abcd":
            equal([int(n) for n in re.findall(who + r"(\d{7})", text)], list(range(1, EACH + 1)))
    after = publishers[0].info()
    equal(after["published"] - before["published"], 4 * EACH)
    equal(after["delivered"] - before["delivered"], 4 * EACH * MANY)
    equal((after["ring_overruns"], after["slow_consumers"]["dropped"]), (0, 0))
    print(f"# {MANY * 4 * EACH} deliveries in {took:.1f} s, {dict(spread)}, {len(streams)} streams")
    for line in publishers:
        line.close()
    crowd.close()
    empty(ng)


run(case, workers=WORKERS, listen="reuseport")
