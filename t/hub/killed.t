BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Workers killed with SIGKILL while they publish: what they had published comes whole and in order,
# the others go on, the numbers are right again, and the worker that takes the place joins in; also when
# it is killed in a reload.
import os
import random
import re
import signal
import time

from lib.crowd import WORKERS, Crowd, Line, empty, lines, room
from lib.live import VALGRIND, Cases, Nginx, Tap, await_, equal, run_on
from lib.peer import TEXT

chance = random.Random(14)
tap = Tap()
case = Cases()
room(case)
# Large and small messages without end, so that most kills hit in the middle of one.
case.handler("/endless", """
    local publish = require("resty.websocket").publish
    local large = (ngx.var.arg_from):rep(20000)
    for n = 1, 1e9 do
        assert(publish("room", ngx.var.arg_from .. ("%07d"):format(n) .. (n % 10 == 0 and large or "")))
        if n % 20 == 0 then ngx.sleep(0.001) end
    end
""")
# In a worker that quits: connections stay, and it is not replaced when it is killed.
case.handler("/stays", """
    local websocket = require "resty.websocket"
    local ws = assert(websocket.accept())
    assert(ws:subscribe("room"))
    ws:send(ngx.worker.pid() .. " " .. ws.id)
    ws:recv()
""", "websocket_shutdown_close off;")
# Large messages for a history without end: most of the time goes into storing them.
case.handler("/store", """
    local publish = require("resty.websocket").publish
    local data = ("x"):rep(100000)
    for n = 1, 1e9 do
        assert(publish("kept", data))
        if n % 20 == 0 then ngx.sleep(0.001) end
    end
""")


def numbers(one, who):
    """The numbers of who's messages, as they came; every message must be whole."""
    found = []
    for first, payload in one.frames():
        text = payload.decode()
        equal(first, TEXT)
        if text[0] == who:
            found.append(int(text[1:8]))
            equal(text[8:], who * (20000 if found[-1] % 10 == 0 else 0))
    return found


def kill(pid, by=signal.SIGKILL):
    os.kill(pid, by)


def replaced(ng, old):
    await_(lambda: len(ng.workers()) == WORKERS and old not in ng.workers(), "another worker")


def mid_publish(ng):
    crowd = Crowd(ng, 12 * WORKERS)
    gone = 0
    for round in range(6):
        victims = lines(ng)
        pid, line = victims.popitem()
        before = int(line.ask("/count?topic=room"))
        mine = [one for one in crowd if one.pid == pid]
        line.start("/endless?from=k")
        rest = [one for one in crowd if one.pid != pid]
        seen = len(rest[0].data) + (10000, 200000)[round % 2]
        crowd.until(lambda s: s is not rest[0] or len(s.data) > seen, what="the stream of the victim")
        kill(pid)
        crowd.until(lambda s: s not in mine or s.over, what="the victim's connections end")
        for one in mine:
            crowd.remove(one)
            one.sock.close()
        replaced(ng, pid)
        new = Crowd(ng, 6)
        fresh = lines(ng)
        newcomer = next(line for line in fresh.values() if line.pid not in victims)
        equal(int(newcomer.ask("/count?topic=room")), before - len(mine) + len(new))
        equal(int(newcomer.ask("/count")), before - len(mine) + len(new))
        # A last word from the new worker: behind all that the victim had published.
        newcomer.ask(f"/push?data=z000000{round}")
        mark = f"z000000{round}".encode()
        crowd.until(lambda s: bytes(s.data[-8:]) == mark)
        new.until(lambda s: bytes(s.data[-8:]) == mark)
        last = set()
        for one in crowd:
            got = numbers(one, "k")
            equal(got, list(range(1, len(got) + 1)), f"round {round}")
            last.add(len(got))
        # Whoever published was killed: the same end for everybody, in every worker.
        equal(len(last), 1, f"how far the others have come: {last}")
        for one in new:
            numbers(one, "k")
            crowd.join(one)
        gone += len(mine)
        equal(newcomer.info()["connections_closed"]["1006"], gone, "closed with their worker")
        new.selector.close()
        line.close()
        for each in [*victims.values(), *fresh.values()]:
            each.close()
    crowd.close()
    empty(ng)


def while_quitting(ng):
    """A worker of the old generation is killed: nobody takes its place, and it counts no more."""
    old = Crowd(ng, 4 * WORKERS, "/stays")
    workers = ng.workers()
    ng.signal("HUP")
    await_(lambda: len(ng.workers()) == WORKERS and not set(ng.workers()) & set(workers), "HUP")
    line = Line(ng)
    equal(line.ask("/count?topic=room"), str(len(old)))
    gone = old[0].pid
    kill(gone)
    mine = [one for one in old if one.pid == gone]
    old.until(lambda s: s not in mine or s.over)
    await_(lambda: not os.path.exists(f"/proc/{gone}"), "the process is gone")
    equal(line.ask("/count?topic=room"), str(len(old) - len(mine)))
    equal(line.ask("/count"), str(len(old) - len(mine)))
    equal(len(line.info()["workers"]), 2 * WORKERS - 1)
    equal(line.ask(f"/send?to={mine[0].id}&data=x"), "nilno such connection")
    closed = line.info()["connections_closed"]["1006"]
    assert closed >= len(mine), "connections of a worker that nobody replaces are closed too"
    line.ask("/push?data=to-the-old-ones")
    rest = [one for one in old if one not in mine]
    old.until(lambda s: s in mine or s.data)
    equal({one.frame() for one in rest}, {(TEXT, b"to-the-old-ones")})
    line.close()
    old.close()
    empty(ng)


def in_a_reload(ng):
    """A worker is killed while it stores a message and the master, in a reload, waits for that: the
    master, which hears of no death meanwhile, goes on all the same."""
    def turns():
        """What a process that turns in a circle has more and more of: time, in hundredths of a
        second, or where others want it too, the times that it gave way to them."""
        with open(f"/proc/{ng.child.pid}/stat") as stat:
            spent = sum(map(int, stat.read().rpartition(")")[2].split()[11:13]))
        with open(f"/proc/{ng.child.pid}/status") as status:
            gave_way = int(re.search(r"nonvoluntary_ctxt_switches:\s*(\d+)", status.read())[1])
        return spent + gave_way // 15

    waited = 0
    for attempt in range(100):
        workers = lines(ng)
        pid, line = workers.popitem()
        line.start("/store")
        next(iter(workers.values())).ask("/pid")
        time.sleep(chance.uniform(0, 0.02))
        kill(pid, signal.SIGSTOP)
        loaded, before = ng.read_log().count("start worker processes"), turns()
        ng.signal("HUP")
        has_loaded = lambda: ng.read_log().count("start worker processes") > loaded
        # A fifth of a second of work: far more than a reload.
        await_(lambda: has_loaded() or turns() > before + 20, "a reload, or a master that waits")
        waited += not has_loaded()
        kill(pid)
        await_(has_loaded, "a reload after the death of a worker")
        await_(lambda: len(ng.workers()) == WORKERS and pid not in ng.children(), "new workers")
        for each in [line, *workers.values()]:
            each.close()
        if waited == 3:
            break
    assert waited > 0, "no worker was stopped while it stored a message"
    new = Line(ng)
    new.ask("/push?topic=kept&data=x")
    new.close()
    empty(ng)


ng = Nginx(server=case.server, http="websocket_zone 64m; websocket_topic kept history=100;", workers=WORKERS, listen="reuseport")
run_on(ng, tap, () if VALGRIND else (mid_publish, while_quitting, in_a_reload))
