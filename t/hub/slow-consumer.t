BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# A subscriber that does not read while messages are published: it is closed with 1013, and what
# was already on its way to it stays whole, a frame whose beginning the kernel has taken included.
import struct

from lib.live import Cases, equal, run
from lib.peer import BINARY_FRAME, CLOSE, Peer

case = Cases()
SIZE = 3 << 20

case.handler("/large-then-published", f"""
    local websocket = require "resty.websocket"
    local wb = assert(websocket.accept())
    assert(wb:subscribe("t"))
    ngx.timer.at(0, function(_, wb) wb:send(("l"):rep({SIZE}), "binary") end, wb)
    ngx.sleep(0.01)
    live.report("published", websocket.publish("t", ("p"):rep(300000)))
    live.report("recv", wb:recv())
""")


@case("the frame that was being sent arrives whole, the close frame behind it")
def _(ng):
    peer = Peer(ng, "/large-then-published", window=16384)
    equal(peer.report(), "published | 1 | 0")
    equal(peer.report(), "recv | nil | slow consumer | 1013 | slow consumer")
    equal(peer.frame(), (BINARY_FRAME, b"l" * SIZE))
    equal(peer.frame(), (CLOSE, struct.pack(">H", 1013) + b"slow consumer"))
    equal(peer.rest(), b"")
    peer.close()


run(case, listen="sndbuf=32k")
