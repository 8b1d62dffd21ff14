BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# HUP with open connections: the old worker serves them until the last has ended, and exits then;
# new connections go to the new worker.
import os

from lib.live import Cases, Nginx, Tap, await_, equal, run_on
from lib.peer import BINARY_FRAME, CLOSE, TEXT, Peer, frame

tap = Tap()
case = Cases()
MIB = 1 << 20

case.handler("/echo", """
    local wb = live.open{ timeout = 60000 }
    live.report("worker", ngx.worker.pid())
    live.report(live.echo(wb))
""")
case.handler("/exiting", """
    local wb = live.open{ timeout = 60000 }
    while not ngx.worker.exiting() do
        ngx.sleep(0.005)
    end
    wb:send_close(1001, "going away")
    live.report(wb:recv_frame())
""")
case.handler("/pending", f"""
    local wb = live.open{{ max_payload_len = 3 * {MIB} }}
    -- A light thread, since a worker that quits runs its timers at once.
    ngx.thread.spawn(function() wb:send_binary(("p"):rep(3 * {MIB})) end)
    live.report("sent")
    live.take_signal()
    ngx.exit(ngx.OK)
""")
case.handler("/write", """
    local wb = live.open{ max_payload_len = 2^20 }
    for n = 1, 5 do
        wb:send_text(("%05d"):format(n) .. ("w"):rep(300000))
    end
    live.report(wb:recv_frame())
""")


def talk(peer, text):
    peer.send(frame(TEXT, text))
    equal(peer.frame(), (TEXT, text.encode()))


def reload(ng):
    """Until the new generation serves and the old one has been told."""
    old = ng.workers()
    ng.signal("HUP")
    await_(lambda: ng.workers() and not set(ng.workers()) & set(old), "new workers")
    return old


def gone(pid):
    return not os.path.exists(f"/proc/{pid}")


def ends(peer):
    peer.send(frame(CLOSE, b"\x03\xe8"))
    equal(peer.frame(), (CLOSE, b"\x03\xe8"))
    equal(peer.rest(), b"")
    peer.close()


def served_to_the_end(ng):
    """Five generations at a time, each with a connection of its own."""
    peers, olds = [], []
    for generation in range(5):
        peer = Peer(ng, "/echo")
        worker, = ng.workers()
        equal(peer.report(), f"worker | {worker}")
        talk(peer, "before")
        peers.append(peer)
        olds += reload(ng)
        for each in peers:
            talk(each, f"after {generation}")
    for old in olds:
        assert not gone(old), "a worker has left its connection"
    for peer, old in reversed(list(zip(peers, olds))):
        talk(peer, "still")
        ends(peer)
        equal(peer.report(), "nil")
        await_(lambda: gone(old), "the old worker exits after its last connection")
    equal(len(ng.children()), 1, "workers left")


def told_by_exiting(ng):
    peer = Peer(ng, "/exiting")
    await_(lambda: ng.sessions() == 1, "the session")
    old, = reload(ng)
    equal(peer.frame(), (CLOSE, b"\x03\xe9going away"))
    peer.send(frame(CLOSE, b"\x03\xe9"))
    equal(peer.report(), " | close | 1001")
    peer.rest()
    peer.close()
    await_(lambda: gone(old), "the old worker exits")


def output_pending(ng):
    peer = Peer(ng, "/pending", window=16384)
    equal(peer.report(), "sent")
    old, = reload(ng)
    peer.signal()
    equal(peer.frame(), (BINARY_FRAME, b"p" * (3 * MIB)))
    equal(peer.rest(), b"")
    peer.close()
    await_(lambda: gone(old), "the old worker exits")


def writer_waiting(ng):
    peer = Peer(ng, "/write", window=16384)
    await_(lambda: ng.sessions() == 1, "the session")
    old, = reload(ng)
    for n in range(1, 6):
        equal(peer.frame(), (TEXT, b"%05d" % n + b"w" * 300000))
    peer.send(frame(TEXT, "done"))
    equal(peer.report(), "done | text | nil")
    peer.rest()
    peer.close()
    await_(lambda: gone(old), "the old worker exits")


def failed_reload(ng):
    """A configuration with an error leaves everything as it was."""
    peer = Peer(ng, "/echo")
    peer.report()
    with open(ng.conf) as f:
        good = f.read()
    with open(ng.conf, "w") as f:
        f.write(good.replace("daemon off;", "daemon off; nonsense;"))
    worker, = ng.workers()
    ng.signal("HUP")
    await_(lambda: 'unknown directive "nonsense"' in ng.read_log(), "nginx refuses")
    with open(ng.conf, "w") as f:
        f.write(good)
    equal(ng.workers(), [worker])
    ng.loud('unknown directive "nonsense"')
    talk(peer, "undisturbed")
    ends(peer)


ng = Nginx(server=case.server, listen="sndbuf=32k")
run_on(ng, tap, (served_to_the_end, told_by_exiting, output_pending, writer_waiting, failed_reload),
       idle=True)
