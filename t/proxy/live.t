BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# websocket_proxy and websocket.proxy between two ends that are half closed, reset, slow or gone at every
# time; large messages; back-pressure, by the worker's memory; reload.
import os
import re
import socket
import threading

from lib.live import Cases, Nginx, Tap, await_, equal, run
from lib.memory import resident, within
from lib.peer import BINARY_FRAME, CLOSE, TEXT, Peer, frame, head
from lib.upstream import Upstream

case = Cases()
upstream = Upstream()
MIB = 1 << 20
GONE = r"bad answer: failed to receive response header: closed|client prematurely closed|upstream prematurely closed|Connection reset|Connection refused"

server = f"""
    websocket_max_message_size 32m;
    location /small {{
        websocket_send_buffer 64k;
        websocket_max_message_size 1m;
        websocket_proxy ws://127.0.0.1:{upstream.port}/x;
    }}
    location /stuck {{
        websocket_send_buffer 64k;
        websocket_send_timeout 300ms;
        websocket_proxy ws://127.0.0.1:{upstream.port}/x;
    }}
    location / {{ websocket_proxy ws://127.0.0.1:{upstream.port}/x answer_timeout=60s; }}
    location = /blocks {{
        content_by_lua_block {{
            ngx.print("x")
            ngx.flush(true)
            -- nginx's clock stands meanwhile, and no timer runs before the next events.
            local before = os.clock()
            repeat until os.clock() - before > 0.5
        }}
    }}
"""

# The same by websocket.proxy, with and without a callback.
lua = re.sub(r"websocket_proxy ([^\s;]+)[^;]*;", r"""lua_socket_log_errors off;
    content_by_lua_block {
        local opts = { url = "\1", send_timeout = ngx.var.uri == "/stuck" and 300 or nil }
        if LOOKS then
            opts.on_message = function () end
        end
        local ok, err, status = require("resty.websocket").proxy(opts)
        if not ok and type(status) == "number" then
            return ngx.exit(status)
        end
    }""", server)


def pair(ng, path="/", window=None, upstream_window=None, first=b""):
    """A client and its upstream, both upgraded."""
    made = []
    upstream.narrow(upstream_window)
    thread = threading.Thread(target=lambda: made.append(upstream.accept().upgrade(first)))
    thread.start()
    peer = Peer(ng, path, window=window)
    thread.join()
    return peer, made[0]


def close(code, reason=b""):
    return code.to_bytes(2, "big") + reason


@case("messages of 16 MiB both ways")
def _(ng):
    peer, up = pair(ng)
    large = bytes(range(256)) * (16 * MIB // 256)
    sender = threading.Thread(target=lambda: peer.send(frame(BINARY_FRAME, large)))
    sender.start()
    assert up.frame() == (BINARY_FRAME, large)
    sender.join()
    sender = threading.Thread(target=lambda: up.send(BINARY_FRAME, large))
    sender.start()
    assert peer.frame() == (BINARY_FRAME, large)
    sender.join()
    peer.send(frame(CLOSE, close(1000)))
    equal(up.frame(), (CLOSE, close(1000)))
    up.send(CLOSE, close(1000))
    equal(peer.frame(), (CLOSE, close(1000)))
    equal(peer.rest(), b"")
    peer.close()
    assert up.ended()
    up.close()


def fill(sock, data):
    """Sends until nothing is taken for a while, much was, or it was given up. Returns the bytes."""
    sock.settimeout(1)
    sent = 0
    try:
        while sent < 64 * MIB:
            sent += sock.send(data)
    except (TimeoutError, ConnectionError):
        pass
    return sent


@case("a side that does not read stops the other, and memory is bounded", skip_valgrind=True)
def _(ng):
    data = frame(BINARY_FRAME, b"x" * 60000) * 16
    peer, up = pair(ng, "/small", window=4096, upstream_window=4096)
    worker, = ng.workers()
    before = resident(worker)
    sent = fill(peer.sock, data)
    assert sent < 32 * MIB, sent
    sent = fill(up.sock, frame(BINARY_FRAME, b"x" * 60000, key=b"") * 16)
    assert sent < 32 * MIB, sent
    within(resident(worker) - before, 4 * MIB)
    peer.rst()
    up.rst()


@case("what waited for a slow side comes, all of it and in order")
def _(ng):
    peer, up = pair(ng, "/small", upstream_window=4096)
    count = 2000
    sender = threading.Thread(target=lambda: [
        peer.send(frame(TEXT, f"{n:05}" + "x" * 5000)) for n in range(count)])
    sender.start()
    for n in range(count):
        equal(up.frame()[1][:5], f"{n:05}".encode())
    sender.join()
    sender = threading.Thread(target=lambda: [
        up.send(TEXT, f"{n:05}" + "x" * 5000) for n in range(count)])
    sender.start()
    for n in range(count):
        equal(peer.frame()[1][:5], f"{n:05}".encode())
    sender.join()
    peer.rst()
    equal(up.frame(), (CLOSE, close(1001)))
    up.close()


@case("a side that takes nothing for websocket_send_timeout is given up")
def _(ng):
    peer, up = pair(ng, "/stuck", window=4096, upstream_window=4096)
    fill(up.sock, frame(BINARY_FRAME, b"x" * 60000, key=b""))
    await_(lambda: ng.sessions() == 0, "the pair ends")
    peer.close()
    up.close()
    peer, up = pair(ng, "/stuck", window=4096, upstream_window=4096)
    fill(peer.sock, frame(BINARY_FRAME, b"x" * 60000))
    await_(lambda: ng.sessions() == 0, "the pair ends")
    peer.close()
    up.close()


@case("who was idle for so long is not given up for what comes with the look at it")
def _(ng):
    for ours in (True, False):
        peer, up = pair(ng, "/stuck")
        blocks = Peer(ng, request=b"GET /blocks HTTP/1.0\r\n\r\n")
        blocks.until(b"\r\n\r\nx")
        if ours:
            peer.send(frame(TEXT, b"a"))
            equal(up.frame(), (TEXT, b"a"))
            peer.send(frame(TEXT, b"b"))
            equal(up.frame(), (TEXT, b"b"))
        else:
            up.send(TEXT, b"a")
            equal(peer.frame(), (TEXT, b"a"))
            up.send(TEXT, b"b")
            equal(peer.frame(), (TEXT, b"b"))
        blocks.rest()
        for end in blocks, peer, up:
            end.rst()
        await_(lambda: ng.sessions() == 0, "the pair ends")


@case("a client that is reset, or half closed, without a word")
def _(ng):
    for end in (lambda peer: peer.rst(), lambda peer: peer.fin(), lambda peer: peer.close()):
        peer, up = pair(ng)
        peer.send(frame(TEXT, b"last"))
        equal(up.frame(), (TEXT, b"last"))
        end(peer)
        equal(up.frame(), (CLOSE, close(1001)))
        up.send(CLOSE, close(1001))
        assert up.ended()
        up.close()
        peer.sock.close()


@case("an upstream that is reset, or half closed, without a word")
def _(ng):
    for end in (lambda up: up.rst(), lambda up: up.sock.shutdown(socket.SHUT_WR), lambda up: up.close()):
        peer, up = pair(ng)
        up.send(TEXT, b"last")
        equal(peer.frame(), (TEXT, b"last"))
        end(up)
        equal(peer.frame(), (CLOSE, close(1011, b"upstream connection lost")))
        peer.send(frame(CLOSE, close(1011)))
        equal(peer.rest(), b"")
        peer.close()
        up.close()


@case("an upstream that does not answer a close frame")
def _(ng):
    peer, up = pair(ng)
    peer.send(frame(CLOSE, close(4000, b"why")))
    equal(up.frame(), (CLOSE, close(4000, b"why")))
    equal(peer.frame(), (CLOSE, close(4000)))
    equal(peer.rest(), b"")
    peer.close()
    assert up.ended()
    up.close()


@case("who closes and hangs up at once, while the other side has not answered")
def _(ng):
    # The worker must serve others meanwhile: not wake a handler again and again for bytes nobody reads.
    for last in frame(CLOSE, close(4000)), frame(0x83, b""):
        peer, up = pair(ng)
        peer.send(last)
        up.frame()
        peer.sock.shutdown(socket.SHUT_WR)
        ng.get("/live/status")
        up.send(CLOSE, close(4000))
        peer.rest()
        peer.close()
        up.close()
        peer, up = pair(ng)
        up.sock.sendall(bytes([0x88 if last[0] == CLOSE else 0x83, 0]))
        up.sock.shutdown(socket.SHUT_WR)
        peer.frame()
        ng.get("/live/status")
        peer.send(frame(CLOSE, close(1000)))
        peer.rest()
        peer.close()
        up.close()


@case("both close at once")
def _(ng):
    peer, up = pair(ng)
    peer.send(frame(CLOSE, close(4000)))
    up.send(CLOSE, close(4001))
    equal(up.frame(), (CLOSE, close(4000)))
    equal(peer.frame()[0], CLOSE)
    equal(peer.rest(), b"")
    peer.close()
    assert up.ended()
    up.close()


@case("a client that is gone while the upstream is asked", logs=GONE)
def _(ng):
    for end in (lambda peer: peer.rst(), lambda peer: peer.close()):
        peer = Peer(ng, request=head("/"))
        up = upstream.accept()
        end(peer)
        assert up.ended()
        up.close()


@case("a client that is gone when the 101 comes", logs=GONE)
def _(ng):
    for _ in range(20):
        peer = Peer(ng, request=head("/") + frame(TEXT, b"early"))
        up = upstream.accept()
        threading.Thread(target=peer.rst).start()
        try:
            up.upgrade(frame(TEXT, b"first", key=b""))
            while not up.ended():
                pass
        except (ConnectionError, AssertionError):
            pass
        up.close()


@case("an upstream that ends in the middle of its answer", logs=GONE)
def _(ng):
    for part in (b"", b"HTTP/1.1 101 Switching Protocols\r\nUpgr"):
        peer = Peer(ng, request=head("/"))
        up = upstream.accept()
        up.sock.sendall(part)
        up.close()
        assert peer.until(b"\r\n").startswith(b"HTTP/1.1 502 ")
        peer.close()


@case("frames that come with the request reach the upstream, and those with the 101 the client")
def _(ng):
    peer = Peer(ng, request=head("/") + frame(TEXT, b"early"))
    up = upstream.accept().upgrade(frame(TEXT, b"first", key=b""))
    equal(up.frame(), (TEXT, b"early"))
    peer.until(b"\r\n\r\n")
    equal(peer.frame(), (TEXT, b"first"))
    peer.rst()
    up.close()


tap = Tap()
run(case, tap=tap, server=server, main="worker_shutdown_timeout 20s;")
for looks in "true", "false":
    case.list = [(re.sub(r"^(websocket.proxy.*?: )?", f"websocket.proxy, looks {looks}: ", name), body, logs)
                 for name, body, logs in case.list]
    run(case, tap=tap, server=lua.replace("LOOKS", looks))

frames = f"""
    lua_socket_log_errors off;
    location / {{
        content_by_lua_block {{
            local proxy = require("resty.websocket.proxy").new()
            local ok, err = proxy:connect("ws://127.0.0.1:{upstream.port}/x")
            if not ok then
                ngx.log(ngx.INFO, "said: ", err)
                return ngx.exit(499)
            end
            proxy:execute()
        }}
    }}
"""
case.list = [("resty.websocket.proxy: " + name.split(": ")[-1], body, logs)
             for name, body, logs in case.list if "while the upstream is asked" in name]
run(case, tap=tap, server=frames)

case = Cases()


@case("a reload tells both sides 1001, and the old worker ends")
def _(ng):
    peer, up = pair(ng)
    old = ng.workers()[0]
    ng.signal("HUP")
    equal(peer.frame(), (CLOSE, close(1001, b"server is shutting down")))
    equal(up.frame(), (CLOSE, close(1001, b"server is shutting down")))
    up.send(CLOSE, close(1001))
    assert up.ended()
    peer.close()
    up.close()
    await_(lambda: old not in ng.children(), "the old worker ends")


@case("a new worker takes over")
def _(ng):
    peer, up = pair(ng)
    peer.send(frame(TEXT, b"x"))
    equal(up.frame(), (TEXT, b"x"))
    peer.rst()
    equal(up.frame(), (CLOSE, close(1001)))
    up.close()


run(case, tap=tap, server=server)
run(case, tap=tap, server=lua.replace("LOOKS", "true"))

case = Cases()
deaf = f"""
    send_timeout 300ms;
    lingering_close off;
    location = /page {{ content_by_lua_block {{
        ngx.shared.live:incr("pages", 1, 0)
        ngx.header.content_length = 500
        ngx.print(("p"):rep(500)) }} }}
    location = /pages {{ content_by_lua_block {{ ngx.print(ngx.shared.live:get("pages") or 0) }} }}
    # Longer than a page: where no page has room, it has none.
    location / {{ add_header X-Long {"x" * 1000}; websocket_proxy ws://127.0.0.1:{upstream.port}/x; }}
"""


def fill_with_pages(ng, most=10000):
    """A client that reads nothing asks for pages, until the kernel takes no more of them, or for so
    many. Returns it, and how many pages the kernel has."""
    peer = Peer(ng, window=4096, request=b"")
    for count in range(most):
        before = int(ng.get("/pages"))
        peer.send(b"GET /page HTTP/1.1\r\nHost: t\r\n\r\n")
        await_(lambda: int(ng.get("/pages")) == before + 1, "the page")
        if "Writing: 1 " not in ng.get("/live/status"):
            return peer, count
    return peer, most


@case("a client that does not take its 101", logs="client timed out")
def _(ng):
    worker = ng.children()
    peer, most = fill_with_pages(ng)
    peer.close()
    await_(lambda: ng.connections() == 0, "it ends")
    for _ in range(2):
        peer, count = fill_with_pages(ng, most)
        equal(count, most, "pages that the kernel takes")
        peer.send(head("/"))
        up = upstream.accept().upgrade()
        assert up.ended()
        await_(lambda: ng.connections() == 0, "the end")
        peer.close()
        up.close()
    equal(ng.children(), worker, "the worker")


# What is freed does not keep what was in it.
os.environ["MALLOC_PERTURB_"] = "165"
run(case, tap=tap, server=deaf, listen="sndbuf=4k")
upstream.close()
tap.done()
