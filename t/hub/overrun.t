BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# The smallest zone: a worker that is kept busy while the others publish more than the zone holds
# misses messages, says so once and goes on; messages too large for the zone; more topics than it can
# count. Everything else works as in a large one.
import json
import re

from lib.crowd import WORKERS, Crowd, Line, empty, lines, room
from lib.live import VALGRIND, Cases, equal, run
from lib.peer import CLOSE, TEXT, Peer, frame

case = Cases()
room(case)
case.handler("/busy", """
    local flag = ngx.shared.live
    flag:set("busy", true)
    while flag:get("busy") do end
""")
case.handler("/idle", 'ngx.shared.live:delete("busy")')
case.handler("/is-busy", 'ngx.print(tostring(ngx.shared.live:get("busy")))')
case.handler("/burst", """
    local publish = require("resty.websocket").publish
    for n = 1, 20000 do
        assert(publish("room", ngx.var.arg_from .. ("%07d"):format(n)))
    end
""")
case.handler("/large", """
    local websocket = require "resty.websocket"
    local text = ("x"):rep(tonumber(ngx.var.arg_size))
    local got, err = websocket.publish("room", text)
    ngx.print(got or err)
""")
case.handler("/topics", """
    local ws = assert(require("resty.websocket").accept())
    for n = 1, 3000 do assert(ws:subscribe("topic " .. n)) end
    ws:send(ngx.worker.pid() .. " " .. ws.id)
    ws:recv()
""")
case.handler("/counts", """
    local websocket = require "resty.websocket"
    local counted = 0
    for n = 1, 3000 do counted = counted + websocket.count("topic " .. n) end
    ngx.print(counted)
""")
case.server += """
    location /publish/ { websocket_publish room; client_max_body_size 10m; client_body_buffer_size 1m; }
    location /talk {
        websocket_subscribe $arg_id room; websocket_publish_from_client on;
        websocket_max_message_size 1m;
    }
"""
OVERRUN = r"this worker missed \d+ messages of the others: a larger websocket_zone holds more"
UNCOUNTED = "more topics than the zone can count: a larger websocket_zone counts more"


@case("a worker that is overrun twice: counted, logged once, and the stream goes on",
      logs=OVERRUN, skip_valgrind=True)
def _(ng):
    crowd = Crowd(ng, 2 * WORKERS)
    (busy, line), (_, publisher), *others = lines(ng).items()
    start = len(ng.read_log())
    before = publisher.info()
    for who in "ab":
        line.start("/busy")
        while publisher.ask("/is-busy") != "true":
            pass
        publisher.ask(f"/burst?from={who}")
        publisher.ask("/idle")
        line.end()
        publisher.ask(f"/push?data={who}-is-over")
        mark = f"{who}-is-over".encode()
        crowd.until(lambda s: mark in s.data)
    after = publisher.info()
    missed = {}
    for one in crowd:
        text = b" ".join(payload for _, payload in one.frames()).decode()
        for who in "ab":
            numbers = [int(n) for n in re.findall(who + r"(\d{7})", text)]
            equal(numbers, sorted(set(numbers)), "in order, none twice")
            lost = 20000 - len(numbers)
            equal(missed.setdefault((one.pid, who), lost), lost, "of one worker")
            # Of what is overwritten the oldest goes: the end of the burst is always there.
            equal(numbers[-1], 20000)
    assert missed[busy, "a"] > 0 and missed[busy, "b"] > 0, missed
    equal((missed[publisher.pid, "a"], missed[publisher.pid, "b"]), (0, 0), "its own messages")
    equal(after["ring_lost"] - before["ring_lost"], sum(missed.values()))
    assert after["ring_overruns"] - before["ring_overruns"] >= 2
    logged = re.findall(r"(\d+)#\d+: .*" + OVERRUN, ng.read_log()[start:])
    equal(logged.count(str(busy)), 1)
    equal(len(logged), len(set(logged)), "once for each worker")
    for each in [line, publisher] + [line for _, line in others]:
        each.close()
    crowd.close()
    empty(ng)


@case("messages too large for the zone reach nobody, not even in the same worker")
def _(ng):
    crowd = Crowd(ng, 2 * WORKERS)
    line = Line(ng)
    failed = line.info()["publish_failed"]
    largest = 1
    for step in (1 << n for n in reversed(range(23))):
        if not line.ask(f"/large?size={largest + step}").startswith("message"):
            largest += step
            equal(set(crowd.next()), {(TEXT, b"x" * largest)})
    assert 4096 < largest < 1 << 20, largest
    equal(line.ask(f"/large?size={largest + 1}"), "message too large for the zone")
    line.start("/publish/", "POST", "y" * (largest + 1))
    answer = line.http.getresponse()
    equal((answer.status, json.loads(answer.read())),
          (413, {"error": "message too large for the zone"}))
    assert line.info()["publish_failed"] > failed
    equal(json.loads(line.ask("/publish/", "POST", "z" * largest))["subscribers"], len(crowd))
    equal(set(crowd.next()), {(TEXT, b"z" * largest)})
    line.close()
    crowd.close()
    empty(ng)


@case("a client whose message is too large for the zone is told by 1009; smaller ones go on")
def _(ng):
    crowd = Crowd(ng, 2 * WORKERS)
    line = Line(ng)
    for n in range(3):
        client = Peer(ng, "/talk")
        client.send(frame(TEXT, b"s%d" % n) + frame(TEXT, b"x" * (1 << 19)))
        for _ in "its own topic", "room":
            equal(client.frame(), (TEXT, b"s%d" % n))
        equal(client.frame(), (CLOSE, b"\x03\xf1message too large for the zone"))
        equal(set(crowd.next()), {(TEXT, b"s%d" % n)})
        client.close()
    line.ask("/push?data=after")
    equal(set(crowd.next()), {(TEXT, b"after")})
    line.close()
    crowd.close()
    empty(ng)


@case("more topics than it can count: told, and counted again when there is room", logs=UNCOUNTED)
def _(ng):
    peer = Peer(ng, "/topics")
    pid = int(peer.frame()[1].split()[0])
    all_lines = lines(ng)
    own, other = all_lines[pid], all_lines[next(p for p in all_lines if p != pid or WORKERS == 1)]
    uncounted = own.info()["topics_uncounted"]
    assert 500 < uncounted < 2500, uncounted
    equal(own.ask("/counts"), "3000")
    equal(int(other.ask("/counts")), 3000 - (uncounted if other is not own else 0))
    other.ask("/push?topic=topic+3000&data=still")
    equal(peer.frame(), (TEXT, b"still"))
    equal(ng.read_log().count(UNCOUNTED), 1)
    peer.close()
    empty(ng)
    equal(other.ask("/counts"), "0")
    for line in all_lines.values():
        line.close()


def smallest():
    """What nginx says that the least zone is."""
    import subprocess
    from lib.live import Nginx
    ng = Nginx(http="websocket_zone 8k;")
    said = subprocess.run(ng.command("-t"), capture_output=True, text=True).stderr + ng.read_log()
    return re.search(r'in "websocket_zone" directive: (\d+k) at least', said)[1]


run(case, http=f"websocket_zone {smallest()};", workers=WORKERS, listen="reuseport")
