BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Peers of require "websocket" over cosockets, whose light threads get into each other's way: one that is
# stuck in a send, or killed there; a shutdown beside a read or a send; and limits that are none.
from lib.live import Cases, equal, run
from lib.peer import BINARY_FRAME, CLOSE, TEXT
from lib.upstream import Asked

case = Cases()
BIG = 2**24


def program(path, body, directives=""):
    case.handler(path, f"""
        local websocket = require "websocket"
        local ws = assert(websocket.connect("ws://127.0.0.1:" .. ngx.var.arg_port .. "/", nil,
                                            {{ timeout = 60 }}))
        assert(ws:write("first", 60))
        {body}
    """, directives)


def asked_for(ng, path):
    """The program of that path, which has written its first message."""
    asked = Asked(ng, path, window=65536)
    equal(asked.conn.frame(), (TEXT, b"first"))
    return asked


STUCK = f"""
    local stuck = ngx.thread.spawn(function()
        return ws:write({{ opcode = 2, data = ("x"):rep({BIG}) }})
    end)
"""

program("/no-wait", STUCK + """
    ngx.ctx.ws = ws
    ngx.say("done")
""", directives="""
    header_filter_by_lua_block {
        require("live").report(ngx.ctx.ws:write("late", 60))
        require("live").report(ngx.ctx.ws:read(60))
    }
""")


@case("where nothing can wait a write behind another one, and a read, say so",
      logs=r"send\(\) failed \(104")
def _(ng):
    asked = asked_for(ng, "/no-wait")
    equal(asked.report(), "nil | Cannot wait here")
    equal(asked.report(), "nil | Cannot wait here")
    equal(asked.done(), "done\n")


program("/late", STUCK + """
    live.report(ws:write("late", 0.02))
    ngx.thread.wait(stuck)
    ngx.say(ws:write("next"))
""")


@case("of a write whose time ends behind another one nothing is sent later")
def _(ng):
    asked = asked_for(ng, "/late")
    equal(asked.report(), "nil | Connection timed out")
    first, data = asked.conn.frame()
    equal((first, len(data)), (BINARY_FRAME, BIG))
    equal(asked.conn.frame(), (TEXT, b"next"))
    asked.thread.join()
    equal(asked.done(), "10\n")


program("/killed", STUCK + """
    ngx.thread.kill(stuck)
    ngx.say(select(2, ws:write("next")))
""")


@case("a light thread that is killed in a write takes the connection along")
def _(ng):
    asked = asked_for(ng, "/killed")
    asked.thread.join()
    equal(asked.done(), "Broken pipe\n")


program("/shutdown", """
    ngx.thread.spawn(function()
        live.report(select(2, ws:read(0.02)))
    end)
    ngx.say(tostring(ws:shutdown(1000, "", 60)), " ", tostring(ws.close_received))
""")


@case("shutdown() reads on where the light thread in read() has had its time")
def _(ng):
    asked = asked_for(ng, "/shutdown")
    equal(asked.conn.frame(), (CLOSE, b"\x03\xe8"))
    equal(asked.report(), "Connection timed out")
    asked.conn.send(CLOSE, b"\x03\xe8")
    asked.thread.join()
    equal(asked.done(), "true true\n")


program("/unsent", f"""
    ws:write({{ opcode = 2, data = ("x"):rep({BIG}) }}, 0.02)
    live.report((ws:shutdown(1000, "", 0.02)))
    live.take_signal()
""")


@case("a shutdown() that cannot send its close frame ends the connection all the same")
def _(ng):
    asked = asked_for(ng, "/unsent")
    equal(asked.report(), "nil")
    while asked.conn.sock.recv(1 << 20):
        pass
    ng.get("/live/signal?id=/unsent")
    asked.thread.join()
    equal(asked.done(), "")


program("/beside", STUCK + """
    live.report(ws.peer:shutdown(2))
    ngx.thread.wait(stuck)
    live.take_signal()
""")


@case("a shutdown of the socket beside a light thread that is stuck in a send waits for that one")
def _(ng):
    asked = asked_for(ng, "/beside")
    equal(asked.report(), "true")
    first, data = asked.conn.frame()
    equal((first, len(data)), (BINARY_FRAME, BIG))
    assert asked.conn.ended()
    asked.signal()
    asked.thread.join()
    equal(asked.done(), "")


case.handler("/limits", """
    local websocket = require "websocket"
    for _, opts in ipairs{ { max_receive_payload = "1024" }, { ping_frequency = "5" },
                           { handshake_timeout = {} } } do
        for _, open in ipairs{ "connect", "bind" } do
            ngx.say((tostring(select(2, pcall(websocket[open], "ws://127.0.0.1:1/", open == "bind" and opts or nil,
                                              opts))):gsub("^.-:%d+: ", "")))
        end
    end
""")


@case("limits that are no numbers are refused")
def _(ng):
    equal(ng.get("/limits").splitlines(), [
        f'bad "{name}" (number expected, got {kind})' for name, kind in (
            ("max_receive_payload", "string"), ("ping_frequency", "string"),
            ("handshake_timeout", "table")) for _ in range(2)])


run(case, http="lua_socket_log_errors off; lua_http10_buffering off;")
