BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Gone means gone: a connection that has ended counts nowhere, however long its handler goes on; and
# how it ended is said by the same number everywhere, for frames and for messages.
from lib.live import Cases, await_, equal, run
from lib.peer import CLOSE, Peer, frame

case = Cases()
BYE = frame(CLOSE, b"\x03\xe8")

case.handler("/numbers", """
    local websocket = require "resty.websocket"
    ngx.print(websocket.count("room"), " ", websocket.count())
""")
case.handler("/messages", """
    local ws = require("resty.websocket").accept()
    ws:subscribe("room")
    live.report(ws:recv())
    live.take_signal()
    live.report(ngx.var.websocket_close_code)
""")
case.handler("/frames", """
    local wb = live.open()
    wb:subscribe("room")
    local _, typ, code = wb:recv_frame()
    if typ == "close" then
        wb:send_close(1000, "")
    end
    live.report(typ, code)
    live.take_signal()
    live.report(ngx.var.websocket_close_code)
""")


def numbers(ng):
    """Subscribers of the room, and open connections."""
    return ng.get("/numbers").strip()


@case("a connection that has been closed counts no more, although its handler goes on")
def _(ng):
    for path, told in [("/messages", "nil | closed | 1000 | "), ("/frames", "close | 1000")]:
        peer = Peer(ng, path)
        await_(lambda: numbers(ng) == "1 1", "the subscription")
        peer.send(BYE)
        equal(peer.report(), told)
        await_(lambda: numbers(ng) == "0 0", f"{path} is gone")
        peer.signal()
        equal(peer.report(), "1000")
        peer.close()


@case("one that broke a rule, too, and its code says so")
def _(ng):
    peer = Peer(ng, "/frames")
    await_(lambda: numbers(ng) == "1 1", "the subscription")
    peer.send(b"\xf1\x80aaaa")
    equal(peer.report(), "nil | bad RSV1, RSV2, or RSV3 bits")
    await_(lambda: numbers(ng) == "0 0", "it is gone")
    peer.signal()
    equal(peer.report(), "1002")
    peer.close()


run(case)
