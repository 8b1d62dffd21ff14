BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# One session used by several light threads of its handler: reading and writing at the same time,
# a second reader, many writers, and threads that are killed while they wait.
import hashlib
import os
import socket
import threading

from lib.live import VALGRIND, Cases, await_, equal, run
from lib.peer import BINARY_FRAME, TEXT, Peer, frame

case = Cases()
MIB = 1 << 20


case.handler("/duplex", """
    local wb = live.open{ max_payload_len = 200000 }
    local writer = ngx.thread.spawn(function()
        for n = 1, 200 do
            assert(wb:send_binary(("w"):rep(n * 500)))
        end
    end)
    local sizes = 0
    for n = 1, 200 do
        local data = assert(wb:recv_frame())
        assert(data == ("r"):rep(n * 500), "frame " .. n .. " is another")
        sizes = sizes + #data
    end
    assert(ngx.thread.wait(writer))
    live.report("read", sizes)
""")


@case("a reader and a writer, both ways at once")
def _(ng):
    peer = Peer(ng, "/duplex")
    peer.sock.settimeout(0.05)  # to turn from writing to reading where the peer is not ready
    out = b"".join(frame(BINARY_FRAME, b"r" * (n * 500)) for n in range(1, 201))
    received = b""
    while out:
        try:
            out = out[peer.sock.send(out[:100000]):]
        except TimeoutError:
            pass
        try:
            received += peer.sock.recv(100000)
        except TimeoutError:
            pass
    peer.sock.settimeout(60)
    peer.buffer += received
    for n in range(1, 201):
        equal(peer.frame(), (BINARY_FRAME, b"w" * (n * 500)), f"frame {n}")
    equal(peer.report(), f"read | {sum(n * 500 for n in range(1, 201))}")
    equal(peer.rest(), b"", "nothing else was sent")
    peer.close()


case.handler("/two-readers", """
    local wb = live.open()
    local first = ngx.thread.spawn(function() return wb:recv_frame() end)
    live.report("second", wb:recv_frame())
    live.report("fatal", wb.fatal)
    live.report("third", wb:recv_frame())
    live.report("send", wb:send_text("no"))
    live.report("first", ngx.thread.wait(first))
""")


@case("a second reader is refused, and the first still gets its frame")
def _(ng):
    peer = Peer(ng, "/two-readers")
    equal(peer.report(),
          "second | nil | nil | failed to receive the first 2 bytes: socket busy reading")
    equal(peer.report(), "fatal | true")
    equal(peer.report(), "third | nil | nil | fatal error already happened")
    equal(peer.report(), "send | nil | fatal error already happened")
    peer.send(frame(TEXT, "for the first"))
    equal(peer.report(), "first | true | for the first | text | nil")
    equal(peer.rest(), b"")
    peer.close()


case.handler("/mid-frame-reader", """
    local wb = live.open()
    local first = ngx.thread.spawn(function() return wb:recv_frame() end)
    live.report("reading")
    live.take_signal()
    live.report("second", wb:recv_frame())
    live.report("first", ngx.thread.wait(first))
""")


@case("a second reader in the middle of a frame is told the stage")
def _(ng):
    peer = Peer(ng, "/mid-frame-reader")
    equal(peer.report(), "reading")
    data = frame(TEXT, "x" * 300)
    peer.send(data[:3])
    peer.signal()
    equal(peer.report(),
          "second | nil | nil | failed to receive the 2 byte payload length: socket busy reading")
    peer.send(data[3:])
    assert peer.report().startswith("first | true | 300 bytes ")
    peer.rest()
    peer.close()


SIZE = 64 * 1024 if VALGRIND else MIB

case.handler("/writers", f"""
    local wb = live.open{{ max_payload_len = 2 * {MIB} }}
    local threads = {{}}
    for t = 1, 8 do
        threads[t] = ngx.thread.spawn(function()
            for n = 1, 4 do
                assert(wb:send_binary(string.char(96 + t):rep({SIZE} - t * n)))
            end
        end)
    end
    for t = 1, 8 do
        assert(ngx.thread.wait(threads[t]))
    end
    assert(wb:send_text("done"))
""")


@case("frames of eight writers at once stay whole, each writer's in order")
def _(ng):
    peer = Peer(ng, "/writers", window=65536)
    seen = {t: 0 for t in range(1, 9)}
    for _ in range(32):
        first, data = peer.frame()
        equal(first, BINARY_FRAME)
        t = data[0] - 96
        seen[t] += 1
        assert data == bytes([96 + t]) * (SIZE - t * seen[t]), f"frame {seen[t]} of writer {t}"
    equal(peer.frame(), (TEXT, b"done"))
    equal(peer.rest(), b"")
    peer.close()


case.handler("/kill-reader", """
    local wb = live.open()
    local reader = ngx.thread.spawn(function() return wb:recv_frame() end)
    live.report("reading")
    live.take_signal()
    live.report("kill", ngx.thread.kill(reader))
    live.report("again", wb:recv_frame())
    live.report("once more", wb:recv_frame())
    wb:send_text("bye")
""")


@case("after a reader was killed another may read")
def _(ng):
    peer = Peer(ng, "/kill-reader")
    equal(peer.report(), "reading")
    peer.signal()
    equal(peer.report(), "kill | 1")
    peer.send(frame(TEXT, "one") + frame(TEXT, "two"))
    equal(peer.report(), "again | one | text | nil")
    equal(peer.report(), "once more | two | text | nil")
    equal(peer.frame(), (TEXT, b"bye"))
    peer.close()


@case("a reader killed in the middle of a frame loses none of it")
def _(ng):
    for size, cut in (5, 1), (5, 4), (5, 8), (300, 3), (70000, 5), (60000, 30), (60000, 50000):
        peer = Peer(ng, "/kill-reader")
        equal(peer.report(), "reading")
        data = frame(BINARY_FRAME, bytes(n % 251 for n in range(size)))
        peer.send(data[:cut])
        peer.signal()
        equal(peer.report(), "kill | 1")
        if size == 70000:  # above the limit: known from the header alone
            peer.send(data[cut:])
            equal(peer.report(), "again | nil | nil | exceeding max payload len")
            peer.rst()
            peer.report()
            continue
        peer.send(data[cut:])
        got = peer.report()
        peer.send(frame(TEXT, "next"))
        if size == 5:
            equal(got, "again | \0\1\2\3\4 | binary | nil")
        else:
            md5 = hashlib.md5(bytes(n % 251 for n in range(size))).hexdigest()
            equal(got, f"again | {size} bytes {md5} | binary | nil", f"cut at {cut}")
        equal(peer.report(), "once more | next | text | nil")
        peer.close()


case.handler("/kill-woken", """
    local wb = live.open()
    local reader = ngx.thread.spawn(function() return wb:recv_frame() end)
    live.report("reading")
    local sock = ngx.socket.tcp()
    assert(sock:connect("127.0.0.1", tonumber(ngx.var.arg_port)))
    assert(sock:send("hello"))
    assert(sock:receive(1))
    live.report("kill", ngx.thread.kill(reader))
    live.report("again", wb:recv_frame())
    live.report("once more", wb:recv_frame())
""")

case.handler("/busy", """
    local file = ngx.var.arg_file
    assert(io.open(file .. ".busy", "w")):close()
    -- Nothing else runs in this worker until the file is there.
    while not io.open(file) do end
    ngx.print("ok")
""")


@case("a reader killed between its wake-up and its turn leaves the frame to the next")
def _(ng):
    listener = socket.create_server(("127.0.0.1", 0))
    for order in "frame first", "killer first":
        mark = f"{ng.root}/{order}".replace(" ", "-")
        peer = Peer(ng, f"/kill-woken?port={listener.getsockname()[1]}")
        equal(peer.report(), "reading")
        other, _ = listener.accept()
        other.recv(5)
        # Both come in while the worker is busy: one turn of its event loop sees them in order.
        busy = threading.Thread(target=ng.get, args=(f"/busy?file={mark}",))
        busy.start()
        await_(lambda: os.path.exists(f"{mark}.busy"), "the worker is busy")
        if order == "frame first":
            peer.send(frame(TEXT, "one"))
            other.send(b"x")
        else:
            other.send(b"x")
            peer.send(frame(TEXT, "one"))
        open(mark, "w").close()
        busy.join()
        equal(peer.report(), "kill | 1", order)
        equal(peer.report(), "again | one | text | nil", order)
        peer.send(frame(TEXT, "two"))
        equal(peer.report(), "once more | two | text | nil", order)
        other.close()
        peer.close()
    listener.close()


case.handler("/kill-writer", """
    local wb = live.open{ max_payload_len = 2^26 }
    local writer = ngx.thread.spawn(function() return wb:send_binary(("k"):rep(8 * 2^20)) end)
    live.report("waiting", coroutine.status(writer))
    live.report("kill", ngx.thread.kill(writer))
    live.report("send", (wb:send_text("after")))
""")


@case("a writer killed while it waits leaves its frame whole")
def _(ng):
    peer = Peer(ng, "/kill-writer", window=65536)
    equal(peer.report(), "waiting | running")
    equal(peer.report(), "kill | 1")
    equal(peer.frame(), (BINARY_FRAME, b"k" * (8 * MIB)))
    equal(peer.report(), "send | 7")
    equal(peer.frame(), (TEXT, b"after"))
    equal(peer.rest(), b"")
    peer.close()


case.handler("/exit-while-reading", """
    local wb = live.open()
    ngx.thread.spawn(function() return wb:recv_frame() end)
    ngx.thread.spawn(function() ngx.sleep(100) end)
    wb:send_text("leaving")
    ngx.exit(ngx.OK)
""")


@case("a handler that exits takes its waiting threads with it")
def _(ng):
    peer = Peer(ng, "/exit-while-reading")
    equal(peer.frame(), (TEXT, b"leaving"))
    equal(peer.rest(), b"")
    peer.close()


case.handler("/coroutines", """
    local wb = live.open()
    local frames = coroutine.wrap(function()
        while true do
            coroutine.yield((wb:recv_frame()))
        end
    end)
    for _ = 1, 3 do
        wb:send_text("got " .. tostring(frames()))
    end
""")


@case("a session read inside a coroutine")
def _(ng):
    peer = Peer(ng, "/coroutines")
    for word in "one", "two", "three":
        peer.send(frame(TEXT, word))
        equal(peer.frame(), (TEXT, b"got " + word.encode()))
    equal(peer.rest(), b"")
    peer.close()


run(case)
