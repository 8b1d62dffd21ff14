BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# One order for everybody: in each topic all subscribers of all workers see the same messages in the
# same order, and who publishes after an answer comes after it, whichever workers take the two. Also
# where a worker is far behind the others, and for what goes to one worker or one connection alone.
import threading

from lib.crowd import WORKERS, Crowd, Line, empty, lines, room
from lib.live import VALGRIND, Cases, equal, run
from lib.peer import TEXT, frame

case = Cases()
room(case)
case.server += """
    location /publish/ { websocket_publish room; }
    location /ws { websocket_subscribe room; websocket_publish_from_client on; }
"""
# Stays on the processor until another worker says so, then publishes in several ways at once.
case.handler("/busy", """
    local websocket = require "resty.websocket"
    local flag = ngx.shared.live
    flag:set("busy", true)
    while flag:get("busy") do end
    assert(websocket.publish("room", "mine"))
    assert(websocket.publish("room", "alone", { scope = "worker" }))
    assert(websocket.send(ngx.var.arg_to, "yours"))
    assert(websocket.publish("room", "last"))
""")
case.handler("/idle", 'ngx.shared.live:delete("busy")')
case.handler("/is-busy", 'ngx.print(tostring(ngx.shared.live:get("busy")))')
ROUNDS = 100 if VALGRIND else 1500


def received(one):
    return [payload.decode() for first, payload in one.frames() if first == TEXT]


@case("1, 2, 3, each after the answer to the one before, to another worker each, under load")
def _(ng):
    crowd = Crowd(ng, 6 * WORKERS)
    publishers = list(lines(ng).values())
    floods = list(lines(ng).values())
    for n, line in enumerate(floods):
        line.start(f"/flood?from={'abcd'[n]}&n={4 * ROUNDS}&burst=20")
    for n in range(ROUNDS):
        publishers[n % len(publishers)].ask("/publish/", "POST", f"z{n:07d}")
    for line in floods:
        line.end()
    publishers[0].ask("/publish/", "POST", "z-the-end")
    crowd.until(lambda s: s.data.endswith(b"z-the-end"), patience=60)
    orders = [received(one) for one in crowd]
    for order in orders:
        equal([text for text in order if text[0] == "z"][:-1],
              [f"z{n:07d}" for n in range(ROUNDS)], "after the answer")
    for order in orders[1:]:
        equal(order == orders[0], True, "one order for everybody")
    equal(len(orders[0]), ROUNDS + 1 + 4 * ROUNDS * WORKERS)
    for line in publishers + floods:
        line.close()
    crowd.close()
    empty(ng)


@case("all workers at once: by HTTP, from handlers, timers and clients")
def _(ng):
    crowd = Crowd(ng, 6 * WORKERS)
    talkers = Crowd(ng, 2 * WORKERS, "/ws", hello=False)
    all_lines = lines(ng)

    def publish(line):
        for n in range(ROUNDS // 10):
            line.ask("/publish/", "POST", f"p{line.pid}-{n}")
            line.ask(f"/timer?data=t{line.pid}-{n}")
            line.ask(f"/push?data=l{line.pid}-{n}")
    threads = [threading.Thread(target=publish, args=(line,)) for line in all_lines.values()]
    for thread in threads:
        thread.start()
    for n in range(ROUNDS // 10):
        for m, talker in enumerate(talkers):
            talker.send(frame(TEXT, f"c{m}-{n}"))
    for thread in threads:
        thread.join()
    count = 3 * (ROUNDS // 10) * WORKERS + (ROUNDS // 10) * len(talkers)
    orders = [[] for _ in crowd]

    def done(s):
        order = orders[crowd.index(s)]
        order += received(s)
        return len(order) >= count
    crowd.until(done, patience=60)
    for order in orders[1:]:
        equal(order == orders[0], True, "one order for everybody")
    equal(len(set(orders[0])), count)
    for who in {text.rpartition("-")[0] for text in orders[0]}:
        numbers = [int(text.rpartition("-")[2]) for text in orders[0] if text.startswith(f"{who}-")]
        equal(numbers, list(range(ROUNDS // 10)), who)
    for line in all_lines.values():
        line.close()
    talkers.close()
    crowd.close()
    empty(ng)


@case("a worker that is far behind hands its own message out in its place", skip_valgrind=True)
def _(ng):
    crowd = Crowd(ng, 2 * WORKERS)
    (busy, line), (_, publisher), *others = lines(ng).items()
    one = next(s for s in crowd if s.pid == busy)
    line.start(f"/busy?to={one.id}")
    while publisher.ask("/is-busy") != "true":
        pass
    # Much more than a worker reads in one turn.
    publisher.ask("/flood?from=o&n=3000&burst=1000")
    publisher.ask("/idle")
    line.end()
    crowd.until(lambda s: s.data.endswith(b"last"))
    before = [f"o{n:07d}" for n in range(1, 3001)]
    for s in crowd:
        here = ["alone"] * (s.pid == busy) + ["yours"] * (s is one)
        equal(received(s), before + ["mine", *here, "last"])
    for each in [line, publisher] + [line for _, line in others]:
        each.close()
    crowd.close()
    empty(ng)


run(case, http="websocket_zone 64m;", workers=WORKERS, listen="reuseport")
