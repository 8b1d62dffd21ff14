BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# How TCP ends after the close handshake: nginx ends its side of the stream and lingers, as long as its
# directives say, so that whatever the peer still has on its way meets no reset, which could take our
# last bytes from it (RFC 6455 7.1.1).
from lib.live import Cases, await_, equal, run
from lib.peer import CLOSE, PONG, TEXT, Peer, frame

case = Cases()
BYE = frame(CLOSE, b"\x03\xe8")
RUBBISH = frame(TEXT, "x" * 60000)

ANSWERS = """
    local wb = live.open{ max_payload_len = 100000 }
    local _, typ, code = wb:recv_frame()
    if typ == "close" then
        wb:send_close(code, "")
    end
"""
case.handler("/frames/answers", ANSWERS)
case.handler("/frames/off", ANSWERS, "lingering_close off;")
case.server += """
        location = /push {
            websocket_subscribe room;
        }
"""
case.handler("/frames/asks", """
    local wb = live.open()
    wb:send_close(1000, "")
    live.report(wb:recv_frame())
""")
case.handler("/frames/leaves", """
    live.open():send_close(1000, "")
""")
case.handler("/messages/answers", """
    local ws = require("resty.websocket").accept()
    live.report(ws:recv())
""")
case.handler("/messages/asks", """
    local ws = require("resty.websocket").accept()
    live.report(ws:close(1000, "", 60000))
""")
case.handler("/messages/returns", """
    require("resty.websocket").accept()
    live.take_signal()
""")
case.handler("/messages/raises", """
    require("resty.websocket").accept()
    live.take_signal()
    error("no more")
""")
case.handler("/messages/stays", """
    local ws = require("resty.websocket").accept()
    live.report(ws:recv())
    live.take_signal()
""")


def ended(peer, code=b"\x03\xe8"):
    """The peer has read the close frame and the end of the stream. It has not closed yet."""
    equal(peer.frame(), (CLOSE, code))
    equal(peer.rest(), b"")


def lingers(ng, peer):
    equal(ng.connections(), 1)
    # Were there a reset, the second of these would fail.
    for _ in range(2):
        peer.send(RUBBISH)
        equal(ng.connections(), 1)
    peer.close()
    await_(lambda: ng.connections() == 0, "nginx closes")


@case("the peer closes")
def _(ng):
    for path in "/frames/answers", "/messages/answers":
        peer = Peer(ng, path)
        peer.send(BYE)
        ended(peer)
        lingers(ng, peer)


@case("the peer closes, its frame in two packets")
def _(ng):
    for path in "/frames/answers", "/messages/answers":
        peer = Peer(ng, path)
        peer.send(BYE[:3])
        ng.get("/live/status")
        peer.send(BYE[3:])
        ended(peer)
        lingers(ng, peer)


@case("the close frame comes with the request")
def _(ng):
    for path in "/frames/answers", "/messages/answers":
        peer = Peer(ng, path, first=BYE)
        ended(peer)
        lingers(ng, peer)


@case("the handler closes, and the peer answers")
def _(ng):
    for path in "/frames/asks", "/messages/asks":
        peer = Peer(ng, path)
        equal(peer.frame(), (CLOSE, b"\x03\xe8"))
        peer.send(BYE)
        equal(peer.rest(), b"")
        lingers(ng, peer)


@case("bytes behind the close frame")
def _(ng):
    for path in "/frames/answers", "/messages/answers":
        peer = Peer(ng, path)
        peer.send(BYE + frame(TEXT, "a rule is broken"))
        ended(peer)
        lingers(ng, peer)


@case("more behind the close frame than one read takes")
def _(ng):
    for path in "/frames/answers", "/messages/answers":
        peer = Peer(ng, path)
        peer.send(BYE + RUBBISH * 3)
        ended(peer)
        lingers(ng, peer)


@case("the handler closes and leaves")
def _(ng):
    peer = Peer(ng, "/frames/leaves")
    ended(peer)
    lingers(ng, peer)


@case("the handler returns, or raises", logs="no more")
def _(ng):
    for path, code in ("/messages/returns", b"\x03\xe8"), ("/messages/raises", b"\x03\xf3"):
        peer = Peer(ng, path)
        peer.signal()
        ended(peer, code)
        lingers(ng, peer)


@case("the handler returns, or raises, while the peer sends", logs="no more")
def _(ng):
    for path, code in ("/messages/returns", b"\x03\xe8"), ("/messages/raises", b"\x03\xf3"):
        peer = Peer(ng, path)
        peer.signal()
        # More than is read of it: the rest lies in the kernel.
        peer.send(RUBBISH * 100)
        ended(peer, code)
        lingers(ng, peer)


@case("a broken rule")
def _(ng):
    peer = Peer(ng, "/messages/answers")
    peer.send(b"\xf1\x80aaaa")
    equal(peer.frame()[1][:2], b"\x03\xea")
    equal(peer.rest(), b"")
    lingers(ng, peer)


@case("lingering_close off")
def _(ng):
    peer = Peer(ng, "/frames/off")
    peer.send(BYE)
    ended(peer)
    await_(lambda: ng.connections() == 0, "nginx closes at once")
    peer.close()


@case("a late pong meets no reset, for a connection without a handler neither")
def _(ng):
    for path in "/messages/answers", "/push":
        peer = Peer(ng, path)
        peer.send(BYE + frame(PONG, b"late"))
        ended(peer)
        lingers(ng, peer)


@case("the stream ends although the handler goes on")
def _(ng):
    peer = Peer(ng, "/messages/stays")
    peer.send(BYE)
    ended(peer)
    equal(ng.connections(), 1)
    peer.signal()
    await_(lambda: ng.connections() == 0, "nginx closes")
    peer.close()


run(case)
