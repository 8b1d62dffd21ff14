BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Storms: connections that come, subscribe, unsubscribe and go in every way while messages are
# published. Afterwards nothing is left: no connection, no topic, no subscription, no count, no
# descriptor, and no memory that grows from storm to storm.
import os
import random

from lib.crowd import WORKERS, Line, empty, lines, room
from lib.live import VALGRIND, Cases, await_, equal, run
from lib.memory import resident, within
from lib.peer import CLOSE, TEXT, Peer, frame, head

case = Cases()
room(case)
case.handler("/churn", """
    local websocket = require "resty.websocket"
    local ws = websocket.accept()
    if not ws then return end
    for data in ws:messages() do
        local verb, topic = data:match("^(%S+) ?(.*)$")
        if verb == "join" then ws:subscribe(topic)
        elseif verb == "leave" then ws:unsubscribe(topic ~= "" and topic or nil)
        elseif verb == "many" then for n = 1, 1000 do assert(ws:subscribe("many-" .. n)) end
        elseif verb == "error" then error("as asked for")
        elseif verb == "exit" then ngx.exit(444)
        elseif verb == "say" then ws:send(topic) end
    end
""")
case.handler("/topics-publish", """
    local publish = require("resty.websocket").publish
    local sum = 0
    for n = 1, 1000 do sum = sum + assert((publish("many-" .. n, "number " .. n))) end
    ngx.print(sum)
""")
case.server += "location /alone { websocket_subscribe $arg_a $arg_b; }\n"
ROUNDS, EACH = (2, 15) if VALGRIND else (6, 200)
ASKED = "as asked for"


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def storm(ng, dice, publisher):
    publisher.start("/flood?from=s&n=200&burst=10")
    peers = []
    for n in range(EACH):
        alone = n % 4 == 0
        path = f"/alone?a=room&b=topic-{dice.randrange(50)}" if alone else "/churn"
        # One in ten is gone before it has been answered.
        if dice.random() < 0.1:
            peer = Peer(ng, request=head(path))
            (peer.rst if dice.random() < 0.5 else peer.close)()
            continue
        peer = Peer(ng, path)
        for _ in range(dice.randrange(8)):
            topic = dice.choice(["room", f"topic-{dice.randrange(50)}"])
            verb = dice.choice(["join", "join", "join", "leave", "leave all", "say"])
            text = "leave" if verb == "leave all" else f"{verb} {topic}"
            peer.send(frame(TEXT, text))
        peers.append(peer)
        if dice.random() < 0.7:
            leave(peers.pop(dice.randrange(len(peers))), dice)
    dice.shuffle(peers)
    for peer in peers:
        leave(peer, dice)
    publisher.end()


def leave(peer, dice):
    how = dice.randrange(6)
    try:
        if how == 0:
            peer.rst()
            return
        peer.send([b"", frame(CLOSE, b"\x03\xe8"), frame(TEXT, "error"), frame(TEXT, "exit"),
                   frame(TEXT, b"\xff")][how - 1])
    except OSError:
        pass  # it was closed from over there
    peer.close()


@case(f"{ROUNDS} storms of {EACH} connections leave nothing behind", logs=ASKED)
def _(ng):
    dice = random.Random(2026)
    publisher = Line(ng)
    watched = []
    for _ in range(ROUNDS):
        storm(ng, dice, publisher)
        empty(ng)
        for topic in ["room"] + [f"topic-{n}" for n in range(50)]:
            equal(publisher.ask(f"/count?topic={topic}"), "0", topic)
        await_(lambda: ng.connections() == 1, "only the publisher is connected")
        workers = ng.workers()
        watched.append((sum(map(descriptors, workers)), resident(*workers)))
    publisher.close()
    equal({files for files, _ in watched[1:]}, {watched[1][0]}, "descriptors")
    within(watched[-1][1] - watched[1][1], 4 << 20, f"since the second storm of {watched}")


@case("connections in a thousand topics each, in every worker")
def _(ng):
    peers, many = [], 4 * WORKERS
    for _ in range(many):
        peer = Peer(ng, "/churn")
        peer.send(frame(TEXT, "many") + frame(TEXT, "say done"))
        equal(peer.frame(), (TEXT, b"done"))
        peers.append(peer)
    for line in lines(ng).values():
        info = line.info()
        equal(info["subscriptions"], 1000 * many)
        equal({line.ask(f"/count?topic=many-{n}") for n in (1, 500, 1000)}, {str(many)})
        line.ask("/topics-publish")
        for peer in peers:
            for n in range(1, 1001):
                equal(peer.frame(), (TEXT, b"number %d" % n))
        line.close()
    for peer in peers:
        peer.close()
    empty(ng)


run(case, workers=WORKERS, listen="reuseport")
