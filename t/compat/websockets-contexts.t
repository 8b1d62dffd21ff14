BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# websockets contexts: serviced by descriptor, by nobody for a while, on an IPv6 address; the http
# block's directives; broadcasts that are too many; lua_code_cache off.
import socket
import time

from lib.live import PORT, VALGRIND, Cases, Nginx, Tap, await_, equal, run
from lib.lws import Ws, is_open, seen
from lib.peer import CLOSE, PING, PONG, TEXT, frame

tap, case = Tap(), Cases()
EV, LAZY, SIX, LOCAL = PORT + 2, PORT + 3, PORT + 4, PORT + 5

PROGRAM = """
    local websockets = require "websockets"
    local live = require "live"

    local protocols = {}
    function protocols.echo(ws)
        ws:on_receive(function(ws, data) ws:write(data) end)
    end
    function protocols.order(ws)
        local said = {}
        ws:on_receive(function(ws, data)
            said[#said + 1] = "receive"
            ws:close(0)
            said[#said + 1] = "after close"
            live.report_as("order", table.concat(said, ", "))
        end)
        ws:on_closed(function() said[#said + 1] = "closed" end)
    end
    function protocols.waiting(ws)
        ws:on_receive(function(ws, data)
            live.report_as("wait", context:wait(ws:get_socket_fd(), 30), context:wait(12345, 30))
            ws:write("waited")
        end)
    end

    -- Every descriptor has a light thread, which notes what service_fd() returned.
    context = websockets.context {
        port = @EV@, protocols = protocols,
        on_add_fd = function(fd)
            ngx.timer.at(0, function()
                local results = {}
                while context:wait(fd) do
                    results[#results + 1] = context:service_fd(fd, 0, websockets.POLLIN)
                end
                live.report_as("results", results[#results])
            end)
        end,
    }

    lazy = websockets.context { port = @LAZY@, protocols = protocols }
    websockets.context { port = @SIX@, protocols = protocols, interf = "::1", gid = 0, uid = 0,
                         options = 0, backlog = 10, workers = 1 }:fork_service_loop()
"""
for name, port in ("EV", EV), ("LAZY", LAZY), ("SIX", SIX):
    PROGRAM = PROGRAM.replace(f"@{name}@", str(port))


def result(ng):
    return ng.get("/live/take?id=results&wait=10")


@case("service_fd: 0 for a close handshake and an end of stream, 1 for an error")
def _(ng):
    await_(lambda: is_open(EV), "the port opens")
    equal(result(ng), "0")  # that was a connection too
    for end, expected in (lambda ws: ws.leave(), "0"), (lambda ws: ws.fin(), "0"), \
            (lambda ws: ws.send(b"\x83\x80...."), "1"):
        ws = Ws(ng, "echo", EV)
        equal(ws.ask("x"), "x")
        end(ws)
        equal(result(ng), expected)
        ws.close()


@case("wait: false when the time is over, nil for a descriptor of somebody else")
def _(ng):
    ws = Ws(ng, "waiting", EV)
    equal(ws.ask("x"), "waited")
    equal(ng.get("/live/take?id=wait&wait=5"), "false | nil")
    ws.leave()
    equal(result(ng), "0")


case.handler("/publish-ev", """
    ngx.print(require("resty.websocket").publish("websockets:@EV@:echo", "published"))
""".replace("@EV@", str(EV)))


@case("without service(): broadcasts of others come by the port's descriptor")
def _(ng):
    ws = Ws(ng, "echo", EV)
    equal(ws.ask("x"), "x")
    ng.get("/publish-ev")
    equal(ws.text(), "published")
    ws.leave()
    result(ng)


@case("close(0) calls on_closed before it returns")
def _(ng):
    ws = Ws(ng, "order", EV)
    ws.send(frame(TEXT, "x") + frame(TEXT, "not heard any more"))
    equal(ng.get("/live/take?id=order&wait=5"), "receive, closed, after close")
    equal(ws.rest(), b"")
    ws.close()
    result(ng)


case.handler("/portless", """
    local context = require("websockets").context { protocols = { echo = print } }
    ngx.print(context:service(0), " ", context:service(20), " ", context:broadcast("echo", "x"))
    context:destroy()
""")


@case("a context without a port")
def _(ng):
    equal(ng.get("/portless"), "0 0 0")


case.handler("/serve", "ngx.print(lazy:service(tonumber(ngx.var.arg_ms)))")
case.handler("/publish", """
    local websocket = require "resty.websocket"
    for n = 1, tonumber(ngx.var.arg_n) do
        assert(websocket.publish("websockets:@LAZY@:echo", n, { scope = "worker" }))
    end
""".replace("@LAZY@", str(LAZY)))
case.handler("/dropped", """
    ngx.print(require("resty.websocket").info().slow_consumers.dropped)
""")


@case("service in requests: what came meanwhile waits for it, and it waits no longer than told")
def _(ng):
    ws = Ws(ng, "echo", LAZY)
    ws.send(frame(TEXT, "x") + frame(PING, "p"))
    equal(ws.frame(), (PONG, b"p"))         # needs no service
    equal(ng.get("/serve?ms=0"), "0")       # the connection
    ng.get("/serve?ms=0")
    equal(ws.text(), "x")
    started = time.monotonic()
    equal(ng.get("/serve?ms=200"), "0")
    assert 0.15 < time.monotonic() - started < 2
    # An event ends the wait.
    started = time.monotonic()
    ws.send(frame(TEXT, "y"))
    equal(ng.get("/serve?ms=9000"), "0")
    equal(ws.text(), "y")
    assert time.monotonic() - started < 5
    ws.send(frame(CLOSE, b"\x03\xe8"))
    equal(ng.get("/serve?ms=9000"), "0")
    equal(ws.frame(), (CLOSE, b"\x03\xe8"))
    equal(ws.rest(), b"")
    ws.close()


@case("broadcasts that nobody takes are bounded, counted and told",
      logs="websockets: 904 broadcasts lost, because service")
def _(ng):
    ws = Ws(ng, "echo", LAZY)
    ng.get("/serve?ms=9000")
    before = int(ng.get("/dropped"))
    ng.get("/publish?n=5000")
    equal(int(ng.get("/dropped")) - before, 904)
    ng.get("/serve?ms=0")
    equal([ws.text() for _ in range(4096)], [str(n) for n in range(1, 4097)])
    assert "904 broadcasts lost" in ng.read_log()
    ng.get("/publish?n=2")
    ng.get("/serve?ms=0")
    equal([ws.text(), ws.text()], ["1", "2"])
    ws.send(frame(CLOSE, b"\x03\xe8"))
    ng.get("/serve?ms=9000")
    equal(ws.frame(), (CLOSE, b"\x03\xe8"))
    ws.close()


@case("an IPv6 address to listen on")
def _(ng):
    def connected():
        s = socket.socket(socket.AF_INET6)
        return s if not s.connect_ex(("::1", SIX)) else s.close()
    s = await_(connected, "the port opens")
    s.sendall(b"GET / HTTP/1.1\r\nHost: t\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
              b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
              b"Sec-WebSocket-Protocol: echo\r\n\r\n" + frame(TEXT, "six"))
    data = b""
    while not data.endswith(b"six"):
        more = s.recv(4096)
        assert more, data
        data += more
    s.close()
    with socket.socket() as four:
        assert four.connect_ex(("127.0.0.1", SIX)), "IPv4 is served too"


run(case, tap=tap, http="init_worker_by_lua_block {" + PROGRAM + "}")

# --- directives ----------------------------------------------------------------------------------

ECHO = """
    local websockets = require "websockets"
    websockets.context { port = %d, protocols = { echo = function(ws)
        ws:on_receive(function(ws, data) ws:write(data) end)
    end } }:fork_service_loop()
""" % LOCAL
case = Cases()
seen.clear()


@case("websocket_ping_interval, websocket_ping_timeout and websocket_max_message_size of the http block")
def _(ng):
    ws = Ws(ng, "echo", LOCAL)
    for _ in range(2):
        equal(ws.frame()[0], PING)
        ws.send(frame(PONG))
    ws.send(frame(TEXT, "x" * 101))
    first, data = ws.frame()
    while first == PING:
        first, data = ws.frame()
    equal((first, data[:2]), (CLOSE, b"\x03\xf1"))
    ws.close()
    dead = Ws(ng, "echo", LOCAL)
    started = time.monotonic()
    while dead.more():
        pass
    assert time.monotonic() - started < 5, "a dead peer was kept"
    dead.close()


run(case, tap=tap, http="""
    websocket_ping_interval 100ms; websocket_ping_timeout 200ms; websocket_max_message_size 100;
    websocket_shutdown_close off;
    init_worker_by_lua_block {""" + ECHO + "}")

case = Cases()
seen.clear()


@case("lua_code_cache off")
def _(ng):
    for n in range(3):
        ws = Ws(ng, "echo", LOCAL)
        equal(ws.ask(str(n)), str(n))
        ws.leave()


run(case, tap=tap, http="lua_code_cache off; init_worker_by_lua_block {" + ECHO + "}")

# --- a worker that ends ---------------------------------------------------------------------------

seen.clear()
ng = Nginx(http="init_worker_by_lua_block {" + ECHO.replace(":fork_service_loop()", "").replace(
    "websockets.context", "kept = websockets.context") + "}")
try:
    ng.start()
    ws = Ws(ng, "echo", LOCAL)

    def end():
        started = time.monotonic()
        equal(ng.stop(), 0, "exit code of nginx")
        assert 3 < time.monotonic() - started < (30 if VALGRIND else 9)
        equal(ws.frame(), (CLOSE, b"\x03\xe9server is shutting down"))
        equal(ws.rest(), b"")
        assert not ng.loud()
    tap.attempt("a connection that nobody services does not keep its worker", end)
finally:
    ng.kill()
tap.done()
