BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# websockets, the API of libwebsockets' Lua binding: handshake, callbacks and methods of a websocket
# and of a context, each as the original's contract says, in one worker and without TLS.
import socket
import time

from lib.live import PORT, VALGRIND, Cases, equal, run
from lib.lws import Ws as Client
from lib.peer import BINARY_FRAME, CLOSE, PING, PONG, TEXT, frame

case = Cases()
PLAIN, PIECES = PORT + 2, PORT + 3

PROGRAM = """
    local websockets = require "websockets"
    local live = require "live"
    local log = {}                                    -- what on_add_fd and on_del_fd said

    local protocols = {}

    function protocols.echo(ws)
        ws:on_receive(function(ws, data)
            ws:write(data, websockets.WRITE_TEXT)
        end)
    end

    -- What is said is Lua, whose results come back.
    function protocols.run(ws)
        local same = ws
        ws:on_receive(function(ws, data)
            local code = assert(loadstring("local ws, websockets, context, live = ... " .. data))
            local function tell(ok, ...)
                local out = {}
                for i = 1, select("#", ...) do
                    out[i] = tostring((select(i, ...)))
                end
                ws:write((ok and "" or "error: ") .. table.concat(out, " | "))
            end
            tell(pcall(code, ws, websockets, context, live))
            assert(rawequal(ws, same))
        end)
    end

    -- What came, as it came.
    function protocols.pieces(ws)
        ws:on_receive(function(ws, data, typ)
            ws:write(#data .. " " .. ws:remaining_packet_payload(), typ)
        end)
    end

    -- Reports its end under the name it was told.
    function protocols.closing(ws)
        ws:on_receive(function(ws, id)
            if id == "close 0" then return ws:close() end
            local code = id:match("^close (.+)")
            if code then return ws:close(tonumber(code)) end
            ws:on_closed(function(ws)
                live.report_as(id, "closed", ws:write("x"), ws:broadcast("x"),
                               ws:get_socket_fd(), ws:rx_flow_control(1),
                               ws:remaining_packet_payload(), ws:close(1000))
            end)
            ws:write("ready")
        end)
    end

    -- Reports what comes, and closes when told so.
    function protocols.hearing(ws)
        ws:on_receive(function(ws, data)
            if data == "close" then return ws:close(4000) end
            live.report_as(data, "heard")
            ws:write("ok")
        end)
    end

    function protocols.default() end

    function protocols.modes(ws)
        ws:on_receive(function(ws, mode)
            if mode == "all" then
                ws:write("told " .. ws:broadcast("news"))
            elseif mode == "function" then
                ws:on_broadcast(function(ws, data) ws:write("heard " .. data) end)
            elseif mode == "close on news" then
                ws:on_broadcast(function(ws) ws:close(0) end)
            elseif mode == "fail on news" then
                ws:on_broadcast(function() error("on purpose") end)
            else
                ws:on_broadcast(websockets[mode])
            end
            ws:write("ok")
        end)
    end

    function protocols.failing(ws) error("on purpose") end
    function protocols.failing_later(ws) ws:on_receive(function() error({}) end) end
    protocols.silent = true                           -- no function: accepted, and never told

    function protocols.flow(ws)
        ws:on_receive(function(ws, data)
            if data == "stop" then
                ws:write(tostring(ws:rx_flow_control(stops)))
                ngx.timer.at(0.2, function() ws:rx_flow_control(starts) end)
            else
                ws:write(data)
            end
        end)
    end

    function protocols.slow_answer(ws)
        ws:on_receive(function(ws, data)
            ngx.sleep(tonumber(data))
            ws:write(data)
        end)
    end

    function protocols.talker(ws)
        ws:on_receive(function(ws, count)
            local piece, refused = ("t"):rep(65536), 0
            for _ = 1, count do
                refused = refused - ws:write(piece)
            end
            ngx.sleep(0.5)
            live.report_as("talker", refused)
        end)
        ws:on_server_writeable(function(ws) ws:write("room again") end)
    end

    local function start(config)
        -- on_add_fd is called before there is a context.
        config.on_add_fd = function(fd) log[#log + 1] = "+" .. fd end
        config.on_del_fd = function(fd) log[#log + 1] = "-" .. fd end
        return websockets.context(config)
    end

    function take_log()
        local text = table.concat(log, " ")
        log = {}
        return text
    end

    context = start { port = @PLAIN@, protocols = protocols }
    local pieces = start { port = @PIECES@, protocols = protocols, rx_buffer_size = 4096,
                           max_message_size = 65536 }
    for _, each in ipairs { context, pieces } do
        ngx.timer.at(0, function()
            while true do
                each:service(100000)
            end
        end)
    end
""".replace("@PLAIN@", str(PLAIN)).replace("@PIECES@", str(PIECES))


def Ws(ng, protocol, port=PLAIN, **options):
    return Client(ng, protocol, port, **options)


@case("the echo of the README, and its answer to the handshake")
def _(ng):
    ws = Ws(ng, "echo")
    lines = ws.answer.split(b"\r\n")
    equal(lines[0], b"HTTP/1.1 101 Switching Protocols")
    for line in (b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Protocol: echo",
                 b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="):
        assert line in lines, line
    assert not any(line.startswith(b"Sec-WebSocket-Extensions") for line in lines)
    for text in "a", "", "ä" * 1000, "b" * 100000:
        equal(ws.ask(text), text)
    ws.leave()


@case("the first offered subprotocol that there is gets chosen")
def _(ng):
    ws = Ws(ng, "nothing, ECHO, pieces", lines=["Sec-WebSocket-Protocol: echo"])
    assert b"\r\nSec-WebSocket-Protocol: pieces\r\n" in ws.answer, ws.answer
    ws.leave()


@case("frames that come with the handshake are not lost")
def _(ng):
    ws = Ws(ng, "echo", first=frame(TEXT, "first") + frame(TEXT, "second")[:5])
    equal(ws.text(), "first")
    ws.send(frame(TEXT, "second")[5:])
    equal(ws.text(), "second")
    ws.leave()


@case("on_receive gets whole messages, whatever frames they come in")
def _(ng):
    ws = Ws(ng, "pieces")
    equal(ws.ask("x" * 10000), "10000 0")
    ws.send(frame(0x01, "ab") + frame(PING, "in between") + frame(0x00, "c" * 5000)
            + frame(0x80, "d"))
    equal(ws.frame(), (PONG, b"in between"))
    equal(ws.text(), "5003 0")
    ws.send(frame(BINARY_FRAME, b"\x00\xff"))
    equal(ws.frame(), (BINARY_FRAME, b"2 0"))
    ws.send(frame(PONG, "nobody asked") + frame(TEXT, ""))
    equal(ws.text(), "0 0")
    ws.leave()


@case("rx_buffer_size: pieces as libwebsockets handed them out, and what remains of each message")
def _(ng):
    ws = Ws(ng, "pieces", PIECES)
    ws.send(frame(TEXT, "x" * 10000) + frame(TEXT, "y") + frame(TEXT, "z" * 4096))
    equal([ws.text() for _ in range(5)],
          ["4096 5904", "4096 1808", "1808 0", "1 0", "4096 0"])
    ws.leave()


@case("max_message_size: more than that is 1009")
def _(ng):
    ws = Ws(ng, "echo", PIECES)
    ws.send(frame(TEXT, "x" * 65537))
    first, data = ws.frame()
    equal((first, data[:2]), (CLOSE, b"\x03\xf1"))
    ws.close()


WRITES = [
    ("ws:write('a')", [(TEXT, b"a")], "0"),
    ("ws:write('a', websockets.WRITE_TEXT)", [(TEXT, b"a")], "0"),
    ("ws:write('a', nil)", [(TEXT, b"a")], "0"),
    ("ws:write('')", [(TEXT, b"")], "0"),
    ("ws:write(17)", [(TEXT, b"17")], "0"),
    ("ws:write('\\255', websockets.WRITE_BINARY)", [(BINARY_FRAME, b"\xff")], "0"),
    ("ws:write('\\255')", [(TEXT, b"\xff")], "0"),
    ("ws:write('p', websockets.WRITE_PING)", [(PING, b"p")], "0"),
    ("ws:write('', websockets.WRITE_PONG)", [(PONG, b"")], "0"),
    ("ws:write(('p'):rep(126), websockets.WRITE_PING)", [], "-1"),
    ("ws:write('a', websockets.WRITE_TEXT + websockets.WRITE_NO_FIN),"
     "ws:write('b', websockets.WRITE_CONTINUATION + websockets.WRITE_NO_FIN),"
     "ws:write('c', websockets.WRITE_CONTINUATION)",
     [(0x01, b"a"), (0x00, b"b"), (0x80, b"c")], "0 | 0 | 0"),
    ("ws:write('a', websockets.WRITE_BINARY + websockets.WRITE_CLIENT_IGNORE_XOR_MASK)",
     [(BINARY_FRAME, b"a")], "0"),
    ("ws:write('a', websockets.WRITE_HTTP)", [], "-1"),
    ("ws:write('a', 7)", [], "-1"),
    ("ws:write('a', -1)", [], "-1"),
    ("ws:write(('w'):rep(70000))", [(TEXT, b"w" * 70000)], "0"),
]


@case("write: every type and flag")
def _(ng):
    ws = Ws(ng, "run")
    for code, frames, result in WRITES:
        ws.send(frame(TEXT, f"return {code}"))
        for each in frames:
            equal(ws.frame(), each, code)
        equal(ws.text(), result, code)
    ws.send(frame(TEXT, "return ws:write('\\3\\233bye', websockets.WRITE_CLOSE), ws:write('x')"))
    equal(ws.frame(), (CLOSE, b"\x03\xe9bye"))
    ws.send(frame(CLOSE, b"\x03\xe9"))
    equal(ws.rest(), b"")
    ws.close()


MISUSE = [
    ("ws:write()", "bad argument #1 to 'write' (string expected, got no value)"),
    ("ws:write({})", "bad argument #1 to 'write' (string expected, got table)"),
    ("ws:write('a', 'b')", "bad argument #2 to 'write' (number expected, got string)"),
    ("ws:on_receive()", "bad argument #1 to 'on_receive' (function expected, got no value)"),
    ("ws:on_receive(1)", "bad argument #1 to 'on_receive' (function expected, got number)"),
    ("ws:on_closed({})", "bad argument #1 to 'on_closed' (function expected, got table)"),
    ("ws:on_server_writeable('')",
     "bad argument #1 to 'on_server_writeable' (function expected, got string)"),
    ("ws:on_broadcast()", "websocket on_broadcast value not supported"),
    ("ws:on_broadcast('x')", "websocket on_broadcast value not supported"),
    ("ws:broadcast()", "bad argument #1 to 'broadcast' (string expected, got no value)"),
    ("ws:close('x')", "bad argument #1 to 'close' (number expected, got string)"),
    ("ws:close(1005)", "bad argument #1 to 'close' (invalid close code 1005)"),
    ("ws:rx_flow_control()",
     "bad argument #1 to 'rx_flow_control' (boolean or number expected, got no value)"),
    ("ws:serve_http_file()", "bad argument #1 to 'serve_http_file' (string expected, got no value)"),
    ("ws:serve_http_file('x')",
     "bad argument #2 to 'serve_http_file' (string expected, got no value)"),
    ("context:service('x')", "bad argument #1 to 'service' (number expected, got string)"),
    ("context:service_fd()", "bad argument #1 to 'service_fd' (number expected, got no value)"),
    ("context:service_fd(1, 'x')",
     "bad argument #2 to 'service_fd' (number expected, got string)"),
    ("context:broadcast()", "bad argument #1 to 'broadcast' (string expected, got no value)"),
    ("context:broadcast('echo')", "bad argument #2 to 'broadcast' (string expected, got no value)"),
    ("context:broadcast('http-only', '')", "websocket unknown protocol"),
    ("context:broadcast('nothing', '')", "websocket unknown protocol"),
    ("websockets.context()", "bad argument #1 to 'context' (table expected, got no value)"),
    ("websockets.context{ port = 'x' }",
     "bad argument #1 to 'context' (port: number expected, got string)"),
    ("websockets.context{ protocols = 1 }",
     "bad argument #1 to 'context' (protocols: table expected, got number)"),
    ("websockets.context{ on_http = 1 }",
     "bad argument #1 to 'context' (on_http: function expected, got number)"),
    ("websockets.context{ protocols = { ['a b'] = print } }",
     "bad argument #1 to 'context' (protocols: \"a b\" is no name of a subprotocol)"),
    ("websockets.context{ protocols = { print } }",
     "bad argument #1 to 'context' (protocols: \"1\" is no name of a subprotocol)"),
    ("websockets.context{ port = 70000 }", "websocket could not create context: bad port"),
    (f"websockets.context{{ port = {PORT} }}",
     "websocket could not create context: address already in use"),
    (f"websockets.context{{ port = {PORT + 9}, interf = 'nothing0' }}",
     'websocket could not create context: no interface "nothing0"'),
]


@case("misuse is a Lua error that names the argument, and costs nothing else")
def _(ng):
    ws = Ws(ng, "run")
    for code, text in MISUSE:
        answer = ws.ask(f"return {code}")
        assert answer.startswith("error: ") and answer.endswith(text), f"{code}: {answer}"
    ws.leave()


@case("constants, and what things are called")
def _(ng):
    ws = Ws(ng, "run")
    expected = dict(
        WRITE_TEXT=0, WRITE_BINARY=1, WRITE_CONTINUATION=2, WRITE_HTTP=3, WRITE_CLOSE=4,
        WRITE_PING=5, WRITE_PONG=6, WRITE_NO_FIN=0x40, WRITE_CLIENT_IGNORE_XOR_MASK=0x80,
        SERVER_OPTIONS_DEFEAT_CLIENT_MASK=1, SERVER_OPTION_REQUIRE_VALID_OPENSSL_CLIENT_CERT=2,
        POLLIN=1, POLLOUT=4, POLLERR=8, POLLHUP=16)
    for name, value in expected.items():
        equal(ws.ask(f"return websockets.{name}"), str(value), name)
    equal(ws.ask("return websockets == rawget(_G, 'websockets'), type(context)"),
          "true | table")
    assert ws.ask("return tostring(ws)").startswith("websocket 0x")
    assert ws.ask("return tostring(context)").startswith("context 0x")
    equal(ws.ask("return context:canonical_hostname()"), socket.gethostname().lower())
    equal(ws.ask("return ws:get_peer_addresses()"), "127.0.0.1 | 127.0.0.1")
    equal(ws.ask("return ws:serve_http_file('x', 'y')"), "-1")
    equal(ws.ask("return ws:get_socket_fd() > 2, ws:remaining_packet_payload()"), "true | 0")
    ws.leave()


@case("service, service_fd and the websocket's own: what they return")
def _(ng):
    ws = Ws(ng, "run")
    equal(ws.ask("return context:service(), context:service(0), context:service(20)"), "0 | 0 | 0")
    equal(ws.ask("return context:service_fd(1, 1), context:service_fd(ws:get_socket_fd()),"
                 "context:service_fd(ws:get_socket_fd(), websockets.POLLIN)"), "0 | 0 | 0")
    equal(ws.ask("return ws:service(1), ws:service()"), "0 | 0")
    ws.leave()


@case("on_add_fd and on_del_fd: the port's descriptor, then every connection's")
def _(ng):
    ws = Ws(ng, "run")
    first = ws.ask("return take_log()").split()
    # Two ports at the start, and ourselves; those of the cases before this one have gone.
    equal(sum(1 if word[0] == "+" else -1 for word in first), 3)
    other = Ws(ng, "closing")
    other.send(frame(TEXT, other.id))
    equal(other.text(), "ready")
    came = ws.ask("return take_log()")
    assert came.startswith("+") and " " not in came, came
    other.leave()
    equal(other.report(), "closed | -1 | -1 | -1 | 1 | 0")
    equal(ws.ask("return take_log()"), came.replace("+", "-"))
    ws.leave()


@case("on_closed: once, for each way to end")
def _(ng):
    def goodbye(ws):
        ws.send(frame(CLOSE, b"\x0f\xa0reason"))
        equal(ws.frame(), (CLOSE, b"\x0f\xa0"))

    def eof(ws):
        ws.fin()

    def reset(ws):
        ws.rst()

    def bad_frame(ws):
        ws.send(b"\x83\x80....")
        equal(ws.frame()[1][:2], b"\x03\xea")

    def unmasked(ws):
        ws.send(frame(TEXT, "plain", key=None))
        equal(ws.frame()[1][:2], b"\x03\xea")

    def bad_text(ws):
        ws.send(frame(TEXT, b"\xff"))
        equal(ws.frame()[1][:2], b"\x03\xef")

    def closed_at_once(ws):
        ws.send(frame(TEXT, "close 0"))
        equal(ws.rest(), b"")

    def closed_with_code(ws):
        ws.send(frame(TEXT, "close 3001"))
        equal(ws.frame(), (CLOSE, b"\x0b\xb9"))
        ws.send(frame(CLOSE, b"\x0b\xb9"))
        equal(ws.rest(), b"")

    def closed_twice(ws):
        ws.send(frame(TEXT, "close 3001") + frame(TEXT, "close 3001"))
        equal(ws.frame(), (CLOSE, b"\x0b\xb9"))
        equal(ws.rest(), b"")

    for end in (goodbye, eof, reset, bad_frame, unmasked, bad_text, closed_at_once,
                closed_with_code, closed_twice):
        ws = Ws(ng, "closing")
        ws.send(frame(TEXT, ws.id))
        equal(ws.text(), "ready")
        end(ws)
        equal(ws.report(), "closed | -1 | -1 | -1 | 1 | 0", end.__name__)
        equal(ng.get("/reports?id=" + ws.id), "0", "on_closed was called again")
        if end is not reset:
            ws.close()


@case("after close(code) what still comes is handed out, and the wait for the peer is bounded")
def _(ng):
    ws = Ws(ng, "hearing")
    ws.send(frame(TEXT, "close"))
    equal(ws.frame(), (CLOSE, b"\x0f\xa0"))
    started = time.monotonic()
    ws.send(frame(TEXT, ws.id))
    equal(ws.report(), "heard")
    equal(ws.rest(), b"")
    took = time.monotonic() - started
    assert 4 < took < 7, f"{took} s"
    ws.close()


@case("broadcast: forwarded as text by default, as another type, to a function, to oneself too")
def _(ng):
    modes = ["", "WRITE_TEXT", "WRITE_BINARY", "function"]
    peers = [Ws(ng, "modes") for _ in modes]
    stranger = Ws(ng, "echo")
    for peer, mode in zip(peers, modes):
        if mode:
            equal(peer.ask(mode), "ok")
    peers[1].send(frame(TEXT, "all"))
    got = [peer.frame() for peer in peers]
    equal(got, [(TEXT, b"news"), (TEXT, b"news"), (BINARY_FRAME, b"news"),
                (TEXT, b"heard news")])
    equal(peers[1].text(), "told 0")
    runner = Ws(ng, "run")
    equal(runner.ask("return context:broadcast('modes', 17)"), "0")
    equal(stranger.ask("nothing else"), "nothing else")
    for peer in peers[2:] + [stranger, runner, peers[0]]:
        if peer in peers:
            peer.frame()
        peer.leave()
    peers[1].close()


@case("a broadcast during which connections close or fail reaches the others",
      logs="websockets: on_broadcast failed: .*on purpose")
def _(ng):
    modes = ["close on news", "WRITE_TEXT", "fail on news", "WRITE_TEXT"]
    peers = [Ws(ng, "modes") for _ in modes]
    for peer, mode in zip(peers, modes):
        equal(peer.ask(mode), "ok")
    runner = Ws(ng, "run")
    equal(runner.ask("return context:broadcast('modes', 'x')"), "0")
    equal([peers[1].text(), peers[3].text()], ["x", "x"])
    equal(peers[0].rest(), b"")
    equal(peers[2].frame(), (CLOSE, b"\x03\xf3"))
    for peer in peers[0], peers[2]:
        peer.close()
    for peer in peers[1], peers[3], runner:
        peer.leave()


@case("a callback that fails is logged with a traceback and closes its own connection only",
      logs=r"websockets: (on_receive|protocol failing) failed")
def _(ng):
    witness = Ws(ng, "echo")
    for protocol, text in ("failing", None), ("failing_later", "x"):
        ws = Ws(ng, protocol)
        if text:
            ws.send(frame(TEXT, text))
        equal(ws.frame(), (CLOSE, b"\x03\xf3"))
        equal(ws.rest(), b"")
        ws.close()
        equal(witness.ask(protocol), protocol)
    log = ng.read_log()
    assert "on purpose" in log and "stack traceback" in log
    witness.leave()


@case("a protocol without a function, and one whose function registers nothing")
def _(ng):
    for protocol in "silent", "default":
        ws = Ws(ng, protocol)
        ws.send(frame(TEXT, "anybody?") + frame(PING, "p"))
        equal(ws.frame(), (PONG, b"p"))
        ws.leave()


@case("a callback that waits holds nobody up but its own connection")
def _(ng):
    runner = Ws(ng, "run")
    equal(runner.ask("return context:fork_service_loop()"), "0")
    slow, quick = Ws(ng, "slow_answer"), Ws(ng, "echo")
    pause = "4" if VALGRIND else "1"
    slow.send(frame(TEXT, pause) + frame(TEXT, "0.01"))
    started = time.monotonic()
    for n in range(5):
        equal(quick.ask(str(n)), str(n))
    assert time.monotonic() - started < float(pause), "the echo waited for the slow answer"
    equal([slow.text(), slow.text()], [pause, "0.01"])
    for ws in slow, quick, runner:
        ws.leave()


@case("rx_flow_control stops the reading, and nothing is lost")
def _(ng):
    runner = Ws(ng, "run")
    for stops, starts in ("0", "1"), ("false", "true"), ("0", "true"):
        runner.ask(f"rawset(_G, 'stops', {stops}) rawset(_G, 'starts', {starts})")
        ws = Ws(ng, "flow")
        started = time.monotonic()
        ws.send(frame(TEXT, "stop") + b"".join(frame(TEXT, f"{n}") for n in range(500)))
        equal(ws.text(), "0")
        for n in range(500):
            equal(ws.text(), str(n))
        assert time.monotonic() - started > 0.15, "handed out although it was stopped"
        ws.leave()
    runner.leave()


@case("a client that does not read its echo is slowed down, and costs nobody else anything")
def _(ng):
    slow, quick = Ws(ng, "echo", window=8192), Ws(ng, "echo")
    piece = b"e" * 65536
    slow.sock.setblocking(False)
    sent, stalled, pending = 0, 0, b""
    while stalled < 30 and sent < 400:
        pending = pending or frame(BINARY_FRAME, piece)
        try:
            pending = pending[slow.sock.send(pending):]
            sent, stalled = sent + (not pending), 0
        except BlockingIOError:
            stalled += 1
            time.sleep(0.01)
    assert sent < 400, "26 MB were taken from a client that reads nothing"
    equal(quick.ask("still here"), "still here")
    slow.sock.settimeout(30)
    # It reads now, and gets everything.
    for n in range(sent):
        assert slow.frame()[1] == piece, n
    if pending:
        slow.send(pending)
        slow.frame()
    for ws in slow, quick:
        ws.leave()


@case("write never waits: far above the send buffer it is -1; on_server_writeable tells of room")
def _(ng):
    ws = Ws(ng, "talker", window=8192)
    ws.send(frame(TEXT, "200"))
    refused = int(ng.get("/live/take?id=talker&wait=10"))
    assert 50 < refused < 150, refused
    count = 0
    while True:
        data = ws.frame()[1]
        if data[:1] != b"t":
            break
        count += 1
    equal((count, data), (200 - refused, b"room again"))
    ws.leave()


@case("a slow listener to broadcasts is closed with 1013, the others hear everything")
def _(ng):
    slow, quick, runner = Ws(ng, "default", window=8192), Ws(ng, "default"), Ws(ng, "run")
    text = "b" * 30000
    for _ in range(150):
        equal(runner.ask("return context:broadcast('default', ('b'):rep(30000))"), "0")
        equal(quick.text(), text)
    count, last = 0, slow.frame()
    while last == (TEXT, text.encode()):
        count, last = count + 1, slow.frame()
    assert 0 < count < 150
    equal((last[0], last[1][:2]), (CLOSE, b"\x03\xf5"))
    slow.close()
    for ws in quick, runner:
        ws.leave()


case.handler("/reports", "ngx.print(ngx.shared.live:llen(ngx.var.arg_id))")

run(case, http="init_worker_by_lua_block {" + PROGRAM + "}")
