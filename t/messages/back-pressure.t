BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Messages and the kernel's buffers: a handler that does not receive, a peer that does not read, very
# large messages, and what a compressed bomb costs.
import hashlib
import select
import zlib

from lib.live import VALGRIND, Cases, await_, equal, run
from lib.memory import peak, within
from lib.peer import BINARY_FRAME, CLOSE, PING, PONG, TEXT, Peer, frame

case = Cases()
MIB = 1 << 20
SLOW = 5 if VALGRIND else 1
DEFLATE = ["Sec-WebSocket-Extensions: permessage-deflate"]


def deflated(data):
    """A message's payload by RFC 7692 7.2.1."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


OPEN = """
    local websocket = require "resty.websocket"
    local ws = assert(websocket.accept%s)
"""

case.handler("/late", OPEN % "{ max_message_size = '4m' }" + """
    live.report("waiting")
    live.take_signal()
    local n, bytes, sum = 0, 0, ngx.md5("")
    for data in ws:messages() do
        n, bytes, sum = n + 1, bytes + #data, ngx.md5(sum .. data)
    end
    live.report(n, bytes, sum, ws:close_info())
""")


def send_until_blocked(peer, data):
    """How many bytes the kernels take; the rest is not sent."""
    sent = 0
    peer.sock.setblocking(False)
    while select.select([], [peer.sock], [], 0.3 * SLOW)[1] and sent < len(data):
        sent += peer.sock.send(data[sent:sent + 65536])
    peer.sock.settimeout(60)
    return sent


def late(ng, size, count):
    peer = Peer(ng, "/late")
    equal(peer.report(), "waiting")
    messages = [b"%06d" % n + b"m" * (size - 6) for n in range(count)]
    data = b"".join(frame(BINARY_FRAME, m) for m in messages) + frame(CLOSE, b"\x03\xe8")
    sent = send_until_blocked(peer, data)
    assert sent < len(data), "nothing held the sender back"
    assert sent < 12 * MIB, f"{sent} bytes were taken for a handler that does not receive"
    peer.signal()
    peer.send(data[sent:])
    total = hashlib.md5(b"").hexdigest()
    for m in messages:
        total = hashlib.md5(total.encode() + m).hexdigest()
    equal(peer.report(30 * SLOW), f"{count} | {count * size} | {total} | 1000 |  | true")
    equal(peer.frame(), (CLOSE, b"\x03\xe8"))
    equal(peer.rest(), b"")
    peer.close()


@case("small messages for a handler that does not receive: TCP holds the sender, nothing is lost")
def _(ng):
    late(ng, 100, 300000 if not VALGRIND else 100000)


@case("the same with messages larger than the inbox")
def _(ng):
    late(ng, MIB, 24)


case.handler("/one-then-wait", OPEN % "{}" + """
    live.take_signal()
    live.report(ws:recv())
    live.take_signal()
    local n = 0
    for _ in ws:messages() do n = n + 1 end
    live.report(n, ws:close_info())
""")


@case("a full inbox answers no ping; with the first message taken it does")
def _(ng):
    peer = Peer(ng, "/one-then-wait", b"".join(frame(TEXT, b"m") for _ in range(64)))
    peer.send(frame(PING, b"behind them"))
    assert not select.select([peer.sock], [], [], 0.1 * SLOW)[0], "the ping was read"
    peer.signal()
    equal(peer.report(), "m | text | nil | nil")
    equal(peer.frame(), (PONG, b"behind them"))
    peer.send(frame(CLOSE, b"\x03\xe8"))
    equal(peer.frame(), (CLOSE, b"\x03\xe8"))
    peer.signal()
    equal(peer.report(), "63 | 1000 |  | true")
    equal(peer.rest(), b"")
    peer.close()


case.handler("/echo", OPEN % "{ max_message_size = '32m' }" + """
    for data, typ in ws:messages() do
        local ok, err = ws:send(data, typ)
        if not ok then return live.report(err) end
    end
    live.report(ws:close_info())
""")
case.handler("/packed-echo", OPEN % "{ max_message_size = '32m', compression = true }" + """
    for data, typ in ws:messages() do ws:send(data, typ) end
    live.report(ws:close_info())
""")


def text(size):
    words = b"".join(b"%d bottles, " % (n * n) for n in range(20000))
    return (words * (size // len(words) + 1))[:size]


@case("1 MiB and 16 MiB, there and back, whole and in fragments")
def _(ng):
    peer = Peer(ng, "/echo", window=65536)
    for size in MIB, 16 * MIB:
        data = text(size)
        peer.send(frame(TEXT, data))
        equal(peer.frame(), (TEXT, data), f"{size} bytes")
        parts = [data[n:n + 99991] for n in range(0, size, 99991)]
        out = frame(0x02, parts[0]) + b"".join(frame(0x00, p) for p in parts[1:-1])
        peer.send(out + frame(0x80, parts[-1]))
        equal(peer.frame(), (BINARY_FRAME, data), f"{size} bytes in fragments")
    peer.send(frame(CLOSE, b"\x03\xe8"))
    equal(peer.rest(), b"\x88\x02\x03\xe8")
    equal(peer.report(), "1000 |  | true")
    peer.close()


@case("16 MiB compressed, there and back")
def _(ng):
    peer = Peer(ng, "/packed-echo", lines=DEFLATE)
    data = text(16 * MIB)
    peer.send(frame(0xC1, deflated(data)))
    first, packed = peer.frame()
    equal(first, 0xC1)
    equal(zlib.decompressobj(-15).decompress(packed + b"\0\0\xff\xff"), data)
    peer.send(frame(CLOSE, b"\x03\xe8"))
    equal(peer.rest(), b"\x88\x02\x03\xe8")
    equal(peer.report(), "1000 |  | true")
    peer.close()


case.handler("/small", OPEN % "{ max_message_size = '1m', compression = true }" + """
    live.report(ws:recv())
""")


@case("a bomb costs no more than the limit", memory=True)
def _(ng):
    worker, = ng.children()
    bomb = frame(0xC2, deflated(bytes(512 * MIB)))
    assert len(bomb) < MIB
    peer = Peer(ng, "/small", lines=DEFLATE)  # what the first connection needs once
    peer.send(frame(0xC2, deflated(bytes(MIB))))
    peer.report()
    peer.close()
    before = peak(worker)
    for _ in range(10):
        peer = Peer(ng, "/small", lines=DEFLATE)
        peer.send(bomb)
        equal(peer.frame(), (CLOSE, b"\x03\xf1exceeding max message len"))
        equal(peer.report(), "nil | exceeding max message len | 1009 | exceeding max message len")
        peer.close()
    within(peak(worker) - before, 4 * MIB)


@case("announced sizes cost nothing", memory=True)
def _(ng):
    worker, = ng.children()
    before = peak(worker)
    peers = [Peer(ng, "/echo", b"\x82\xff\0\0\0\0\x02\0\0\0\0\0\0\0") for _ in range(50)]
    for peer in peers:
        peer.send(b"x")
    for peer in peers:
        peer.close()
        equal(peer.report(), "1006 | connection lost | false")
    within(peak(worker) - before, 8 * MIB)


case.handler("/flood", OPEN % ("{ send_timeout = %d }" % (300 * SLOW)) + """
    live.report("buffered", ws:buffered())
    local n = 0
    repeat
        n = n + 1
        local ok, err = ws:send(("%08d"):format(n) .. ("f"):rep(100000 - 8), "binary")
        if not ok then
            live.report(err, n, ws:buffered() > 65536)
            live.report(ws:state())
            break
        end
    until n == 200
    live.report("sent", n)
""", "websocket_send_buffer 64k;")


@case("a peer that never reads: the send above the high-water mark fails after its time-out")
def _(ng):
    peer = Peer(ng, "/flood", window=16384)
    equal(peer.report(), "buffered | 0")
    err, n, over = peer.report(30 * SLOW).split(" | ")
    equal((err, over), ("timeout", "true"))
    n = int(n)
    equal(peer.report(), "open")
    equal(peer.report(), f"sent | {n}")
    # Not one byte of what was queued is missing, and of the message that timed out not one is there.
    for i in range(1, n):
        first, data = peer.frame()
        equal((first, data[:8], len(data)), (BINARY_FRAME, b"%08d" % i, 100000))
    equal(peer.rest(), b"\x88\x02\x03\xe8")
    peer.close()


@case("a peer that reads late: nothing fails")
def _(ng):
    peer = Peer(ng, "/flood", window=16384)
    equal(peer.report(), "buffered | 0")
    for i in range(1, 201):
        first, data = peer.frame()
        equal((first, data[:8], len(data)), (BINARY_FRAME, b"%08d" % i, 100000))
    equal(peer.report(), "sent | 200")
    equal(peer.rest(), b"\x88\x02\x03\xe8")
    peer.close()


case.handler("/pings", OPEN % "{}" + """
    live.take_signal()
    live.report(ws:buffered() < 1000000, ws:state())
    live.report(ws:recv())
""", "websocket_send_buffer 64k;")


@case("a peer that pings and never reads gets no more pongs than fit")
def _(ng):
    peer = Peer(ng, "/pings", window=4096)
    flood = frame(PING, b"p" * 125) * 40000
    peer.send(flood + frame(TEXT, b"end"))
    peer.signal()
    equal(peer.report(), "true | open")
    equal(peer.report(30 * SLOW), "end | text | nil | nil")
    pongs = 0
    rest, end = peer.rest().split(b"\x88", 1)
    equal(end, b"\x02\x03\xe8")
    while rest:
        equal(rest[:127], b"\x8a\x7d" + b"p" * 125)
        pongs, rest = pongs + 1, rest[127:]
    assert 1 < pongs < 40000, f"{pongs} pongs"
    peer.close()


case.handler("/reset", OPEN % "{}" + """
    live.report(ws:recv())
    live.report(ws:close_info())
    live.report(ws:send("x"))
""")


@case("a reset is named")
def _(ng):
    peer = Peer(ng, "/reset", frame(TEXT, b"half")[:7])
    await_(lambda: ng.sessions() == 1, "the session")
    peer.rst()
    equal(peer.report(), "nil | connection lost: connection reset by peer | 1006 | "
          "connection lost: connection reset by peer")
    equal(peer.report(), "1006 | connection lost: connection reset by peer | false")
    equal(peer.report(), "nil | closed")


case.handler("/leaves", OPEN % "()" + """
    live.report("sent", ws:send(("f"):rep(1048576), "binary"))
    live.report(ws:close(4000, "bye", 0))
""", "websocket_send_buffer 2m;")


@case("who closes and does not wait leaves output and close frame to a peer that reads later")
def _(ng):
    peer = Peer(ng, "/leaves", window=4096)
    equal(peer.report(), "sent | 1048586")
    equal(peer.report(), "nil | timeout")
    equal(peer.frame(), (BINARY_FRAME, b"f" * MIB))
    equal(peer.frame(), (CLOSE, b"\x0f\xa0bye"))
    equal(peer.rest(), b"")
    peer.close()


# valgrind lets nobody raise it.
run(case, listen="sndbuf=64k", main="" if VALGRIND else "worker_rlimit_nofile 4096;")
