BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# websocket.serve(): which callback is called with what, in which order, and what may be done in one.
from lib.live import Cases, await_, equal, run
from lib.peer import BINARY_FRAME, CLOSE, PING, PONG, TEXT, Peer, frame

case = Cases()

# `say` reports as the peer of the request that called serve(), of which a callback knows nothing.
SERVE = """
    local websocket = require "resty.websocket"
    local id = ngx.var.arg_id
    local function say(...) live.report_as(id, ...) end
    local opts = { %s }
    say(websocket.serve(opts))
"""


def serve(path, callbacks, directives="", after=""):
    case.handler(path, SERVE % callbacks + after, directives)


serve("/order", """
    on_open = function(ws) say("open", ws.role, #ws.id, ws:state()) ws:send("hello") end,
    on_message = function(ws, data, typ)
        if data == "sleep" then ngx.sleep(0.05) end
        ws.data = (ws.data or 0) + 1
        say(data, typ, ws.data)
        ws:send(data, typ)
    end,
    on_close = function(ws, code, reason) say("close", code, reason, ws:state(), ws:close_info()) end,
""")


@case("opening, messages and the end, in order")
def _(ng):
    peer = Peer(ng, "/order", first=frame(TEXT, "first"))
    equal(peer.report(), "true")
    equal(peer.report(), "open | server | 32 | open")
    equal(peer.frame(), (TEXT, b"hello"))
    equal(peer.frame(), (TEXT, b"first"))
    peer.send(frame(TEXT, "sleep") + frame(BINARY_FRAME, "b") + frame(PING, "p") + frame(0x01, "c")
              + frame(0x80, "d"))
    equal([peer.report() for _ in range(4)],
          ["first | text | 1", "sleep | text | 2", "b | binary | 3", "cd | text | 4"])
    equal([peer.frame() for _ in range(4)],
          [(PONG, b"p"), (TEXT, b"sleep"), (BINARY_FRAME, b"b"), (TEXT, b"cd")])
    peer.send(frame(TEXT, "e") + frame(CLOSE, b"\x03\xe8bye"))
    equal(peer.report(), "e | text | 5")
    equal([peer.frame(), peer.frame()], [(TEXT, b"e"), (CLOSE, b"\x03\xe8")])
    equal(peer.report(), "close | 1000 | bye | closed | 1000 | bye | true")
    equal(peer.rest(), b"")


@case("messages come while the handler that called serve() goes on, and after it")
def _(ng):
    peer = Peer(ng, "/long", first=frame(TEXT, "a"))
    equal([peer.report(), peer.report()], ["true", "got | a"])
    peer.signal()
    equal(peer.report(), "returns")
    peer.send(frame(TEXT, "b"))
    equal(peer.report(), "got | b")
    peer.send(frame(CLOSE, b"\x03\xe8"))
    equal(peer.rest(), bytes([CLOSE]) + b"\x02\x03\xe8")


serve("/long", """on_message = function(ws, data) say("got", data) end""",
      after='live.take_signal() say("returns")')


@case("an end while the handler goes on")
def _(ng):
    peer = Peer(ng, "/long", first=frame(CLOSE, b"\x03\xe8"))
    equal(peer.report(), "true")
    equal(peer.frame(), (CLOSE, b"\x03\xe8"))
    peer.signal()
    equal(peer.report(), "returns")
    equal(peer.rest(), b"")


@case("a handler that fails after serve() ends the connection with 1011", logs="after all")
def _(ng):
    peer = Peer(ng, "/fails")
    equal(peer.report(), "true")
    equal(peer.frame(), (CLOSE, b"\x03\xf3"))
    equal(peer.report(), "close | 1011")
    equal(peer.rest(), b"")


# A handler that ends by an error takes its local variables with it.
case.handler("/fails", """
    package.loaded.failing = { id = ngx.var.arg_id, report = live.report_as }
    live.report(require("resty.websocket").serve {
        on_close = function(ws, code)
            local failing = package.loaded.failing
            failing.report(failing.id, "close", code)
        end,
    })
    error("after all")
""")


# As /fails.
case.handler("/exits", """
    package.loaded.exiting = { id = ngx.var.arg_id, report = live.report_as }
    live.report(require("resty.websocket").serve {
        on_message = function(ws, data) ws:send(data) end,
        on_close = function(ws, code)
            local exiting = package.loaded.exiting
            exiting.report(exiting.id, "close", code)
        end,
    })
    if ngx.var.arg_later then live.take_signal() end
    ngx.exit(tonumber(ngx.var.arg_status))
""")


def exits(ng, status):
    """Both at once and after a wait."""
    for later in "", "&later=1":
        peer = Peer(ng, f"/exits?status={status}{later}")
        equal(peer.report(), "true")
        if later:
            peer.signal()
        yield peer


@case("ngx.exit after serve() is a return", logs="attempt to set status 404")
def _(ng):
    for status in 0, 200, 404:
        for peer in exits(ng, status):
            for _ in range(2):
                peer.send(frame(TEXT, "a"))
                equal(peer.frame(), (TEXT, b"a"))
            closed(peer)
            equal(peer.report(), "close | 1000")


@case("but a failure with ngx.ERROR, 408 and 499, and 444 cuts the connection")
def _(ng):
    for status in -1, 408, 499, 444:
        for peer in exits(ng, status):
            equal(peer.rest(), b"" if status == 444 else bytes([CLOSE]) + b"\x02\x03\xf3")
            equal(peer.report(), "close | 1006" if status == 444 else "close | 1011")


@case("a peer that goes without a word")
def _(ng):
    peer = Peer(ng, "/order")
    equal([peer.report(), peer.report()], ["true", "open | server | 32 | open"])
    equal(peer.frame(), (TEXT, b"hello"))
    peer.sock.close()
    equal(peer.report(), "close | 1006 | connection lost | closed | 1006 | connection lost | false")


@case("a peer that breaks a rule")
def _(ng):
    peer = Peer(ng, "/order", first=frame(TEXT, "a") + frame(0x83, "?"))
    equal([peer.report() for _ in range(3)],
          ["true", "open | server | 32 | open", "a | text | 1"])
    equal(peer.report().split(" | ")[:2], ["close", "1002"])
    peer.rest()


serve("/all", """
    on_message = function(ws, data)
        local call = assert(loadstring("return function(ws, say, websocket) " .. data .. " end"))()
        ws:send(tostring((call(ws, say, websocket))))
    end,
    on_close = function(ws, code, reason) say("close", code, reason) end,
""")


def lua(peer, code):
    peer.send(frame(TEXT, code))
    return peer.frame()[1].decode()


def opened(ng, path):
    peer = Peer(ng, path)
    equal(peer.report(), "true")
    return peer


def closed(peer, code=b"\x03\xe8"):
    peer.send(frame(CLOSE, code))
    equal(peer.frame()[0], CLOSE)
    equal(peer.rest(), b"")


@case("ngx.ctx is empty at each start, whatever was left in it")
def _(ng):
    one, two = opened(ng, "/all"), opened(ng, "/all")
    equal(lua(one, "return next(ngx.ctx)"), "nil")
    equal(lua(one, "ngx.ctx.x = 1 ngx.sleep(0.001) return ngx.ctx.x"), "1")
    equal(lua(one, "return ngx.ctx.x"), "nil")
    equal(lua(one, "ngx.ctx = { x = 2 } return ngx.ctx.x"), "2")
    equal(lua(two, "return ngx.ctx.x"), "nil")
    closed(one)
    closed(two)


@case("ngx.var and ngx.req are no part of a callback")
def _(ng):
    peer = opened(ng, "/all")
    for call in "return ngx.var.host", "return ngx.req.get_headers()", "return ngx.say(1)":
        answer = lua(peer, f"return select(2, pcall(function() {call} end))")
        assert "API disabled in the c" in answer or "no request" in answer, answer
    equal(lua(peer, "return ngx.get_phase()"), "timer")
    closed(peer)


@case("recv() is an error, and nothing is lost by it")
def _(ng):
    peer = opened(ng, "/all")
    answer = lua(peer, "return select(2, pcall(function() local x = ws:recv() end))")
    assert answer.endswith("recv() on a connection whose messages go to on_message"), answer
    assert answer.startswith('[string "return function'), answer
    answer = lua(peer, "return select(2, pcall(function() for _ in ws:messages() do end end))")
    assert answer.endswith("recv() on a connection whose messages go to on_message"), answer
    closed(peer)


@case("cosockets and light threads")
def _(ng):
    peer = opened(ng, "/all")
    equal(lua(peer, f"""
        local sock = ngx.socket.tcp()
        assert(sock:connect("127.0.0.1", {ng.port}))
        sock:send("GET /live/open HTTP/1.0\\r\\n\\r\\n")
        return sock:receive("*l")"""), "HTTP/1.1 200 OK")
    equal(lua(peer, """
        local thread = ngx.thread.spawn(function() ngx.sleep(0.001) return 7 end)
        return select(2, ngx.thread.wait(thread))"""), "7")
    closed(peer)


@case("subscribe and publish")
def _(ng):
    one, two = opened(ng, "/all"), opened(ng, "/all")
    equal(lua(one, "return ws:subscribe('t')"), "true")
    equal(lua(two, "return ws:subscribe('t')"), "true")
    equal(lua(one, "return websocket.publish('t', 'news', { except = ws.id })"), "2")
    equal(two.frame(), (TEXT, b"news"))
    equal(lua(two, "websocket.publish('t', 'to all') return ws:topics()[1]"), "to all")
    equal(two.frame(), (TEXT, b"t"))
    equal(one.frame(), (TEXT, b"to all"))
    closed(one)
    closed(two)


@case("a handler for gaps is called though no message comes")
def _(ng):
    peer = opened(ng, "/all")
    equal(lua(peer, "return ws:subscribe('kept', { on_gap = function(topic, why) say(topic, why) end })"),
          "true")
    ng.get("/forget")
    equal(peer.frame(), (TEXT, b"m"))
    equal(peer.report(), "kept | epoch")
    closed(peer)


case.handler("/forget", """
    local websocket = require "resty.websocket"
    assert(websocket.publish("kept", "m"))
    assert(websocket.forget("kept"))
""")


@case("close() in a callback waits for the peer, and is the last thing told")
def _(ng):
    peer = opened(ng, "/all")
    peer.send(frame(TEXT, "say('closes') say(ws:close(4000, 'bye')) say('closed')")
              + frame(TEXT, "say('too late')"))
    equal(peer.frame(), (CLOSE, b"\x0f\xa0bye"))
    equal(peer.report(), "closes")
    peer.send(frame(TEXT, "say('far too late')") + frame(CLOSE, b"\x0f\xa0"))
    equal([peer.report() for _ in range(3)], ["true", "closed", "close | 4000 | "])
    equal(peer.rest(), b"")


@case("shutdown() in a callback")
def _(ng):
    peer = opened(ng, "/all")
    peer.send(frame(TEXT, "ws:shutdown() say(ws:send('x'))"))
    equal(peer.report(), "nil | closed")
    equal(peer.report(), "close | 1006 | closed")
    equal(peer.rest(), b"")


@case("ws in a timer, which outlives the callback")
def _(ng):
    peer = opened(ng, "/all")
    equal(lua(peer, "ngx.timer.at(0.05, function() ws:send('from a timer') end) return 'set'"), "set")
    equal(peer.frame(), (TEXT, b"from a timer"))
    equal(lua(peer, "ngx.timer.at(0, function() say(ws:close(4001, 'by a timer')) end) return 1"), "1")
    equal(peer.frame(), (CLOSE, b"\x0f\xa1by a timer"))
    peer.send(frame(CLOSE, b"\x0f\xa1"))
    equal(sorted([peer.report(), peer.report()]), ["close | 4001 | ", "true"])


@case("its ids")
def _(ng):
    one, two = opened(ng, "/all"), opened(ng, "/all")
    for peer in one, two:
        equal(lua(peer, "return ws.id == ws.id and #ws.id"), "32")
        equal(lua(peer, "return ws.request_id == ws.request_id and #ws.request_id"), "32")
        equal(lua(peer, "return ws.protocol"), "nil")
        equal(lua(peer, "return ws.nothing"), "nil")
    assert lua(one, "return ws.id") != lua(two, "return ws.id")
    assert lua(one, "return ws.request_id") != lua(two, "return ws.request_id")
    closed(one)
    closed(two)


@case("ws in another request")
def _(ng):
    peer = opened(ng, "/all")
    equal(lua(peer, "package.loaded.shared = ws return 1"), "1")
    equal(ng.get("/other"), "open")
    equal(peer.frame(), (TEXT, b"from a request"))
    closed(peer)
    equal(peer.report(), "close | 1000 | ")
    equal(ng.get("/other"), "closed")


case.handler("/other", """
    local ws = package.loaded.shared
    local ok, err = ws:send("from a request")
    ngx.print(ok and ws:state() or err)
""")


RAISED = "wrong"


@case("an error is logged with its traceback and closes that connection only", logs=RAISED)
def _(ng):
    one, two = opened(ng, "/all"), opened(ng, "/all")
    one.send(frame(TEXT, "error('all wrong')") + frame(TEXT, "say('not called')"))
    equal(one.frame(), (CLOSE, b"\x03\xf3"))
    equal(one.report(), "close | 1011 | ")
    equal(one.rest(), b"")
    equal(lua(two, "return 'fine'"), "fine")
    closed(two)
    log = ng.read_log()
    assert "websocket callback failed: " in log, log
    assert "all wrong\nstack traceback:" in log and "client: 127.0.0.1" in log, log


@case("an error that is no text", logs=RAISED)
def _(ng):
    peer = opened(ng, "/all")
    peer.send(frame(TEXT, "error(setmetatable({}, { __tostring = function() return 'wrong table' end }))"))
    equal(peer.frame(), (CLOSE, b"\x03\xf3"))
    equal(peer.report(), "close | 1011 | ")
    assert "websocket callback failed: wrong table" in ng.read_log()


serve("/open-fails", """
    on_open = function() error("wrong at once") end,
    on_message = function() say("message") end,
    on_close = function(_, code) say("close", code) error("wrong at the end") end,
""")


@case("on_open and on_close that raise", logs=RAISED)
def _(ng):
    peer = Peer(ng, "/open-fails", first=frame(TEXT, "x"))
    equal(peer.frame(), (CLOSE, b"\x03\xf3"))
    equal([peer.report(), peer.report()], ["true", "close | 1011"])
    await_(lambda: "wrong at the end" in ng.read_log(), "the second error")


@case("ngx.exit in a callback is a failure, too")
def _(ng):
    one, two = opened(ng, "/all"), opened(ng, "/all")
    for _ in range(5):
        three = opened(ng, "/all")
        three.send(frame(TEXT, "ngx.exit(ngx.OK)"))
        equal(three.frame(), (CLOSE, b"\x03\xf3"))
        equal(three.report(), "close | 1011 | ")
    equal(lua(one, "return 1") + lua(two, "return 2"), "12")
    closed(one)
    closed(two)
    assert "websocket callback ended by ngx.exit" in ng.read_log()


serve("/nothing", "")


@case("without callbacks messages are dropped, and pings answered")
def _(ng):
    peer = opened(ng, "/nothing")
    peer.send(frame(TEXT, "a") * 1000 + frame(PING, "p"))
    equal(peer.frame(), (PONG, b"p"))
    closed(peer)


serve("/drain", """
    on_message = function(ws, data)
        ngx.timer.at(0, function()
            for _ = 1, 8 do say(ws:send(("x"):rep(1048576), "binary")) end
        end)
    end,
    on_drain = function(ws) say("drain", ws:buffered() < 65536) end,
""", "websocket_send_buffer 64k;")


@case("on_drain tells of room after there was none")
def _(ng):
    peer = Peer(ng, "/drain", window=4096)
    equal(peer.report(), "true")
    peer.send(frame(TEXT, "go"))
    equal(peer.report(), "1048586")
    for _ in range(8):
        equal(len(peer.frame()[1]), 1048576)
    reports = []
    while reports.count("1048586") < 7 or "drain | true" not in reports:
        reports.append(peer.report())
    closed(peer)


serve("/options", """
    protocols = { "a", "b" }, compression = true, max_message_size = 100,
    headers = { ["X-Mine"] = "yes" },
    on_open = function(ws) say(ws.protocol, ws.extensions, #ws.request_id) end,
    on_message = function(ws, data) say(data) end,
    on_close = function(ws, code) say("close", code) end,
""")


@case("accept()'s options")
def _(ng):
    peer = Peer(ng, "/options", lines=["Sec-WebSocket-Protocol: b",
                                       "Sec-WebSocket-Extensions: permessage-deflate"])
    assert b"\r\nX-Mine: yes\r\n" in peer.answer, peer.answer
    equal([peer.report(), peer.report()], ["true", "b | permessage-deflate | 32"])
    peer.send(frame(TEXT, "x" * 101))
    equal(peer.frame()[:1] + (peer.rest(),), (CLOSE, b""))
    equal(peer.report(), "close | 1009")


@case("refused, as accept() refuses")
def _(ng):
    peer = Peer(ng, "/order", request=f"GET /refused?id=1 HTTP/1.1\r\nHost: t\r\n\r\n".encode())
    answer = peer.until(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    peer.sock.close()


case.handler("/refused", """
    local ok, err, status = require("resty.websocket").serve { on_message = print }
    ngx.exit(status)
""")


@case("numbers are used again, and belong to one connection at a time")
def _(ng):
    for round in range(3):
        peers = [opened(ng, "/all") for _ in range(20)]
        for i, peer in enumerate(peers):
            equal(lua(peer, f"ws.data = {i} return ws.data"), str(i))
        for peer in peers[::2]:
            closed(peer)
        for i, peer in enumerate(peers[1::2]):
            equal(lua(peer, "return ws.data"), str(2 * i + 1))
            closed(peer)


run(case, http="websocket_history_zone 4m; websocket_topic kept history=10;")
