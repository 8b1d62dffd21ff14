BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# How workers end with connections open: worker_shutdown_timeout ends reads and writes as "closed"
# and handlers that wait for something else soon after; QUIT waits for the last connection, TERM
# for none. One nginx a case.
import os
import signal
import time

from lib.live import PATIENCE, VALGRIND, Cases, Nginx, Tap, await_, equal
from lib.peer import CLOSE, TEXT, Peer, frame

tap = Tap()
case = Cases()
MIB = 1 << 20
SLOW = 8 if VALGRIND else 1

case.handler("/echo", """
    local wb = live.open{ timeout = 600000 }
    local why = live.echo(wb)
    ngx.log(ngx.NOTICE, "handler: ", why)
""")
case.handler("/echo-timer", """
    local wb = live.open{ timeout = 600000 }
    ngx.thread.spawn(function() ngx.log(ngx.NOTICE, "thread: ", select(3, wb:recv_frame())) end)
    ngx.sleep(1000)
""")
case.handler("/sleep", """
    local wb = live.open()
    wb:send_text("asleep")
    ngx.sleep(1000)
""")
case.handler("/writes", f"""
    local wb = live.open{{ max_payload_len = 3 * {MIB}, timeout = 600000 }}
    local _, err = wb:send_text(("w"):rep(3 * {MIB}))
    ngx.log(ngx.NOTICE, "writer: ", err)
""")
case.handler("/pending", f"""
    local wb = live.open{{ max_payload_len = 3 * {MIB}, timeout = 600000 }}
    ngx.thread.spawn(function() wb:send_text(("w"):rep(3 * {MIB})) end)
    ngx.exit(tonumber(ngx.var.arg_code))
""", "send_timeout 600s;")


def nginx(name, main="", logs=None):
    """Decorator: a case with an nginx of its own, which the case ends."""
    def run(body):
        def attempt():
            ng = Nginx(server=case.server, main=main, listen="sndbuf=32k")
            try:
                ng.start()
                body(ng)
                loud = ng.loud(logs)
                assert not loud, "nginx logged:\n" + "\n".join(loud[:10])
                found = ng.valgrind_findings()
                assert not found, "valgrind:\n" + "\n".join(found[:200])
            finally:
                ng.kill()
        tap.attempt(name, attempt)
    return run


LIMIT = "worker_shutdown_timeout %dms;" % (300 * SLOW)


def opened(ng, path, count=1, **more):
    peers = [Peer(ng, path, **more) for _ in range(count)]
    await_(lambda: ng.sessions() == count, "the sessions")
    return peers


def in_time(began, least):
    """Not before the limit. What else could end them comes after stop() has lost its patience."""
    took = time.monotonic() - began
    assert took >= least * SLOW * 0.9, f"ended after {took:.2f} s"


@nginx("worker_shutdown_timeout: reads end as closed", LIMIT)
def _(ng):
    peers = opened(ng, "/echo", 3)
    began = time.monotonic()
    equal(ng.stop(), 0)
    in_time(began, 0.3)
    log = ng.read_log()
    equal(log.count("handler: failed to receive the first 2 bytes: closed,"), 3)
    for peer in peers:
        equal(peer.rest(), b"")
        peer.close()


@nginx("worker_shutdown_timeout: a write that waits ends as closed", LIMIT)
def _(ng):
    peer, = opened(ng, "/writes", window=16384)
    began = time.monotonic()
    equal(ng.stop(), 0)
    in_time(began, 0.3)
    assert "writer: failed to send frame: closed," in ng.read_log()
    peer.close()


@nginx("worker_shutdown_timeout: output of handlers that have ended is given up", LIMIT)
def _(ng):
    peers = [Peer(ng, f"/pending?code={code}", window=16384) for code in ("0", "444")]
    await_(lambda: ng.connections() == 2, "both drain")
    began = time.monotonic()
    equal(ng.stop(), 0)
    in_time(began, 0.3)
    for peer in peers:
        peer.close()


@nginx("worker_shutdown_timeout: a handler that waits for something else is ended", LIMIT)
def _(ng):
    peers = [Peer(ng, "/sleep"), Peer(ng, "/echo-timer")]
    await_(lambda: ng.sessions() == 2, "the sessions")
    equal(peers[0].frame(), (TEXT, b"asleep"))
    began = time.monotonic()
    equal(ng.stop(), 0)
    in_time(began, 1.3 / SLOW)
    log = ng.read_log()
    equal(log.count("websocket handler did not end in time"), 2)
    equal(log.count("thread: failed to receive the first 2 bytes: closed,"), 1)
    for peer in peers:
        equal(peer.rest(), b"")
        peer.close()


@nginx("worker_shutdown_timeout: a reload's old worker exits in time, the new one serves", LIMIT)
def _(ng):
    old, = ng.workers()
    peer, = opened(ng, "/echo")
    ng.signal("HUP")
    await_(lambda: ng.workers() and old not in ng.workers(), "the new worker")
    peer.send(frame(TEXT, "in between"))
    equal(peer.frame(), (TEXT, b"in between"))
    young, = opened(ng, "/echo")
    await_(lambda: not os.path.exists(f"/proc/{old}"), "the old worker exits")
    equal(peer.rest(), b"")
    young.send(frame(TEXT, "new") + frame(CLOSE))
    equal(young.frame(), (TEXT, b"new"))
    equal(young.frame(), (CLOSE, b""))
    young.close()
    peer.close()
    equal(ng.stop(), 0)


@nginx("QUIT waits for the last connection")
def _(ng):
    peer, = opened(ng, "/echo")
    worker, = ng.workers()
    ng.signal("QUIT")
    await_(lambda: not ng.workers(), "the worker is shutting down")
    peer.send(frame(TEXT, "one more"))
    equal(peer.frame(), (TEXT, b"one more"))
    assert ng.child.poll() is None
    peer.send(frame(CLOSE, b"\x03\xe8"))
    equal(peer.frame(), (CLOSE, b"\x03\xe8"))
    equal(peer.rest(), b"")
    peer.close()
    equal(ng.child.wait(PATIENCE), 0)


@nginx("TERM waits for nobody")
def _(ng):
    peers = opened(ng, "/echo", 3) + [Peer(ng, "/sleep"), Peer(ng, "/writes", window=16384),
                                      Peer(ng, "/pending?code=444", window=16384),
                                      Peer(ng, "/pending?code=0", window=16384)]
    await_(lambda: ng.connections() == 7, "the connections")
    equal(ng.stop("TERM"), 0)
    for peer in peers[:3]:
        equal(peer.rest(), b"")
    for peer in peers:
        peer.close()


@nginx("a killed worker is replaced")
def _(ng):
    peer, = opened(ng, "/echo")
    worker, = ng.workers()
    os.kill(worker, signal.SIGKILL)
    equal(peer.rest(), b"")
    peer.close()
    await_(lambda: ng.workers() and ng.workers() != [worker], "another worker")
    young, = opened(ng, "/echo")
    young.send(frame(TEXT, "new"))
    equal(young.frame(), (TEXT, b"new"))
    young.close()
    equal(ng.stop(), 0)
    ng.position = len(ng.read_log())  # the master's alert about the killed one


tap.done()
