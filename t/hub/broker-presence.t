BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Who is there over three machines (three nginx with zones of their own) and one Redis: members, how
# many there are, who comes and goes, topics closed everywhere; and what is answered when a machine
# is silent, has gone or cannot be reached.
import json
import os
import re
import signal
import time

from lib.brokers import REDIS, Redis, level, machine, metric, skip_without
from lib.crowd import Line, room
from lib.live import PORT, Cases, Tap, await_, equal
from lib.watcher import LOCATIONS, Watcher, join

skip_without(REDIS, "redis-server")

tap = Tap()
case = Cases()
room(case)
case.handler("/who", """
    local members, answered, known = require("resty.websocket").presence(ngx.var.arg_topic)
    ngx.print(live.json({ members or false, answered, known }))
""")
case.handler("/all", """
    ngx.print(table.concat({ require("resty.websocket").cluster_count(ngx.var.arg_topic) }, " "))
""")
case.handler("/over", 'ngx.print(require("resty.websocket").close_topic(ngx.var.arg_topic, 4002, "over"))')
case.handler("/early", """
    local ok, err = pcall(require("resty.websocket").cluster_count, "here:a")
    ngx.log(ngx.WARN, "early ", ok, " ", err)
""", "return 200;", "log")
case.server += LOCATIONS + "location = /metrics { websocket_status prometheus; }\n"
WORKERS, MACHINES, DOOR = 2, 3, PORT + 10
HTTP = """
    websocket_broker main {
        server redis://127.0.0.1:%d;
        connect_timeout 2s; command_timeout 2s; probe 1s; reconnect max=300ms;
    }
    websocket_topic here:* presence join_leave;
    websocket_topic here:kept* presence join_leave history=100;
    websocket_topic quiet:* presence;
    websocket_topic home:* presence broker=off;
""" % DOOR
QUIET = re.compile(r"exited on signal 9|connection lost|early ")
redis = Redis(DOOR)
ngs = [machine(n, HTTP, case.server, WORKERS) for n in range(MACHINES)]


def who(n, topic):
    """What machine n says: infos, whole members, how many machines have answered of how many."""
    members, answered, known = json.loads(ngs[n].get(f"/who?topic={topic}"))
    return sorted(one.get("info", "") for one in members), members, (answered, known)


def known(machines=MACHINES):
    for ng in ngs[:machines]:
        await_(lambda: metric(ng, "nodes_known") == machines - 1, "the others' heartbeats")


def close(peers):
    for peer in peers:
        peer.close()


def comes_late():
    """A machine that has just come knows nobody yet: it hears of their members when it hears of them."""
    peers = [join(ngs[n], "here:late", f"m{n}") for n in (0, 1)]
    ngs[2].start()
    level(ngs[2], 0)
    for pid in ngs[0].workers() + ngs[1].workers():
        os.kill(pid, signal.SIGSTOP)
    watcher = Watcher(ngs[2], "here:late", "w")
    equal(watcher.infos(), ["w"])
    # Longer than it takes a worker to look around.
    time.sleep(1.5)
    for pid in ngs[0].workers() + ngs[1].workers():
        os.kill(pid, signal.SIGCONT)
    watcher.until(["m0", "m1", "w"])
    close([*peers, watcher])
    known()


def members_of_all():
    peers = [join(ngs[n], "here:a", f"m{n}-{i}") for n in range(MACHINES) for i in range(2 * WORKERS)]
    infos = sorted(f"m{n}-{i}" for n in range(MACHINES) for i in range(2 * WORKERS))
    for n in range(MACHINES):
        await_(lambda: who(n, "here:a")[0] == infos, "all members")
        _, members, nodes = who(n, "here:a")
        equal(nodes, (MACHINES, MACHINES))
        equal(len({one["member"] for one in members}), len(members))
        by_node = {}
        for one in members:
            by_node.setdefault(one["node"], set()).add(one["info"][:2])
        equal(sorted(map(sorted, by_node.values())), [[f"m{n}"] for n in range(MACHINES)])
        equal(ngs[n].get("/all?topic=here:a"), f"{len(peers)} {MACHINES} {MACHINES}")
        equal(who(n, "here:nobody")[1:], ([], (MACHINES, MACHINES)))
        equal(ngs[n].get("/count?topic=here:a"), str(2 * WORKERS))
    at_home = join(ngs[1], "home:a", "x")
    equal([who(n, "home:a")[::2] for n in range(MACHINES)], [([], (1, 1)), (["x"], (1, 1)), ([], (1, 1))])
    equal([ng.get("/all?topic=home:a") for ng in ngs], ["0 1 1", "1 1 1", "0 1 1"])
    ngs[0].get("/early")
    await_(lambda: "early false " in ngs[0].read_log(), "a phase that cannot wait")
    close([*peers, at_home])


def many():
    """More than a piece of an answer has room for; and in JSON they are a number."""
    def left(count):
        await_(lambda: ngs[0].get("/all?topic=quiet:b").startswith(f"{count} "), f"{count} to be left")

    peers = [join(ngs[1], "quiet:b", f"{i:04d}" + "i" * 200) for i in range(400)]
    infos, _, nodes = who(0, "quiet:b")
    equal((infos, nodes), ([f"{i:04d}" + "i" * 200 for i in range(400)], (MACHINES, MACHINES)))
    for n in 0, 1:
        one = Watcher(ngs[n], "quiet:b", "one")
        equal((one.count, one.here), (401, {}))
        one.close()
        left(400)
    # Neither machine has more than are listed, both together have.
    close(peers[60:])
    left(60)
    peers = peers[:60] + [join(ngs[2], "quiet:b", f"p{i}") for i in range(50)]
    for n in range(MACHINES):
        one = Watcher(ngs[n], "quiet:b", "one")
        equal(one.count, 111)
        one.close()
        left(110)
    close(peers)


def told():
    for topic in "here:c", "here:kept-c":
        watchers = [Watcher(ngs[n], topic, f"w{n}") for n in range(MACHINES)]
        names = [f"w{n}" for n in range(MACHINES)]
        for watcher in watchers:
            watcher.until(names)
        peers = [join(ngs[n], topic, f"p{n}") for n in range(MACHINES)]
        for watcher in watchers:
            watcher.until([*names, *(f"p{n}" for n in range(MACHINES))])
        peers[0].rst()
        peers[1].close()
        for watcher in watchers:
            watcher.until([*names, "p2"])
            watcher.lists = 0
        # Too much at once for telling: the list, for no machine knows the number alone.
        crowd = [join(ngs[1], topic, "i" * 900) for _ in range(90)]
        for watcher in watchers:
            watcher.until([*names, "p2", *["i" * 900] * 90])
        close(crowd)
        for watcher in watchers:
            watcher.until([*names, "p2"])
        equal(ngs[2].get(f"/over?topic={topic}"), "2")
        for one in [peers[2], *(watcher.peer for watcher in watchers)]:
            frame = one.frame()
            while frame[0] != 0x88:
                frame = one.frame()
            equal(frame, (0x88, b"\x0f\xa2over"))
            one.close()


def silent():
    """A machine whose workers are stopped is not waited for."""
    peers = [join(ngs[n], "here:d", f"m{n}") for n in range(MACHINES)]
    await_(lambda: len(who(0, "here:d")[0]) == MACHINES, "all members")
    victims = ngs[2].workers()
    for pid in victims:
        os.kill(pid, signal.SIGSTOP)
    try:
        equal(who(0, "here:d")[::2], (["m0", "m1"], (2, 3)))
        equal(ngs[1].get("/all?topic=here:d"), "2 2 3")
        one = Watcher(ngs[0], "here:d", "one")
        equal(one.infos(), ["m0", "m1", "one"])
        one.close()
    finally:
        for pid in victims:
            os.kill(pid, signal.SIGCONT)
    await_(lambda: who(0, "here:d")[::2] == (["m0", "m1", "m2"], (3, 3)), "the silent one")
    close(peers)


def worker_killed():
    """Its members have gone: on other machines too, whether it talked to the broker or not."""
    for _ in range(WORKERS):
        watchers = [Watcher(ngs[n], topic, "w") for n in (0, 2) for topic in ("here:e", "quiet:e")]
        peers = [join(ngs[1], topic, "p") for topic in ("here:e", "quiet:e") for _ in range(4 * WORKERS)]
        all_of = ["w"] * 2 + ["p"] * 4 * WORKERS
        for watcher in watchers:
            if watcher.topic == "here:e":
                watcher.until(all_of)
        before = set(ngs[1].workers())
        victim = min(before, key=lambda pid: pid)
        os.kill(victim, signal.SIGKILL)
        await_(lambda: len(ngs[1].workers()) == WORKERS and victim not in ngs[1].workers(), "another worker")
        left = {"here:e": 0, "quiet:e": 0}

        def are_level():
            for topic in left:
                found, _, nodes = who(1, topic)
                left[topic] = found
                if nodes != (MACHINES, MACHINES) or who(0, topic)[0] != found:
                    return False
            return True
        await_(are_level, "questions are answered in full again")
        for watcher in watchers:
            watcher.until(left[watcher.topic])
        close([*watchers, *peers])


def broker_away():
    global redis
    watchers = [Watcher(ngs[n], "here:f", f"w{n}") for n in range(MACHINES)]
    peers = [join(ngs[n], "here:f", f"p{n}") for n in range(MACHINES)]
    names = [f"{kind}{n}" for kind in "pw" for n in range(MACHINES)]
    for watcher in watchers:
        watcher.until(names)
    redis.kill()
    for ng in ngs:
        await_(lambda: metric(ng, "broker_connected") == 0, "the loss is seen")
    infos, _, (answered, there_are) = who(0, "here:f")
    equal((infos, answered), (["p0", "w0"], 1))
    assert there_are > 1, "they are known for some time"
    peers[1].close()
    late = [join(ngs[2], "here:f", "late")]
    watchers[1].until([name for name in names if name != "p1"])
    redis = Redis(DOOR)
    for watcher in watchers:
        watcher.until([*(name for name in names if name != "p1"), "late"])
    known()
    equal(who(0, "here:f")[2], (MACHINES, MACHINES))
    close([*watchers, *peers, *late])


def reloads():
    """Questions while a machine's gateway is replaced: what is answered in full is right."""
    peers = [join(ngs[n], "here:g", f"m{n}") for n in range(MACHINES)]
    await_(lambda: len(who(0, "here:g")[0]) == MACHINES, "all members")
    old, whole = set(ngs[1].workers()), 0
    ngs[1].signal("HUP")
    while whole < 20 or old & set(ngs[1].workers()) or len(ngs[1].workers()) < WORKERS:
        infos, _, (answered, there_are) = who(0, "here:g")
        equal(there_are, MACHINES)
        if answered == MACHINES:
            equal(infos, ["m0", "m1", "m2"])
            whole += 1
    close(peers)


def machine_gone():
    """A machine that is lost from one moment to the next is forgotten, and its members with it."""
    watcher = Watcher(ngs[0], "here:h", "w")
    peer = join(ngs[2], "here:h", "p")
    watcher.until(["p", "w"])
    ng = ngs.pop()
    for pid in [ng.child.pid, *ng.children()]:
        os.kill(pid, signal.SIGKILL)
    ng.kill()
    watcher.until(["w"])
    known(MACHINES - 1)
    equal(who(0, "here:h")[::2], (["w"], (2, 2)))
    close([watcher, peer])


try:
    for ng in ngs[:2]:
        ng.start()
    for ng in ngs[:2]:
        level(ng, 0)
    for name, body in (
            ("a machine comes late", comes_late),
            ("members of all machines, and how many", members_of_all),
            ("many members", many),
            ("who comes and goes, and a topic closed everywhere", told),
            ("a machine is silent", silent),
            ("a worker is killed", worker_killed),
            ("the broker is away and comes back", broker_away),
            ("a reload while it is asked", reloads),
            ("a machine is gone", machine_gone)):
        if os.environ.get("ONLY", name) in name or body is comes_late:
            tap.attempt(name, body)

    def end():
        for ng in ngs:
            equal(ng.stop(), 0)
            equal([line for line in ng.loud() if not QUIET.search(line)], [])
    tap.attempt("nothing else is logged, and nginx ends without a word", end)
finally:
    for ng in ngs:
        ng.kill()
    redis.kill()
tap.done()
