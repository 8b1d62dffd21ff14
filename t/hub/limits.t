BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# What one connection may take, by directives: messages in a time, and time; of accept(), of
# websocket_subscribe and of drop-in objects. Subscriptions are in feeds.t.
import struct

from lib.live import Cases, equal, run
from lib.peer import CLOSE, PING, PONG, TEXT, Peer, frame

case = Cases()
# Slow enough that no message of a test comes in its time; a second's burst where none is given.
RATE = "websocket_rate 1r/m burst=3;"
case.server += """
    location = /rate { %s websocket_subscribe rated; websocket_publish_from_client on; }
    location = /free { websocket_rate 0; websocket_subscribe rated; }
    location = /minute { websocket_rate 2r/m; websocket_subscribe rated; }
    location = /short { websocket_max_lifetime 50ms; websocket_subscribe lives; }
    location = /spread { websocket_max_lifetime 1ms over=100ms; websocket_subscribe lives; }
    location = /long { websocket_max_lifetime 0; websocket_subscribe lives; }
""" % RATE
OPEN = 'local ws = assert(require("resty.websocket").accept())'
case.handler("/messages", OPEN + """
    for data in ws:messages() do live.report(data) end
    live.report(ws:close_info())
""", RATE)
case.handler("/drop-in", """
    local wb = live.open()
    live.report(live.echo(wb))
""", RATE)
case.handler("/ages", OPEN + """
    live.report(ws:recv())
    live.report(ws:close_info())
""", "websocket_max_lifetime 50ms;")
case.handler("/drop-in-ages", "live.report((select(3, live.open():recv_frame())))",
             "websocket_max_lifetime 50ms; lua_socket_log_errors off;")
HTTP = "websocket_max_lifetime 1d;"


def goodbye(code, reason):
    return CLOSE, struct.pack(">H", code) + reason


@case("more messages than allowed: 1008, once those before are told")
def _(ng):
    hears, says = Peer(ng, "/free"), Peer(ng, "/rate")
    says.send(b"".join(frame(TEXT, str(n)) for n in range(4)) + frame(PING, b"?"))
    for n in range(4):
        equal(hears.frame(), (TEXT, b"%d" % n))
    heard = [says.frame() for n in range(5)]
    assert (PONG, b"?") in heard, heard
    says.send(frame(TEXT, "4"))
    equal(says.frame(), goodbye(1008, b"too many messages"))
    equal(says.rest(), b"")
    says.close()
    hears.send(b"".join(frame(TEXT, "x") for _ in range(100)) + frame(PING, b"!"))
    equal(hears.frame(), (PONG, b"!"))
    hears.close()
    assert "websocket peer broke a rule: too many messages (rate)" in ng.read_log()


@case("more messages than allowed: all at once, in one packet, in fragments")
def _(ng):
    fragments = frame(0x01, "y") + frame(0x80, "z")
    for messages in frame(TEXT, "yz") * 5, fragments * 5:
        peer = Peer(ng, "/messages", first=messages)
        for _ in range(4):
            equal(peer.report(), "yz")
        equal(peer.report(), "1008 | too many messages | false")
        equal(peer.frame(), goodbye(1008, b"too many messages"))
        peer.close()


@case("a rate without a burst has its own number for one")
def _(ng):
    peer = Peer(ng, "/minute", first=frame(TEXT, "x") * 3 + frame(PING, b"?"))
    equal(peer.frame(), (PONG, b"?"))
    peer.send(frame(TEXT, "x"))
    equal(peer.frame(), goodbye(1008, b"too many messages"))
    peer.close()


@case("frames of a drop-in object are its handler's")
def _(ng):
    peer = Peer(ng, "/drop-in")
    peer.send(frame(TEXT, "x") * 50)
    for _ in range(50):
        equal(peer.frame(), (TEXT, b"x"))
    peer.send(frame(CLOSE))
    equal(peer.report(), "nil")
    peer.close()


@case("a lifetime ends with 1001")
def _(ng):
    peers = [Peer(ng, path) for path in ["/short"] + ["/spread"] * 10 + ["/ages", "/drop-in-ages"]]
    for peer in peers:
        equal(peer.frame(), goodbye(1001, b"lifetime is over"))
    equal(peers[-2].report(), "nil | closed | 1001 | lifetime is over")
    equal(peers[-2].report(), "1001 | lifetime is over | false")
    peers[-1].report()
    for peer in peers:
        peer.close()
    peer = Peer(ng, "/long")
    peer.send(frame(PING, b"?"))
    equal(peer.frame(), (PONG, b"?"))
    peer.close()


run(case, http=HTTP)
