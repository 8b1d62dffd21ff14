BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# A connection of websocket.connect() whose light threads get into each other's way: one that is stuck in
# a send, or killed there; another request's; calls where nothing can wait; close() beside a recv(); and
# for how long each call waits. The server's every byte is the test's own.
import ssl

from lib.live import Cases, await_, equal, run
from lib.peer import CLOSE, PING, PONG, TEXT
from lib.upstream import Asked

case = Cases()


def program(path, body, options="", directives="", scheme="ws"):
    case.handler(path, f"""
        local websocket = require "resty.websocket"
        local ws = assert(websocket.connect("{scheme}://127.0.0.1:" .. ngx.var.arg_port .. "/", {{ {options} }}))
        {body}
    """, directives)


# A light thread is stuck in a send; behind it waits more than the high-water mark.
STUCK = """
    local stuck = ngx.thread.spawn(function()
        while ws:send(("x"):rep(2^20), "binary") do end
    end)
    assert(ws:send(("y"):rep(2^19), "binary"))
"""

program("/no-wait", STUCK + """
    do
        local proxy = newproxy(true)
        getmetatable(proxy).__gc = function() live.report("finalizer", ws:send("bye")) end
    end
    collectgarbage()
    ngx.ctx.ws = ws
    ngx.say("done")
""", directives="""
    header_filter_by_lua_block {
        require("live").report("filter", ngx.ctx.ws:send("bye"))
        require("live").report("recv", ngx.ctx.ws:recv(1))
    }
""")


@case("where nothing can wait a send above the high-water mark, and a receive, say so",
      logs=r"send\(\) failed \(104")
def _(ng):
    asked = Asked(ng, "/no-wait", window=65536)
    equal(asked.report(), "finalizer | nil | cannot wait here")
    equal(asked.report(), "filter | nil | cannot wait here")
    equal(asked.report(), "recv | nil | cannot wait here")
    equal(asked.done(), "done\n")


program("/tls", """
    ngx.ctx.ws = ws
    ngx.say("done")
    live.report("after", ws:send("after"))
""", "ssl_verify = false", """
    header_filter_by_lua_block {
        require("live").report("filter", ngx.ctx.ws:send(("x"):rep(2^23)))
    }
""", "wss")


@case("over TLS nothing leaves where nothing can wait, and all of it with the next send")
def _(ng):
    ng.certificate()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(f"{ng.root}/conf/cert.pem", f"{ng.root}/conf/key.pem")
    asked = Asked(ng, "/tls", window=65536, tls=tls)
    equal(asked.report(), "filter | 8388622")
    equal(asked.conn.frame(), (TEXT, b"x" * 2**23))
    equal(asked.conn.frame(), (TEXT, b"after"))
    equal(asked.report(), "after | 11")
    equal(asked.done(), "done\n")


program("/killed", STUCK + """
    ngx.thread.kill(stuck)
    ngx.say(table.concat({ tostring(ws:send("after")), ws:state(), tostring(ws:recv()) }, " "))
""")


@case("a light thread that is killed in a send takes the connection along")
def _(ng):
    asked = Asked(ng, "/killed", window=65536)
    asked.thread.join()
    equal(asked.done(), "nil closed nil\n")


program("/owner", """
    package.loaded.shared = ws
    live.report("ready")
    live.take_signal()
    ngx.say(ws:send("mine"), " ", ws:buffered())
    live.take_signal()
""")
case.handler("/stranger", """
    local ws = package.loaded.shared
    ngx.say((select(2, pcall(ws.send, ws, "other's")):gsub("^.*: ", "")))
""")


@case("another request's send is an error, and the connection's own goes on")
def _(ng):
    asked = Asked(ng, "/owner")
    equal(asked.report(), "ready")
    equal(ng.get("/stranger"), "bad request\n")
    asked.signal()
    equal([asked.conn.frame() for _ in range(2)], [(TEXT, b"other's"), (TEXT, b"mine")])
    asked.signal()
    asked.thread.join()
    equal(asked.done(), "10 0\n")


program("/close", """
    ngx.thread.spawn(function()
        live.report("recv", select(2, ws:recv(20)))
    end)
    ngx.say(tostring(select(2, pcall(ws.close, ws, 1000, "", math.huge))))
    ngx.say(ws:close(1000, "", 60000))
""")


@case("close() reads on where the light thread in recv() has had its time")
def _(ng):
    asked = Asked(ng, "/close")
    equal(asked.conn.frame(), (CLOSE, b"\x03\xe8"))
    equal(asked.report(), "recv | timeout")
    asked.conn.send(CLOSE, b"\x03\xe8")
    asked.thread.join()
    equal(asked.done(), 'bad "timeout" argument: milliseconds expected\ntrue\n')


UNTIL_FULL = """
    local ok, err
    repeat
        ok, err = ws:send(("x"):rep(2^20), "binary")
    until not ok
    ngx.say(err)
    ws:shutdown()
"""
program("/send-timeout", """
    ws:recv(1)
""" + UNTIL_FULL, options="send_timeout = 50")
# Less than a millisecond is not none, which is no limit.
program("/send-short", UNTIL_FULL, options="send_timeout = 0.5")
program("/send-directive", UNTIL_FULL, directives="websocket_send_timeout 50ms;")
program("/recv-directive", """
    ngx.say((select(2, ws:recv())), " ", (select(2, ws:recv())))
""", directives="websocket_recv_timeout 50ms;")
case.handler("/set-timeout", """
    local wb = require("resty.websocket.client"):new()
    wb:set_timeout(50)
    assert(wb:connect("ws://127.0.0.1:" .. ngx.var.arg_port .. "/"))
    ngx.say((wb:recv(3600000)))
    ngx.say(select(3, wb:recv_frame()))
""")


@case("a time-out of sends holds after a receive")
def _(ng):
    for path in "/send-timeout", "/send-short", "/send-directive":
        asked = Asked(ng, path, window=65536)
        asked.thread.join()
        equal(asked.done(), "timeout\n", path)


@case("what connect() is not told the directives say")
def _(ng):
    asked = Asked(ng, "/recv-directive")
    asked.thread.join()
    equal(asked.done(), "timeout timeout\n")


@case("after a message call a drop-in object's frames wait as set_timeout() says")
def _(ng):
    asked = Asked(ng, "/set-timeout")
    asked.conn.send(TEXT, b"message")
    asked.thread.join()
    equal(asked.done(), "message\nfailed to receive the first 2 bytes: timeout\n")


program("/late", """
    live.report(select(2, ws:recv(200)))
    live.take_signal()
    ngx.sleep(1)
    live.report(select(2, ws:recv(10)))
    live.report(ws:recv(60000))
""", "ping_interval = 20, ping_timeout = 1000")


@case("a pong that came while nobody was in recv() counts")
def _(ng):
    asked = Asked(ng, "/late")
    equal(asked.conn.frame(), (PING, b""))
    equal(asked.report(), "timeout")
    asked.conn.send(PONG)
    asked.signal()
    equal(asked.report(), "timeout")
    asked.conn.send(TEXT, b"x")
    equal(asked.report(), "x | text")
    asked.done()


case.handler("/again", """
    local wb = require("resty.websocket.client"):new()
    for _ = 1, 2 do
        assert(wb:connect("ws://127.0.0.1:" .. ngx.var.arg_port .. "/"))
        live.report((select(2, wb:recv())))
    end
    live.take_signal()
""")


@case("a drop-in object's second connection is closed like its first")
def _(ng):
    asked = Asked(ng, "/again")
    for turn in range(2):
        if turn:
            asked.conn = asked.upstream.accept().upgrade()
        asked.conn.send(CLOSE, b"\x03\xe8")
        equal(asked.conn.frame(), (CLOSE, b"\x03\xe8"))
        equal(asked.report(), "closed")
        equal(asked.conn.sock.recv(1), b"", f"connection {turn}")
    asked.signal()
    asked.done()


run(case, http="lua_socket_log_errors off; lua_http10_buffering off;")
