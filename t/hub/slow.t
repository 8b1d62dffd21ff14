BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Subscribers that never read: each costs its worker at most its cap, misses messages or is closed, and
# takes nothing from the others; with Lua handlers and without.
import struct

from lib.crowd import WORKERS, Crowd, Line, lines, room
from lib.live import VALGRIND, Cases, await_, equal, run
from lib.memory import resident, within
from lib.peer import BINARY_FRAME, CLOSE, Peer

case = Cases()
room(case, "websocket_send_buffer 8m;")
# Messages so small that each connection holds its own copy.
COUNT, SIZE, SLOW = (1500, 1000, 4) if VALGRIND else (6000, 1000, 40)
CAP = 64 * 1024

SUBSCRIBER = """
    local websocket = require "resty.websocket"
    local ws = assert(websocket.accept())
    assert(ws:subscribe("room"))
    ngx.log(ngx.INFO, "ended: ", select(2, ws:recv()))
"""
LIMITS = f"websocket_send_buffer {CAP}; websocket_send_timeout 3s; send_timeout 3s; lingering_timeout 500ms;"
case.handler("/drops", SUBSCRIBER, LIMITS + "websocket_slow_consumer drop;")
case.handler("/closes", SUBSCRIBER, LIMITS)
case.server += f"""
    location = /alone-drops {{ websocket_subscribe room; {LIMITS} websocket_slow_consumer drop; }}
    location = /alone-closes {{ websocket_subscribe room; {LIMITS} }}
"""
# Whole messages with their numbers, at a pace that a reader can keep.
case.handler("/stream", f"""
    local publish = require("resty.websocket").publish
    local padding = ("."):rep({SIZE - 8})
    for n = 1, {COUNT} do
        assert(publish("room", ("%08d"):format(n) .. padding, {{ type = "binary" }}))
        if n % 50 == 0 then ngx.sleep(0.005) end
    end
""")


def numbers(one):
    found = []
    for first, payload in one.frames():
        if first == CLOSE:
            found.append(payload)
        else:
            equal((first, len(payload)), (BINARY_FRAME, SIZE))
            found.append(int(payload[:8]))
    return found


def play(ng, path, meanwhile=None):
    """Streams to readers and to others that do not read; those others, and the numbers before and
    after."""
    readers = Crowd(ng, 2 * WORKERS)
    sleepers = Crowd(ng, SLOW, path, window=4096, hello=False)
    line = Line(ng)
    await_(lambda: line.ask("/count?topic=room") == str(len(readers) + SLOW), "all are in")
    before, memory = line.info(), {pid: resident(pid) for pid in ng.workers()}
    line.start("/stream")
    if meanwhile:
        meanwhile(sleepers, before)
    whole = COUNT * (SIZE + 4)
    readers.until(lambda s: len(s.data) >= whole, 5 * 60 if VALGRIND else 30)
    line.end()
    # Sleepers with a cap each, readers that a busy machine has kept from reading, and what else a worker
    # keeps. Without caps it would be twice as much and more.
    grown = sum(resident(pid) - was for pid, was in memory.items())
    within(grown, SLOW * CAP + len(readers) * whole + len(memory) * (16 << 20))
    for one in readers:
        equal(numbers(one), list(range(1, COUNT + 1)))
    after = line.info()
    readers.close()
    return sleepers, before, after, line


def dropped(ng, path):
    sleepers, before, after, line = play(ng, path)
    lost = after["slow_consumers"]["dropped"] - before["slow_consumers"]["dropped"]
    equal(after["slow_consumers"]["closed"], before["slow_consumers"]["closed"])
    assert lost > SLOW * COUNT / 2, lost
    # Awake at last: what was kept for them, whole and in order, and what is published from now on.
    kept = (SLOW * COUNT - lost) * (SIZE + 4)
    sleepers.in_all(kept)
    line.ask("/push?data=again")
    for one in sleepers:
        sleepers.until(lambda s: s is not one or s.data[-7:] == b"\x81\x05again")
        del one.data[-7:]
        had = numbers(one)
        equal(had, sorted(set(had)), "in order, none twice")
    line.close()
    sleepers.close()


def closed(ng, path):
    other = Line(ng)

    def meanwhile(sleepers, before):
        def count():
            return other.info()["slow_consumers"]["closed"] - before["slow_consumers"]["closed"]
        await_(lambda: count() == SLOW, "the slow ones are closed")
        # One half finds the reason. The other never reads: the send timeout ends them.
        half = {id(one) for one in sleepers[::2]}
        sleepers.until(lambda s: id(s) not in half or s.over)
        for one in sleepers[::2]:
            *had, last = numbers(one)
            equal(last, struct.pack(">H", 1013) + b"slow consumer")
            equal(had, list(range(1, len(had) + 1)), "nothing is missing before the close frame")

    sleepers, before, after, line = play(ng, path, meanwhile)
    equal(after["slow_consumers"]["closed"] - before["slow_consumers"]["closed"], SLOW)
    equal(after["slow_consumers"]["dropped"], before["slow_consumers"]["dropped"])
    other.close()
    line.close()
    await_(lambda: ng.sessions() == 0, "those who never read are given up")
    sleepers.close()


for kind, check in ("drops", dropped), ("closes", closed):
    for way in "/", "/alone-":
        what = "handler in Lua" if way == "/" else "websocket_subscribe"

        @case(f"{SLOW} subscribers that never read, websocket_slow_consumer {kind[:-1]}, {what}")
        def _(ng, check=check, path=way + kind):
            check(ng, path)


case.handler("/ends", f"""
    local frames = ngx.var.arg_style == "frames"
    local wb = frames and live.open() or assert(require("resty.websocket").accept())
    if ngx.var.arg_large then
        local send = frames and wb.send_binary or wb.send
        ngx.thread.spawn(send, wb, ("p"):rep({4 << 20}))
    end
    live.report("ends")
    ngx.exit(ngx.OK)
""", "send_timeout 1s; websocket_send_timeout 1s; lingering_timeout 1s;" +
    "websocket_max_message_size 8m;")
case.handler("/collect", "collectgarbage() collectgarbage() ngx.print(ngx.worker.pid())")


@case("collected garbage does not keep alive who neither reads nor closes after the handler's end")
def _(ng):
    peers = [Peer(ng, f"/ends?style={style}{large}", window=4096)
             for style in ("frames", "messages") for large in ("", "&large=1")]
    for peer in peers:
        equal(peer.report(), "ends")
    all_lines = lines(ng)
    for line in all_lines.values():
        line.ask("/collect")
        line.close()
    await_(lambda: ng.sessions() == 0, "nginx's timers end them")
    for peer in peers:
        peer.close()


run(case, workers=WORKERS, listen="reuseport sndbuf=16k")
