BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# The peer leaves or falls silent at every point of a frame: FIN, RST, and half a frame followed by
# nothing (the read times out, then the rest comes and the frame is whole).
import hashlib
import time

from lib.live import VALGRIND, Cases, await_, equal, run
from lib.peer import BINARY_FRAME, TEXT, Peer, frame, head

case = Cases()
PAYLOAD = bytes(n % 251 for n in range(60000))
MD5 = hashlib.md5(PAYLOAD).hexdigest()
BIG = bytes(n % 241 for n in range(300000))
BIG_MD5 = hashlib.md5(BIG).hexdigest()

# Where a frame can be cut, and what the read that waits there is called.
FIRST2 = "failed to receive the first 2 bytes"
CUTS = [
    (b"", FIRST2),
    (frame(BINARY_FRAME, PAYLOAD)[:1], FIRST2),
    (frame(BINARY_FRAME, PAYLOAD)[:2], "failed to receive the 2 byte payload length"),
    (frame(BINARY_FRAME, PAYLOAD)[:3], "failed to receive the 2 byte payload length"),
    (frame(BINARY_FRAME, BIG)[:2], "failed to receive the 8 byte payload length"),
    (frame(BINARY_FRAME, BIG)[:9], "failed to receive the 8 byte payload length"),
    (frame(BINARY_FRAME, b"")[:4], "failed to read masking-len and payload"),
    (frame(BINARY_FRAME, PAYLOAD)[:6], "failed to read masking-len and payload"),
    (frame(BINARY_FRAME, PAYLOAD)[:8], "failed to read masking-len and payload"),
    (frame(BINARY_FRAME, PAYLOAD)[:30000], "failed to read masking-len and payload"),
    (frame(BINARY_FRAME, PAYLOAD)[:-1], "failed to read masking-len and payload"),
    (frame(BINARY_FRAME, BIG)[:-1], "failed to read masking-len and payload"),
]

case.handler("/read", """
    local wb = live.open{ max_payload_len = 400000, timeout = 60000 }
    live.report("open")
    repeat
        local data, typ, err = wb:recv_frame()
        live.report(data, typ, err, wb.fatal)
    until not data
    live.report(wb:recv_frame())
    live.report(wb:send_text("x"))
""")


def refused_after(peer):
    equal(peer.report(), "nil | nil | fatal error already happened")
    equal(peer.report(), "nil | fatal error already happened")


@case("FIN at every point of a frame")
def _(ng):
    for data, stage in CUTS:
        peer = Peer(ng, "/read")
        equal(peer.report(), "open")
        peer.send(frame(TEXT, "whole") + data)
        peer.fin()
        equal(peer.report(), "whole | text | nil | nil")
        equal(peer.report(), f"nil | nil | {stage}: closed | true", f"after {len(data)} bytes")
        refused_after(peer)
        equal(peer.rest(), b"")
        peer.close()


@case("FIN in the packet of the handshake")
def _(ng):
    for data, stage in CUTS[:4]:
        peer = Peer(ng, "/read", first=frame(TEXT, "whole") + data)
        peer.fin()
        equal(peer.report(), "open")
        equal(peer.report(), "whole | text | nil | nil")
        equal(peer.report(), f"nil | nil | {stage}: closed | true", f"after {len(data)} bytes")
        refused_after(peer)
        peer.close()


@case("RST at every point of a frame")
def _(ng):
    for data, stage in CUTS:
        peer = Peer(ng, "/read")
        equal(peer.report(), "open")
        peer.send(frame(TEXT, "whole"))
        equal(peer.report(), "whole | text | nil | nil")
        peer.send(data)
        # The bytes have to be read before the reset, which throws away what is not.
        read_all(ng)
        peer.rst()
        equal(peer.report(), f"nil | nil | {stage}: connection reset by peer | true",
              f"after {len(data)} bytes")
        refused_after(peer)


def read_all(ng):
    """Until the worker has taken everything from its sockets' receive queues."""
    def queues():
        with open("/proc/net/tcp") as f:
            mine = [line.split() for line in f.readlines()[1:]]
        return [row[4].split(":")[1] for row in mine
                if int(row[1].split(":")[1], 16) == ng.port and row[3] == "01"]
    await_(lambda: all(int(queue, 16) == 0 for queue in queues()), "nginx reads everything")


case.handler("/patient", """
    local wb = live.open{ max_payload_len = 400000, timeout = 60 }
    local timeouts, last = 0
    while true do
        local data, typ, err = wb:recv_frame()
        if not data and err:find(": timeout", 1, true) then
            assert(not wb.fatal)
            timeouts, last = timeouts + 1, err
            if timeouts == 2 then
                live.report(err)
            end
        elseif data then
            live.report(timeouts >= 2, data, typ, err)
            wb:send_text("read")
        else
            return
        end
    end
""")


@case("half a frame, silence, the rest: the frame is whole")
def _(ng):
    for data, stage in CUTS[1:]:
        peer = Peer(ng, "/patient")
        peer.send(data)
        equal(peer.report(), f"{stage}: timeout", f"after {len(data)} bytes")
        whole = next(f for f in (frame(BINARY_FRAME, b""), frame(BINARY_FRAME, PAYLOAD),
                                 frame(BINARY_FRAME, BIG))
                     if f.startswith(data) and len(f) > len(data)
                     or f == data and len(data) == 6) if len(data) > 1 else \
            frame(BINARY_FRAME, PAYLOAD)
        peer.send(whole[len(data):])
        expected = {6: "", len(PAYLOAD) + 8: f"60000 bytes {MD5}",
                    len(BIG) + 14: f"300000 bytes {BIG_MD5}"}[len(whole)]
        equal(peer.report(), f"true | {expected} | binary | nil", f"after {len(data)} bytes")
        equal(peer.frame(), (TEXT, b"read"))
        peer.close()


case.handler("/drip", """
    local wb = live.open{ timeout = %d }
    live.report(wb:recv_frame())
""" % (4000 if VALGRIND else 400))


@case("the time-out is for silence, not for the frame")
def _(ng):
    peer = Peer(ng, "/drip")
    for byte in frame(TEXT, "drop by drop"):
        time.sleep(0.5 if VALGRIND else 0.05)  # 18 bytes: twice the time-out in all
        peer.send(bytes([byte]))
    equal(peer.report(), "drop by drop | text | nil")
    peer.close()


case.handler("/late", """
    local wb = live.open()
    live.report("open")
    live.take_signal()
    live.report("frame", wb:recv_frame())
    live.report("end", wb:recv_frame())
""")


@case("what came before FIN is read although nobody waited for it")
def _(ng):
    peer = Peer(ng, "/late")
    equal(peer.report(), "open")
    peer.send(frame(TEXT, "last words"))
    peer.fin()
    peer.signal()
    equal(peer.report(), "frame | last words | text | nil")
    equal(peer.report(), f"end | nil | nil | {FIRST2}: closed")
    peer.close()


case.handler("/answer-after-fin", """
    local wb = live.open()
    live.report(wb:recv_frame())
    live.report((wb:send_text("still there?")))
    live.report(wb:recv_frame())
""")


@case("a half-closed peer can still be answered")
def _(ng):
    peer = Peer(ng, "/answer-after-fin", first=frame(TEXT, "question"))
    peer.fin()
    equal(peer.report(), "question | text | nil")
    equal(peer.report(), "14")
    equal(peer.frame(), (TEXT, b"still there?"))
    equal(peer.report(), f"nil | nil | {FIRST2}: closed")
    equal(peer.rest(), b"")
    peer.close()


case.handler("/send-on", """
    local wb = live.open{ max_payload_len = 2^20 }
    live.report("open")
    live.take_signal()
    local payload = ("s"):rep(tonumber(ngx.var.arg_size))
    for n = 1, 1000 do
        local ok, err = wb:send_text(payload)
        if not ok then
            live.report(n < 1000, err, wb.fatal)
            return live.report(wb:send_text("x"))
        end
        ngx.sleep(0.001)
    end
    live.report("never told")
""")


@case("sending to a peer that reset the connection")
def _(ng):
    for size in 5, 20000, 1000000:
        peer = Peer(ng, f"/send-on?size={size}")
        equal(peer.report(), "open")
        peer.rst()
        peer.signal()
        got = peer.report()
        assert got in ("true | failed to send frame: broken pipe | true",
                       "true | failed to send frame: connection reset by peer | true"), got
        equal(peer.report(), "nil | fatal error already happened")


@case("sending to a peer that closed")
def _(ng):
    peer = Peer(ng, "/send-on?size=5")
    equal(peer.report(), "open")
    peer.close()
    peer.signal()
    got = peer.report()
    assert got in ("true | failed to send frame: broken pipe | true",
                   "true | failed to send frame: connection reset by peer | true"), got


@case("a peer that leaves in the middle of the opening handshake")
def _(ng):
    request = head("/read?id=handshake")
    for how in "fin", "rst":
        for cut in 1, 20, len(request) - 2:
            peer = Peer(ng, request=request[:cut])
            read_all(ng)
            if how == "fin":
                peer.fin()
                peer.rest()
                peer.close()
            else:
                peer.rst()


run(case)
