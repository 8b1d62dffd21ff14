BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Who is there, as subscribers in JSON format are told: the members after subscribing, whom the list
# names and whom it only counts, who comes and goes; slow readers, killed workers, reloads.
import json
import os
import signal

from lib.crowd import WORKERS, Line, empty, lines, room
from lib.live import VALGRIND, Cases, Nginx, Tap, await_, equal, run_on
from lib.peer import TEXT
from lib.watcher import LOCATIONS, Watcher, join

tap = Tap()
case = Cases()
room(case)
HTTP = """
    websocket_zone 16m;
    websocket_topic here:* presence join_leave;
    websocket_topic here:kept* presence join_leave history=100;
    websocket_topic quiet:* presence;
"""
case.handler("/who", """
    local members, answered = require("resty.websocket").presence(ngx.var.arg_topic)
    ngx.print(live.json({ members or false, answered }))
""")
case.server += LOCATIONS + """
    location = /worker {
        websocket_subscribe $arg_topic info=$pid format=json; websocket_shutdown_close off;
    }
    location = /slow {
        websocket_subscribe $arg_topic info=$arg_info format=json;
        websocket_send_buffer 32k; websocket_slow_consumer drop; websocket_shutdown_close off;
    }
    location = /closing {
        websocket_subscribe $arg_topic info=$arg_info; websocket_send_buffer 32k;
        websocket_slow_consumer close;
    }
"""


def pids(line, topic):
    members, answered = json.loads(line.ask(f"/who?topic={topic}"))
    equal(answered, 1)
    return sorted(one["info"] for one in members)


def comes_and_goes(ng):
    for topic in "here:a", "here:kept":
        first = join(ng, topic, "raw")
        one = Watcher(ng, topic, "one")
        one.until(["one", "raw"])
        two = Watcher(ng, topic, "two")
        for watcher in one, two:
            watcher.until(["one", "raw", "two"])
        others = [join(ng, topic, f"o{n}") for n in range(3 * WORKERS)]
        names = [f"o{n}" for n in range(3 * WORKERS)]
        for watcher in one, two:
            watcher.until(["one", "raw", "two", *names])
        others[0].rst()
        for other in others[1:]:
            other.close()
        first.close()
        two.close()
        one.until(["one"])
        equal(one.lists, 1)
        one.close()
    empty(ng)


def many_are_a_number(ng):
    crowd = [join(ng, "here:many", f"m{n}") for n in range(100)]
    line = Line(ng)
    await_(lambda: line.ask("/count?topic=here:many") == "100", "all to be here")
    one = Watcher(ng, "here:many")
    equal((one.count, one.here), (101, {}))
    one.close()
    # Many changes at once are a number too.
    quiet = Watcher(ng, "here:kept-more")
    for _ in range(8):
        crowd.append(join(ng, "here:kept-more", "i" * 500))
    while len(quiet.here) < 9:
        quiet.step()
    for peer in crowd:
        peer.close()
    quiet.until([""])
    quiet.close()
    line.close()
    empty(ng)


def only_asked_for(ng):
    """Without join_leave the list alone; who is not told in JSON gets none of it."""
    raw = join(ng, "quiet:a", "raw")
    one = Watcher(ng, "quiet:a", "one")
    equal(one.infos(), ["one", "raw"])
    two = Watcher(ng, "quiet:a", "two")
    equal(two.infos(), ["one", "raw", "two"])
    line = Line(ng)
    line.ask("/push?topic=quiet:a&data=x")
    one.step()
    equal((one.data, one.infos()), (["x"], ["one", "raw"]))
    equal(raw.frame(), (TEXT, b"x"))
    for each in raw, one, two:
        each.close()
    line.close()
    empty(ng)


def slow_readers(ng):
    """Who has no room for a line is told everything once it has; who is closed for it is gone."""
    watch = Watcher(ng, "here:s", "watch")
    slow = Watcher(ng, "here:s", "slow", path="/slow", window=4096)
    watch.until(["slow", "watch"])
    line = Line(ng)
    while line.info()["slow_consumers"]["dropped"] == 0:
        line.ask("/push?topic=here:s&data=" + "x" * 4000)
    peers = [join(ng, "here:s", f"p{n}") for n in range(8)]
    watch.until(["slow", "watch", *(f"p{n}" for n in range(8))])
    slow.until(["slow", "watch", *(f"p{n}" for n in range(8))])
    slow.close()
    closing = join(ng, "here:s", "closing", path="/closing", window=4096)
    watch.until(["closing", "watch", *(f"p{n}" for n in range(8))])
    while line.info()["slow_consumers"]["closed"] == 0:
        line.ask("/push?topic=here:s&data=" + "x" * 4000)
    watch.until(["watch", *(f"p{n}" for n in range(8))])
    closing.close()
    for each in [watch, *peers]:
        each.close()
    line.close()
    empty(ng)


def killed_workers(ng):
    """Nobody is left of a killed worker, in any generation, and everybody hears of it."""
    generations = []
    for n in range(3):
        generations.append(ng.workers())
        watchers = [Watcher(ng, topic, path="/worker") for topic in ["here:k", "quiet:k"] * 2 * WORKERS]
        generations[-1] = generations[-1], watchers
        if n < 2:
            old = set(ng.workers())
            ng.signal("HUP")
            await_(lambda: len(ng.workers()) == WORKERS and not old & set(ng.workers()), "HUP")
    watchers = [watcher for _, all in generations for watcher in all]
    line = Line(ng)
    known = {topic: pids(line, topic) for topic in ("here:k", "quiet:k")}
    equal([len(found) for found in known.values()], [6 * WORKERS] * 2)
    for watcher in watchers:
        watcher.lists = 0
    others = [pid for pid in known["here:k"] if int(pid) != line.pid]
    for victim in others[-1], others[0]:
        os.kill(int(victim), signal.SIGKILL)
        known = {topic: [pid for pid in found if pid != victim] for topic, found in known.items()}
        for watcher in watchers[:]:
            try:
                while watcher.lists == 0:
                    watcher.step()
                watcher.until(known[watcher.topic])
                watcher.lists = 0
            except (AssertionError, ConnectionResetError):
                watcher.close()
                watchers.remove(watcher)
        equal(len(watchers), sum(map(len, known.values())), "only the victim's are gone")
        equal({topic: pids(line, topic) for topic in known}, known)
    for watcher in watchers:
        watcher.close()
    line.close()
    empty(ng)


ng = Nginx(server=case.server, http=HTTP, workers=WORKERS, listen="reuseport sndbuf=16k")
run_on(ng, tap, (comes_and_goes, many_are_a_number, only_asked_for, slow_readers)
       + (() if VALGRIND else (killed_workers,)))
