BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# TLS whose reads wait for the kernel to take something (t/lib/wants.c): nginx puts a handler of its own in
# the place of the write event's then, and puts back later the one that it has saved, whoever has the
# connection by then.
import sys

from lib.live import PORT, Cases, Tap, await_, equal
from lib.memory import CHECKED, SKIPPED
from lib.peer import CLOSE, TEXT, Peer, context, frame
from lib.preload import Library, Preloaded

case = Cases()
BYE = frame(CLOSE, b"\x03\xe8")
case.server = """
    location = /echo { content_by_lua_block { require("resty.websocket").serve{
        on_message = function(ws, data, typ) ws:send(data, typ) end } } }
    location = /stuck { websocket_send_timeout 300ms; send_timeout 300ms; websocket_send_buffer 8m; content_by_lua_block {
        local ws = require("resty.websocket").accept()
        require("live").take_signal()
        ws:send(("x"):rep(6000000)) } }
    location = /last { websocket_send_buffer 8m; content_by_lua_block {
        local mark = "signal " .. ngx.var.arg_id
        require("resty.websocket").serve{ on_open = function(ws)
            while not ngx.shared.live:lpop(mark) do ngx.sleep(0.005) end
            ws:send(("x"):rep(6000000))
            ws:close(1000, "", 0) end } } }
    location = /large { websocket_send_buffer 8m; content_by_lua_block {
        local ws = require("resty.websocket").accept()
        ws:send(("x"):rep(6000000)) } }
    } server { listen 127.0.0.1:OTHER;
    location = /live/signal { content_by_lua_block { require("live").signal() } }
    location = /open { content_by_lua_block { require("live").info() } }
    location = /live/take { content_by_lua_block { require("live").take() } }
    location = /live/status { stub_status; }
""".replace("OTHER", str(PORT + 1))


class Waits(Preloaded):
    """nginx with t/lib/wants.c, asked where there is no TLS."""

    def get(self, path, port=None, **more):
        return super().get(path, port=port or PORT + 1, **more)


def wants(well, wanting):
    """After so many reads, so many wait."""
    library[2], library[0], library[1] = 0, well, wanting


def wanted():
    """How many have waited."""
    return library[2]


def ends(ng, peer):
    peer.close()
    await_(lambda: ng.get("/open") == "0", "the end")


def handed_over(ng):
    """The read that found the request waits: the connection has others' handlers afterwards."""
    for path in "/echo", "/large":
        wants(1, 1)
        peer = Peer(ng, path, tls=context(), window=4096)
        if path == "/echo":
            peer.send(frame(TEXT, b"x" * 200000))
        equal(peer.frame(), (TEXT, b"x" * (200000 if path == "/echo" else 6000000)))
        assert wanted(), "no read has waited"
        peer.send(BYE)
        equal(peer.frame()[0], CLOSE)
        ends(ng, peer)


def parted(ng):
    """A connection without a request waits, and gets one again to end by."""
    peer = Peer(ng, "/last", tls=context(), window=4096)
    await_(lambda: ng.get("/open") == "1", "it is there")
    wants(0, 255)
    peer.send(frame(TEXT, "hello"))
    await_(wanted, "a read waits")
    peer.signal()
    await_(lambda: ng.get("/open") == "0", "it has ended")
    wants(0, 0)
    peer.send(frame(TEXT, "goodbye"))
    equal(peer.frame(), (TEXT, b"x" * 6000000))
    equal(peer.frame(), (CLOSE, b"\x03\xe8"))
    ends(ng, peer)


def echoed(ng):
    """A read of a connection without a request waits for a moment."""
    peer = Peer(ng, "/echo", tls=context())
    for n in range(1, 20):
        wants(0, n % 3)
        peer.send(frame(TEXT, b"y" * 5000 * n))
        equal(peer.frame(), (TEXT, b"y" * 5000 * n))
    peer.send(BYE)
    equal(peer.frame(), (CLOSE, b"\x03\xe8"))
    ends(ng, peer)


def stuck(ng):
    """The handler has returned, its output waits for the client, and so does a read."""
    peer = Peer(ng, "/stuck", tls=context(), window=4096)
    wants(0, 255)
    peer.send(frame(TEXT, "hello"))
    await_(wanted, "a read waits")
    peer.signal()
    await_(lambda: ng.get("/open") == "0", "the end")
    wants(0, 0)
    ends(ng, peer)


if CHECKED:
    print(f"1..0 # SKIP {SKIPPED}")
    sys.exit()
tap = Tap()
library = Library("wants", 3)
ng = Waits(library, listen="ssl")
ng.write(prelude=ng.certificate(), server=case.server)
with ng.running(tap):
    for body in handed_over, parted, echoed, stuck:
        def one(body=body):
            worker = ng.children()
            body(ng)
            equal(ng.children(), worker, "the worker")
            loud = ng.loud()
            assert not loud, "nginx logged:\n" + "\n".join(loud[:10])
        tap.attempt(body.__doc__.rstrip("."), one)
