BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# websocket_shutdown_close: what connections are told when their worker is told to quit, by default and
# as the directive says, and that nothing is said where it is off. The worker is replaced by a reload.
import time

from lib.live import VALGRIND, Cases, await_, equal, run
from lib.peer import CLOSE, TEXT, Peer, frame

case = Cases()
SLOW = 5 if VALGRIND else 1

MESSAGES = """
    local ws = assert(require("resty.websocket").accept())
    live.report("open")
    live.report(ws:recv())
    live.report(ws:state(), ws:close_info())
    live.report(ws:send("too late"))
"""
FRAMES = """
    local wb = live.open { timeout = 60000 }
    live.report("open")
    live.report(wb:recv_frame())
    live.report(wb:send_text("last words"))
"""

case.handler("/default", MESSAGES)
case.handler("/given", MESSAGES, 'websocket_shutdown_close 4001 "back soon";')
case.handler("/no-reason", MESSAGES, "websocket_shutdown_close 1012;")
case.handler("/off", MESSAGES, "websocket_shutdown_close off;")
case.handler("/frames", FRAMES)
case.handler("/frames-given", FRAMES, "websocket_shutdown_close 1001 bye;")
case.handler("/fails", """
    local ws = assert(require("resty.websocket").accept())
    ws:send(("x"):rep(6000000))
    live.report("open")
    live.take_signal()
    error("no more")
""", "websocket_send_buffer 8m;")
case.handler("/over", MESSAGES, f"websocket_shutdown_close 1001 bye over={600 * SLOW}ms;")


def opened(ng, path):
    peer = Peer(ng, path)
    equal(peer.report(), "open")
    return peer


def told(ng, path, code, reason):
    peer = opened(ng, path)
    ng.signal("HUP")
    equal(peer.frame(), (CLOSE, code.to_bytes(2, "big") + reason.encode()))
    equal(peer.report(), f"nil | closed | {code} | {reason}")
    equal(peer.report(), f"closed | {code} | {reason} | false")
    equal(peer.report(), "nil | closed")
    equal(peer.rest(), b"")
    peer.close()


@case("1001 and a reason by default")
def _(ng):
    told(ng, "/default", 1001, "server is shutting down")


@case("code and reason of the directive")
def _(ng):
    told(ng, "/given", 4001, "back soon")


@case("a code without a reason")
def _(ng):
    told(ng, "/no-reason", 1012, "")


@case("what waits when a handler fails in a worker that quits comes, whatever the peer sends",
      logs="no more")
def _(ng):
    peer = Peer(ng, "/fails", window=4096)
    equal(peer.report(), "open")
    old, = ng.workers()
    ng.signal("HUP")
    await_(lambda: old not in ng.workers(), "it is told to quit")
    peer.signal()
    await_(lambda: "no more" in ng.read_log(), "it fails")
    peer.send(frame(TEXT, "still there?"))
    equal(peer.frame(), (TEXT, b"x" * 6000000))
    equal(peer.frame(), (CLOSE, b"\x03\xe9server is shutting down"))
    equal(peer.rest(), b"")
    peer.close()


@case("off: the handler goes on in the old worker")
def _(ng):
    peer = opened(ng, "/off")
    before = ng.children()
    ng.signal("HUP")
    await_(lambda: any(pid not in before for pid in ng.children()), "a new worker")
    time.sleep(0.1 * SLOW)  # for the word that must not come
    peer.send(frame(TEXT, "still there?"))
    equal(peer.report(), "still there? | text | nil | nil")
    equal(peer.report(), "open")
    equal(peer.report(), "10")
    equal(peer.frame(), (TEXT, b"too late"))
    equal(peer.frame(), (CLOSE, b"\x03\xe8"))
    equal(peer.rest(), b"")
    peer.close()


@case("drop-in objects are told nothing by default")
def _(ng):
    peer = opened(ng, "/frames")
    before = ng.children()
    ng.signal("HUP")
    await_(lambda: any(pid not in before for pid in ng.children()), "a new worker")
    time.sleep(0.1 * SLOW)
    peer.send(frame(TEXT, "still there?"))
    equal(peer.report(), "still there? | text | nil")
    equal(peer.report(), "12 | nil")
    equal(peer.frame(), (TEXT, b"last words"))
    equal(peer.rest(), b"")
    peer.close()


@case("drop-in objects are told where the directive is given, and can send nothing after it")
def _(ng):
    peer = opened(ng, "/frames-given")
    ng.signal("HUP")
    equal(peer.frame(), (CLOSE, b"\x03\xe9bye"))
    equal(peer.report(), "nil | nil | failed to receive the first 2 bytes: closed")
    assert peer.report().startswith("nil | ")
    equal(peer.rest(), b"")
    peer.close()


@case("spread over some time")
def _(ng):
    peers = [opened(ng, "/over") for _ in range(20)]
    ng.signal("HUP")
    began, times = time.monotonic(), []
    for peer in peers:
        equal(peer.frame(), (CLOSE, b"\x03\xe9bye"))
        peer.close()
        times.append(time.monotonic() - began)
    assert max(times) > 0.15 * SLOW, f"all within {max(times)} s"
    assert max(times) < 2 * SLOW, f"the last after {max(times)} s"


run(case)
