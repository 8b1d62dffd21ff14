BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Peers of require "websocket" over cosockets, whose light threads get into each other's way: one that is
# stuck in a send, or killed there; a shutdown beside a read; and limits that are none.
import threading

from lib.live import Cases, equal, run
from lib.peer import BINARY_FRAME, CLOSE, TEXT
from lib.upstream import Upstream

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


class Asked:
    """A request, and the upstream's end of the connection that its handler makes."""

    def __init__(self, ng, path):
        self.ng, self.id, self.body = ng, path, None
        self.upstream = Upstream()
        url = f"{path}?id={path}&port={self.upstream.port}"
        self.thread = threading.Thread(target=self.ask, args=(url,))
        self.thread.start()
        self.conn = self.upstream.accept(65536).upgrade()
        equal(self.conn.frame(), (TEXT, b"first"))

    def ask(self, url):
        try:
            self.body = self.ng.get(url)
        except (AssertionError, OSError) as error:
            self.body = repr(error)

    def report(self):
        return self.ng.get(f"/live/take?id={self.id}&wait=60")

    def done(self):
        """What the handler has printed."""
        self.conn.sock.close()
        self.upstream.close()
        self.thread.join()
        return self.body


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
    asked = Asked(ng, "/no-wait")
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
    asked = Asked(ng, "/late")
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
    asked = Asked(ng, "/killed")
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
    asked = Asked(ng, "/shutdown")
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
    asked = Asked(ng, "/unsent")
    equal(asked.report(), "nil")
    while asked.conn.sock.recv(1 << 20):
        pass
    ng.get("/live/signal?id=/unsent")
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
