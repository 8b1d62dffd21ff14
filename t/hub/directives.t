BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Directives of the hub where they are given on several levels: the nearest one counts, whole; content
# handlers hold for their own location alone. What nginx says to wrong ones is in
# t/operations/directives-refused.t.
import struct

from lib.live import Cases, Nginx, Tap, await_, equal
from lib.peer import CLOSE, TEXT, Peer, frame, head

tap = Tap()
case = Cases()
HTTP = """
    websocket_publish_from_client on;
    websocket_slow_consumer drop;
    websocket_send_buffer 32k;
    websocket_shutdown_close 4000 "from http";
"""
SUBSCRIBER = """
    local ws = assert(require("resty.websocket").accept())
    assert(ws:subscribe("slow"))
    live.report("open")
    ws:recv()
"""
case.server = """
    location = /inherits { websocket_subscribe room; }
    location = /says-no { websocket_subscribe room; websocket_publish_from_client off; }
    location /outer/ {
        websocket_publish_from_client off;
        websocket_shutdown_close 4001 "from outside" over=20ms;
        websocket_subscribe room;
        location /outer/none { }
        location /outer/inherits { websocket_subscribe room; }
        location /outer/own {
            websocket_subscribe room;
            websocket_publish_from_client on;
            websocket_shutdown_close 4002;
        }
        location /outer/off { websocket_subscribe room; websocket_shutdown_close off; }
    }
    location /status { websocket_status; location /status/none { } }
    location /publish { websocket_publish room; location /publish/none { } }
"""
case.handler("/drops", SUBSCRIBER)
case.handler("/closes", SUBSCRIBER, "websocket_slow_consumer close;")
case.handler("/more", SUBSCRIBER, "websocket_send_buffer 64m;")
case.handler("/burst", """
    local websocket = require "resty.websocket"
    for n = 1, 300 do websocket.publish("slow", ("s"):rep(32000)) end
    local slow = websocket.info().slow_consumers
    ngx.print(slow.dropped > 0 and "dropped" or "", slow.closed > 0 and "closed" or "")
""")


def nginx(name, **sections):
    """Decorator: a case with an nginx of its own."""
    def run(body):
        def attempt():
            ng = Nginx(server=case.server, http=HTTP, listen="sndbuf=16k", **sections)
            try:
                ng.start()
                body(ng)
                equal(ng.stop(), 0)
                loud = ng.loud()
                assert not loud, "nginx logged:\n" + "\n".join(loud[:10])
                found = ng.valgrind_findings()
                assert not found, "valgrind:\n" + "\n".join(found[:200])
            finally:
                ng.kill()
        tap.attempt(name, attempt)
    return run


@nginx("websocket_publish_from_client")
def _(ng):
    listener = Peer(ng, "/inherits")
    for path, publishes in [("/inherits", True), ("/says-no", False), ("/outer/x", False),
                            ("/outer/inherits", False), ("/outer/own", True)]:
        peer = Peer(ng, path)
        peer.send(frame(TEXT, f"from {path}"))
        peer.send(frame(CLOSE, b"\x03\xe8"))
        if publishes:
            equal(peer.frame(), (TEXT, f"from {path}".encode()))
            equal(listener.frame(), (TEXT, f"from {path}".encode()))
        equal(peer.frame(), (CLOSE, b"\x03\xe8"), path)
        peer.close()
    ng.get("/live/open")
    listener.send(frame(TEXT, "the end"))
    equal(listener.frame(), (TEXT, b"the end"), "nothing came from the others")
    listener.close()


@nginx("websocket_shutdown_close: code, reason and time as a whole")
def _(ng):
    told = {path: Peer(ng, path) for path in
            ("/inherits", "/outer/x", "/outer/inherits", "/outer/own", "/outer/off")}
    ng.signal("HUP")
    for path, code, reason in [("/inherits", 4000, b"from http"), ("/outer/x", 4001, b"from outside"),
                               ("/outer/inherits", 4001, b"from outside"), ("/outer/own", 4002, b"")]:
        equal(told[path].frame(), (CLOSE, struct.pack(">H", code) + reason), path)
        told[path].close()
    off = told["/outer/off"]
    off.send(frame(CLOSE, b"\x03\xe8"))
    equal(off.frame(), (CLOSE, b"\x03\xe8"), "nothing was said before")
    off.close()


for path, expected in [("/drops", "dropped"), ("/closes", "closed"), ("/more", "")]:
    @nginx(f"websocket_slow_consumer, websocket_send_buffer: {path[1:]}")
    def _(ng, path=path, expected=expected):
        peer = Peer(ng, path, window=4096)
        equal(peer.report(), "open")
        equal(ng.get("/burst"), expected)
        peer.rst()
        await_(lambda: ng.sessions() == 0, "it is gone")


@nginx("content handlers hold for their own location")
def _(ng):
    assert ng.get("/status").startswith("{")
    for path in "/status/none", "/publish/none", "/outer/none":
        peer = Peer(ng, request=head(path))
        equal(peer.until(b"\r\n")[9:12], b"404", path)
        peer.close()
    ng.loud("is not found|No such file")


tap.done()
