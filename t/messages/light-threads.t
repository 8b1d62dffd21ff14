BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Light threads that wait, and are killed or end with their request meanwhile: in recv, in send above
# the high-water mark, in close, for a connection to be accepted. Nobody else is woken in their place, and
# the next who waits there is.
import socket
import threading

from lib.live import PATIENCE, Cases, await_, equal, run
from lib.peer import BINARY_FRAME, CLOSE, TEXT, Peer, frame

case = Cases()
MIB = 1 << 20

case.handler("/sleepers", """
    local ws = assert(require("resty.websocket").accept())
    local kill, spawn = ngx.thread.kill, ngx.thread.spawn
    local woken, sleepers = 0, {}
    for n = 1, 50 do
        local reader = spawn(function() return ws:recv() end)
        assert(kill(reader))
        sleepers[n] = spawn(function()
            ngx.sleep(1000)
            woken = woken + 1
        end)
    end
    -- One whose coroutine and memory have been used before, and that waits for another connection.
    local other = ngx.socket.tcp()
    assert(other:connect("127.0.0.1", tonumber(ngx.var.arg_port)))
    sleepers[51] = spawn(function()
        other:settimeout(1000000)
        other:receive()
        woken = woken + 1
    end)
    collectgarbage()
    collectgarbage()
    live.report("reading")
    live.report(ws:recv())
    live.report(ws:recv())
    live.report("woken", woken)
    for n = 1, 51 do
        assert(kill(sleepers[n]))
    end
""")


@case("fifty readers were killed: a message wakes the one that reads, and none that waits elsewhere")
def _(ng):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = Peer(ng, f"/sleepers?port={listener.getsockname()[1]}")
        equal(peer.report(), "reading")
        for word in b"one", b"two":
            peer.send(frame(TEXT, word))
            equal(peer.report(), f"{word.decode()} | text | nil | nil")
        equal(peer.report(), "woken | 0")
        equal(peer.frame(), (CLOSE, b"\x03\xe8"))
        peer.close()


case.handler("/sender", f"""
    local ws = assert(require("resty.websocket").accept())
    assert(ws:send(("a"):rep({8 * MIB}), "binary"))
    local first = ngx.thread.spawn(function() return ws:send("lost") end)
    live.report(ngx.thread.kill(first))
    local second = ngx.thread.spawn(function() return ws:send("kept") end)
    live.report("sending")
    live.report(ngx.thread.wait(second))
    live.report(ws:recv())
""")


@case("a sender killed while it waits has sent nothing, the next one goes on when there is room")
def _(ng):
    peer = Peer(ng, "/sender", window=65536)
    equal(peer.report(), "1")
    equal(peer.report(), "sending")
    equal(peer.frame(), (BINARY_FRAME, b"a" * (8 * MIB)))
    equal(peer.frame(), (TEXT, b"kept"))
    equal(peer.report(), "true | 6")
    peer.send(frame(TEXT, b"over"))
    equal(peer.report(), "over | text | nil | nil")
    peer.close()


case.handler("/closer", """
    local ws = assert(require("resty.websocket").accept())
    local first = ngx.thread.spawn(function() return ws:close(4001, "bye") end)
    live.report(ngx.thread.kill(first))
    local second = ngx.thread.spawn(function() return ws:close() end)
    live.report("closing")
    live.report(ngx.thread.wait(second))
    live.report(ws:close_info())
""")


@case("close() was killed while it waited for the peer: the next one waits on")
def _(ng):
    peer = Peer(ng, "/closer")
    equal(peer.report(), "1")
    equal(peer.report(), "closing")
    equal(peer.frame(), (CLOSE, b"\x0f\xa1bye"))
    peer.send(frame(CLOSE, b"\x0f\xa1"))
    equal(peer.report(), "true | true")
    peer.report()
    equal(peer.rest(), b"")
    peer.close()


case.handler("/acceptor", """
    local listener = assert(require("resty.websocket.listen").open{ host = "127.0.0.1", port = 0 })
    local first = ngx.thread.spawn(function() return listener:accept(600000) end)
    live.report(ngx.thread.kill(first))
    local second = ngx.thread.spawn(function() return listener:accept(600000) end)
    live.report(listener:port())
    local _, conn = ngx.thread.wait(second)
    assert(conn):send("hello\\n")
    conn:close()
    listener:close()
    ngx.print("done")
""")


@case("accept() was killed while it waited: the next one gets the connection")
def _(ng):
    answer = []
    thread = threading.Thread(target=lambda: answer.append(ng.get("/acceptor?id=acceptor")))
    thread.start()

    def report():
        return ng.get(f"/live/take?id=acceptor&wait={PATIENCE}", patience=PATIENCE + 5)
    equal(report(), "1")
    with socket.create_connection(("127.0.0.1", int(report())), PATIENCE) as client:
        equal(client.makefile().readline(), "hello\n")
    thread.join()
    equal(answer, ["done"])


case.handler("/leave", f"""
    local ws = assert(require("resty.websocket").accept())
    ngx.thread.spawn(function() return ws:recv() end)
    ws:send(("a"):rep({8 * MIB}), "binary")
    ngx.thread.spawn(function() return ws:send("lost") end)
    live.report("waiting")
    live.take_signal()
    ngx.exit(444)
""")


@case("a request ends with light threads that wait to receive and to send, and its worker goes on")
def _(ng):
    workers = ng.workers()
    for _ in range(20):
        peer = Peer(ng, "/leave", window=65536)
        equal(peer.report(), "waiting")
        peer.send(frame(TEXT, b"never read"))
        peer.signal()
        await_(lambda: ng.sessions() == 0, "the session ends")
        peer.close()
    equal(ng.workers(), workers)


run(case)
