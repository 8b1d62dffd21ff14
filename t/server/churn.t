BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# 10 000 connections of mixed kinds in one worker: afterwards no session is left and the worker's
# memory is what it was after the first tenth. Under valgrind 300 will do.
import random
import socket
import ssl
import threading
import zlib

from lib.live import PATIENCE, VALGRIND, Cases, await_, equal, run
from lib.memory import resident, within
from lib.peer import CLOSE, TEXT, Peer, context, frame, head

case = Cases()
TOTAL = 300 if VALGRIND else 10000
LANES = 8
GROWTH = 2 << 20  # bytes: the allocator's own unrest; a leak of 256 bytes a connection exceeds it

case.handler("/echo", "live.echo(live.open{ timeout = 60000 })")
case.handler("/error", 'local wb = live.open() wb:send_text("x") wb:recv_frame() error("on purpose")')
case.handler("/exit", 'local wb = live.open() wb:send_text("x") ngx.exit(444)')
case.handler("/threads", """
    local wb = live.open()
    ngx.thread.spawn(function() while wb:send_text("tick") do ngx.sleep(0.002) end end)
    while wb:recv_frame() do end
    ngx.exit(ngx.OK)
""")
case.handler("/kept", """
    -- Kept beyond its request, for a while.
    kept = kept or {}
    kept[#kept % 50 + 1] = live.open()
    kept[#kept]:recv_frame()
""")
case.handler("/messages", """
    local wb = assert(require("resty.websocket").accept())
    repeat
        local data = wb:recv()
        if data then wb:send(data) end
    until not data
""")
PURPOSE = "runtime error: .*on purpose|writing a global Lua variable"


def clean(ng, port, tls):
    peer = Peer(ng, "/echo", port=port, tls=tls, first=frame(TEXT, "hello"))
    equal(peer.frame(), (TEXT, b"hello"))
    peer.send(frame(CLOSE, b"\x03\xe8"))
    equal(peer.frame(), (CLOSE, b"\x03\xe8"))
    equal(peer.rest(), b"")
    peer.close()


def closes_at(path, data, wait=0):
    def kind(ng, port, tls):
        peer = Peer(ng, path, port=port, tls=tls, first=data)
        peer.exactly(wait)
        peer.close()
    return kind


def resets_at(path, data, wait=0):
    def kind(ng, port, tls):
        peer = Peer(ng, path, port=port, tls=tls, first=data)
        peer.exactly(wait)
        peer.rst()
    return kind


def mid_handshake(ng, port, tls):
    request = head("/echo")
    raw = socket.create_connection(("127.0.0.1", ng.port), PATIENCE)
    raw.sendall(request[:random.randrange(1, len(request))])
    raw.close()


def refused(ng, port, tls):
    request = head("/echo").replace(b"Version: 13", b"Version: 8")
    raw = socket.create_connection(("127.0.0.1", ng.port), PATIENCE)
    raw.sendall(request)
    assert b" 500 " in raw.recv(4096)  # live.open() raises what new() returned
    raw.close()


def waits_for_end(path, data):
    def kind(ng, port, tls):
        peer = Peer(ng, path, port=port, tls=tls, first=data)
        try:
            peer.rest()
        except ssl.SSLEOFError:
            pass  # nginx says no goodbye on a connection it terminates
        peer.close()
    return kind


BIG = frame(TEXT, b"b" * 60000)
KINDS = [
    clean, clean,
    closes_at("/echo", frame(TEXT, "hello"), 7), closes_at("/echo", b""),
    closes_at("/echo", BIG[:20000]), closes_at("/echo", BIG * 3, 10000),
    resets_at("/echo", frame(TEXT, "hello"), 7), resets_at("/echo", b""),
    resets_at("/echo", BIG[:20000]), resets_at("/echo", BIG * 3, 10000),
    closes_at("/threads", b"", 20), resets_at("/threads", b"", 20),
    closes_at("/kept", b""), waits_for_end("/kept", frame(TEXT, "go")),
    waits_for_end("/error", frame(TEXT, "go")), waits_for_end("/exit", b""),
    waits_for_end("/echo", b"\x83\x80aaaa"),  # breaks a rule: the handler ends
    closes_at("/messages", frame(TEXT, "hello"), 7), resets_at("/messages", BIG[:20000]),
    mid_handshake, refused,
]


def rush(ng, count):
    """`count` connections, some lanes at a time, over TLS one in ten."""
    tls, failures = context(), []

    def lane(numbers):
        try:
            for n in numbers:
                secure = n % 10 == 0
                kind = KINDS[n // 2 % len(KINDS)]
                kind(ng, ng.port + secure, tls if secure else None)
        except Exception as error:
            failures.append(f"{kind}: {error!r}")
    threads = [threading.Thread(target=lane, args=(range(i, count, LANES),)) for i in range(LANES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, "\n".join(failures)


case.server += """
    location = /collect {
        content_by_lua_block {
            kept = nil
            collectgarbage()
            collectgarbage()
            ngx.print(collectgarbage("count"))
        }
    }
"""


def quiet(ng):
    await_(lambda: ng.sessions() == 0, "all sessions end")
    await_(lambda: ng.connections() == 0, "all connections end")
    return float(ng.get("/collect"))


@case(f"{TOTAL} connections leave nothing behind",
      logs=PURPOSE + "|bad \"sec-websocket-version\" request header")
def _(ng):
    worker, = ng.workers()
    for _ in range(2):
        rush(ng, TOTAL // 10)
    lua_before = quiet(ng)
    before = resident(worker)
    rush(ng, TOTAL)
    lua_after = quiet(ng)
    after = resident(worker)
    print(f"# worker: {before >> 10} KiB, then {after >> 10} KiB; "
          f"Lua: {lua_before:.0f} KiB, then {lua_after:.0f} KiB")
    equal(ng.workers(), [worker], "the same worker")
    within(after - before, GROWTH)
    assert lua_after - lua_before < 256, f"Lua grew by {lua_after - lua_before} KiB"


case.handler("/deflated", """
    local ws = assert(require("resty.websocket").accept{ compression = { threshold = 0 } })
    dead = dead or {}
    dead[#dead + 1] = ws
    for data in ws:messages() do
        ws:send(data)
    end
""")


@case("what compressing took goes with the connection, not with its Lua object",
      logs="writing a global Lua variable", memory=True)
def _(ng):
    worker, = ng.workers()
    packer = zlib.compressobj(wbits=-15)
    packed = (packer.compress(b"hello " * 100) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]

    def some(count):
        for n in range(count):
            peer = Peer(ng, "/deflated", first=frame(TEXT | 0x40, packed),
                        lines=("Sec-WebSocket-Extensions: permessage-deflate",))
            equal(peer.frame()[0], TEXT | 0x40)
            if n % 2:
                peer.send(frame(CLOSE, b"\x03\xe8"))
                peer.rest()
            peer.close()
        await_(lambda: ng.sessions() == 0, "all sessions end")
    some(10)
    before = resident(worker)
    some(400)
    grown = resident(worker) - before
    quiet(ng)
    # Both contexts of one connection are 0.3 MB. The allocator keeps a part of what was freed: it
    # cannot always use the holes between the objects that stay.
    within(grown, 400 * 200 * 1024)


def secured(ng):
    return dict(prelude=f"listen 127.0.0.1:{ng.port + 1} ssl; {ng.certificate()}")


# With a pause of the program's own the collector never waits for more garbage (ARCHITECTURE.md), which is
# no leak, but much more than one.
run(case, prepare=secured, http='init_worker_by_lua_block { collectgarbage("setpause", 199) }')
