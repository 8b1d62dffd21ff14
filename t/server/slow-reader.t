BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Peers that read slowly or not at all: sends wait above the high-water mark, what is pending when
# the handler ends is delivered by whatever way it ends, and a peer that never reads is dropped.
# The listener's small send buffer and the peers' small windows keep the kernel's share under 1 MiB.
import time

from lib.live import VALGRIND, Cases, await_, equal, run
from lib.peer import BINARY_FRAME, TEXT, Peer

case = Cases()
MIB = 1 << 20
HIGH_WATER = 256 * 1024
SLOW = 5 if VALGRIND else 1  # time-outs below are made for a machine of usual speed

# The handlers' way of sending: numbered frames of 100 000 bytes.
case.handler("/until-error", """
    local wb = live.open{ max_payload_len = 2^20, timeout = %d }
    for n = 1, 80 do
        local ok, err = wb:send_binary(("%%08d"):format(n) .. ("x"):rep(100000 - 8))
        if not ok then
            live.report(n, ok, err, wb.fatal)
            return live.report(wb:send_text("more"))
        end
    end
    live.report("all sent")
""" % (300 * SLOW))


def numbered(peer, n):
    first, data = peer.frame()
    equal((first, len(data), data[:8], data[8:].strip(b"x")),
          (BINARY_FRAME, 100000, b"%08d" % n, b""), f"frame {n}")


@case("a send that makes no progress for its time-out fails, and is fatal")
def _(ng):
    peer = Peer(ng, "/until-error", window=16384)
    n, *told = peer.report().split(" | ")
    equal(told, ["nil", "failed to send frame: timeout", "true"])
    assert HIGH_WATER < int(n) * 100000 < HIGH_WATER + MIB, f"gave up at frame {n}"
    equal(peer.report(), "nil | fatal error already happened")
    # The handler has returned. What it sent is delivered all the same, the last frame included.
    for i in range(1, int(n) + 1):
        numbered(peer, i)
    equal(peer.rest(), b"")
    peer.close()


@case("a send waits for a peer that reads late, and goes on")
def _(ng):
    peer = Peer(ng, "/until-error", window=16384)
    for i in range(1, 81):
        if i % 10 == 0:
            time.sleep(0.05)
        numbered(peer, i)
    equal(peer.report(), "all sent")
    equal(peer.rest(), b"")
    peer.close()


case.handler("/high-water", """
    local wb = live.open{ max_payload_len = 2^24 }
    local sent
    local writer = ngx.thread.spawn(function()
        sent = wb:send_binary(("h"):rep(2^23))
    end)
    live.report("large", sent)
    live.report("small", select(2, ngx.thread.wait(ngx.thread.spawn(function()
        ngx.thread.spawn(function() ngx.sleep(0.05) live.report("later", sent) end)
        return (wb:send_text("behind it"))
    end))))
    ngx.thread.wait(writer)
    live.report("at last", sent)
""")


@case("sends return below the high-water mark and wait above it")
def _(ng):
    peer = Peer(ng, "/high-water", window=16384)
    equal(peer.report(), "large | nil")
    equal(peer.report(), "later | nil")  # the small one waits too: it is behind the large one
    size = 1 << 23
    equal(peer.exactly(10)[:2], b"\x82\x7f")
    equal(peer.exactly(size), b"h" * size)
    equal(peer.frame(), (TEXT, b"behind it"))
    equal(sorted([peer.report(), peer.report()]), ["at last | 8388618", "small | 11"])
    equal(peer.rest(), b"")
    peer.close()


# --- the handler ends first ----------------------------------------------------------------------

ENDINGS = {
    "returns": "return",
    "exits with 444": "ngx.exit(444)",
    "exits with ngx.OK": "ngx.exit(ngx.OK)",
    "exits with ngx.ERROR": "ngx.exit(ngx.ERROR)",
    "raises an error": 'error("on purpose")',
    "returns from a light thread that exits": "ngx.thread.spawn(function() ngx.exit(444) end)",
}
SIZE = 4 * MIB
PENDING = f"""
    local wb = live.open{{ max_payload_len = {SIZE} }}
    -- A light thread would keep the handler from returning, a timer does not.
    ngx.timer.at(0, function() wb:send_binary(("p"):rep({SIZE})) end)
    live.take_signal()
    %s
"""

for number, code in enumerate(ENDINGS.values()):
    case.handler(f"/end{number}", PENDING % code)
    case.handler(f"/thread-end{number}", f"""
        local wb = live.open{{ max_payload_len = {SIZE} }}
        ngx.thread.spawn(function() wb:send_binary(("p"):rep({SIZE})) end)
        {code if code != "return" else "ngx.exit(ngx.HTTP_OK)"}
    """)
    case.handler(f"/small-end{number}", f"""
        local wb = live.open()
        for n = 1, 3 do
            wb:send_text("small " .. n)
        end
        {code}
    """)

PURPOSE = r"lua entry thread aborted: runtime error: .*: on purpose"

for number, name in enumerate(ENDINGS):
    def few(ng, number=number):
        peer = Peer(ng, f"/small-end{number}")
        for n in 1, 2, 3:
            equal(peer.frame(), (TEXT, b"small %d" % n))
        equal(peer.rest(), b"")
        peer.close()

    def many(ng, number=number):
        for path in f"/end{number}", f"/thread-end{number}":
            peer = Peer(ng, path, window=16384)
            if not path.startswith("/thread"):
                equal(peer.peek(2), b"\x82\x7f")  # the timer has run
                peer.signal()
            time.sleep(0.05)  # a reader that is late: the ending is well behind it
            equal(peer.frame(), (BINARY_FRAME, b"p" * SIZE), path)
            equal(peer.rest(), b"", path)
            peer.close()

    case(f"the handler {name} with a few frames unsent", logs=PURPOSE)(few)
    case(f"the handler {name} with 4 MiB unsent", logs=PURPOSE)(many)


# --- the peer never reads, or hardly -------------------------------------------------------------

LIMIT = 400 * SLOW  # ms, the time-out that ends the drain; 60 s marks the timer that does not count
BOTH = f"send_timeout {LIMIT}ms; lua_socket_send_timeout {LIMIT}ms;"
TERMINATED = f"send_timeout 60s; lua_socket_send_timeout {LIMIT}ms;"
TIMERS = {
    "return": BOTH,
    "ngx.exit(ngx.OK)": BOTH,
    "ngx.exit(444)": TERMINATED,
    "ngx.exit(ngx.ERROR)": TERMINATED,
    'error("on purpose")': TERMINATED,
}
for number, (code, directives) in enumerate(TIMERS.items()):
    case.handler(f"/never{number}", PENDING % code, directives)
    case.handler(f"/slowly{number}", PENDING % code, directives.replace(f"{LIMIT}ms", f"{4 * LIMIT}ms"))


@case("a peer that never reads is dropped after the send time-out", logs=PURPOSE)
def _(ng):
    for number, code in enumerate(TIMERS):
        peer = Peer(ng, f"/never{number}", window=16384)
        await_(lambda: ng.sessions() == 1, "the session")
        began = time.monotonic()
        peer.signal()
        await_(lambda: ng.connections() == 0, f"{code}: the connection is dropped")
        took = time.monotonic() - began
        assert took > LIMIT / 1000 * 0.9, f"{code}: dropped after {took:.2f} s"
        peer.close()


@case("a peer that reads slowly is not dropped while it makes progress", logs=PURPOSE)
def _(ng):
    peers, got = [], [b""] * len(TIMERS)
    for number, _ in enumerate(TIMERS):
        peers.append(Peer(ng, f"/slowly{number}", window=16384))
        equal(peers[-1].peek(2), b"\x82\x7f")  # the timer has run
        peers[-1].signal()
    began = time.monotonic()
    # Half a MiB at a time, the pauses in between well below the time-out, their sum above it.
    for _ in range(8):
        time.sleep(LIMIT / 1000)
        got = [had + peer.exactly(SIZE // 8) for had, peer in zip(got, peers)]
    assert time.monotonic() - began > 4 * LIMIT / 1000 * 1.5
    for code, had, peer in zip(TIMERS, got, peers):
        equal(len(had + peer.rest()), SIZE + 10, code)
        peer.close()


case.handler("/rate", f"""
    local wb = live.open{{ max_payload_len = {SIZE} }}
    ngx.timer.at(0, function() wb:send_binary(("p"):rep({SIZE})) end)
    live.take_signal()
""", "limit_rate 50;" + BOTH)


@case("limit_rate, which the handshake already exceeds, does not switch the send timer off")
def _(ng):
    peer = Peer(ng, "/rate", window=16384)
    await_(lambda: ng.sessions() == 1, "the session")
    peer.signal()
    await_(lambda: ng.connections() == 0, "the connection is dropped")
    peer.close()


case.handler("/stalled", f"""
    local wb = live.open{{ max_payload_len = 2^20, timeout = {LIMIT} }}
    local function push(_, live, wb, id, state)
        if state.done then return end
        ngx.timer.at({LIMIT / 1000 / 5}, state.push, live, wb, id, state)
        local ok, err = wb:send_binary(("x"):rep(100000))
        if not ok then
            state.done = true
            live.report_as(id, "failed", err)
        end
    end
    local state = {{ push = push }}
    for _ = 1, 12 do
        ngx.timer.at(0, push, live, wb, ngx.var.arg_id, state)
    end
    live.take_signal()
    state.done = true
    ngx.exit(444)
""")


@case("a stalled peer times out although new sends keep coming")
def _(ng):
    peer = Peer(ng, "/stalled", window=16384)
    equal(peer.report(patience=LIMIT / 1000 * 4), "failed | failed to send frame: timeout")
    peer.rst()
    peer.signal()


case.handler("/parked-writer", f"""
    local wb = live.open{{ max_payload_len = {SIZE} }}
    -- By argument: a handler that is ended takes its variables with it.
    ngx.timer.at(0, function(_, live, wb, id)
        live.report_as(id, "writer", wb:send_binary(("p"):rep({SIZE})))
        live.report_as(id, "after", wb:send_text("x"))
    end, live, wb, ngx.var.arg_id)
    live.take_signal()
    ngx.exit(444)
""")


@case("a writer of another request is woken when the session's own request ends")
def _(ng):
    peer = Peer(ng, "/parked-writer", window=16384)
    equal(peer.exactly(2), b"\x82\x7f")
    peer.signal()
    equal(peer.report(), "writer | nil | failed to send frame: closed")
    equal(peer.report(), "after | nil | closed")
    equal(len(peer.rest()), SIZE + 8)  # what was queued is sent to the end
    peer.close()


case.handler("/reset-while-draining", PENDING % "ngx.exit(ngx.OK)")


@case("a peer that resets while output drains")
def _(ng):
    peer = Peer(ng, "/reset-while-draining", window=16384)
    equal(peer.exactly(2), b"\x82\x7f")
    peer.signal()
    peer.rst()


run(case, listen="sndbuf=32k")
