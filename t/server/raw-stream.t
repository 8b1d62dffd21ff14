BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# What else a handler may do once its request is a WebSocket: nginx's own output functions refuse
# instead of writing into the stream, subrequests work, errors and later phases find a sane object.
import time

from lib.live import VALGRIND, Cases, equal, run
from lib.peer import BINARY_FRAME, CLOSE, TEXT, Peer, frame

case = Cases()
SLOW = 5 if VALGRIND else 1

case.handler("/say", """
    local wb = live.open()
    wb:send_text("before")
    live.report("say", ngx.say("into the stream"))
    live.report("print", ngx.print("into the stream"))
    live.report("flush", ngx.flush())
    live.report("flush true", ngx.flush(true))
    live.report("eof", ngx.eof())
    live.report("socket", ngx.req.socket(true))
    live.report("new", require("resty.websocket.server"):new())
    live.report("recv", wb:recv_frame())
    wb:send_text("after")
""")


@case("ngx.say and its like, a second socket and a second new are refused", logs="$^")
def _(ng):
    peer = Peer(ng, "/say")
    for name in "say", "print", "flush", "flush true", "eof":
        equal(peer.report(), f"{name} | nil | raw request socket acquired")
    equal(peer.report(), "socket | nil | duplicate call")
    equal(peer.report(), "new | nil | response header already sent")
    equal(peer.frame(), (TEXT, b"before"))
    peer.send(frame(TEXT, "unharmed"))
    equal(peer.report(), "recv | unharmed | text | nil")
    equal(peer.frame(), (TEXT, b"after"))
    equal(peer.rest(), b"")
    peer.close()


case.handler("/sub", "ngx.print('sub', ngx.var.arg_n)")
case.handler("/capture", f"""
    local wb = live.open{{ max_payload_len = 2^20 }}
    for n = 1, 5 do
        wb:send_text("ask " .. n)
        local one, two = ngx.location.capture_multi{{ {{ "/sub?n=" .. n }}, {{ "/sub?n=x" }} }}
        wb:send_text(one.body .. two.body)
        local res = ngx.location.capture("/index.html")
        wb:send_text(res.status .. res.body)
    end
    -- A write timer that a subrequest left behind (send_timeout) must not stop output.
    ngx.sleep({0.3 * SLOW})
    for n = 1, 20 do
        wb:send_binary(("c"):rep(100000))
    end
    local data = wb:recv_frame()
    wb:send_text("end " .. data)
""", f"send_timeout {100 * SLOW}ms;")


@case("subrequests in between, with output pending")
def _(ng):
    with open(f"{ng.root}/html/index.html", "w") as out:
        out.write("page")
    peer = Peer(ng, "/capture", window=16384)
    for n in range(1, 6):
        for text in f"ask {n}", f"sub{n}subx", "200page":
            equal(peer.frame(), (TEXT, text.encode()))
    time.sleep(0.5 * SLOW)
    for n in range(20):
        equal(peer.frame(), (BINARY_FRAME, b"c" * 100000))
    peer.send(frame(TEXT, "here"))
    equal(peer.frame(), (TEXT, b"end here"))
    equal(peer.rest(), b"")
    peer.close()


case.handler("/capture-reading", """
    local wb = live.open()
    local reader = ngx.thread.spawn(function() return wb:recv_frame() end)
    local res = ngx.location.capture("/slow-sub?id=" .. ngx.var.arg_id)
    live.report("captured", res.body)
    live.report("read", select(2, ngx.thread.wait(reader)))
""")
case.handler("/slow-sub", """
    live.report("in the subrequest")
    live.take_signal()
    ngx.print("slowly")
""")


@case("a frame comes while a subrequest runs")
def _(ng):
    peer = Peer(ng, "/capture-reading")
    equal(peer.report(), "in the subrequest")
    peer.send(frame(TEXT, "meanwhile"))
    peer.signal()
    equal(peer.report(), "captured | slowly")
    equal(peer.report(), "read | meanwhile | text | nil")
    peer.close()


@case("the peer resets while a subrequest runs")
def _(ng):
    peer = Peer(ng, "/capture-reading")
    equal(peer.report(), "in the subrequest")
    peer.rst()
    peer.signal()
    equal(peer.report(), "captured | slowly")
    equal(peer.report(),
          "read | nil | nil | failed to receive the first 2 bytes: connection reset by peer")


case.handler("/error", """
    local wb = live.open()
    wb:send_text("before")
    local data = wb:recv_frame()
    wb:send_close(1011, "internal error")
    error("on purpose: " .. data)
""")


@case("a Lua error after the upgrade: no error page, what was sent arrives",
      logs="lua entry thread aborted: runtime error: .*on purpose: go")
def _(ng):
    peer = Peer(ng, "/error")
    peer.send(frame(TEXT, "go"))
    equal(peer.frame(), (TEXT, b"before"))
    equal(peer.frame(), (CLOSE, b"\x03\xf3internal error"))
    equal(peer.rest(), b"")
    peer.close()


case.handler("/exit-status", """
    local wb = live.open()
    wb:send_text("before")
    wb:recv_frame()
    ngx.exit(tonumber(ngx.var.arg_status))
""", "error_page 500 502 404 /index.html;")


@case("ngx.exit with an error status after the upgrade writes no error page",
      logs="attempt to set status [0-9]+ via ngx.exit after sending out the response status 101")
def _(ng):
    for status in 200, 204, 403, 404, 408, 499, 500, 502, 503:
        peer = Peer(ng, f"/exit-status?status={status}")
        equal(peer.frame(), (TEXT, b"before"))
        peer.send(frame(TEXT, "go"))
        equal(peer.rest(), b"", status)
        peer.close()


case.server += """
    location = /log-phase {
        content_by_lua_block {
            local live = require "live"
            local wb = live.open()
            ngx.ctx.wb = wb
            wb:send_text("hello")
            wb:recv_frame()
        }
        log_by_lua_block {
            local live = require "live"
            local wb = ngx.ctx.wb
            live.report("send", wb:send_text("from the log phase"))
            live.report("recv", wb:recv_frame())
            live.report("status", ngx.status, ngx.var.status)
        }
    }
"""


@case("in the log phase the session is closed")
def _(ng):
    peer = Peer(ng, "/log-phase")
    equal(peer.frame(), (TEXT, b"hello"))
    peer.send(frame(TEXT, "go"))
    equal(peer.rest(), b"")
    peer.close()
    equal(peer.report(), "send | nil | closed")
    equal(peer.report(), "recv | nil | nil | closed")
    equal(peer.report(), "status | 101 | 101")


ECHO = "live.report('echo ended', live.echo(live.open{ timeout = 60000, max_payload_len = 2^20 }))"
FORMS = {
    "lua_check_client_abort on": "lua_check_client_abort on;",
    "lingering_close always": "lingering_close always;",
    "lingering_close off": "lingering_close off;",
    "tcp_nodelay off": "tcp_nodelay off;",
    "lua_socket_log_errors off": "lua_socket_log_errors off;",
    "reset_timedout_connection on": "reset_timedout_connection on;",
    "postpone_output": "postpone_output 1460;",
    "gzip on": "gzip on; gzip_types *; gzip_min_length 0;",
    "a request head in a large buffer": "",
}
for number, directives in enumerate(FORMS.values()):
    case.handler(f"/form{number}", ECHO, directives)
case.server += """
    location = /proxied {
        proxy_pass http://$server_addr:$server_port/form0$is_args$args;
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection upgrade;
    }
"""


def echoes(ng, path, end, pad="", ended="closed"):
    peer = Peer(ng, path, first=frame(TEXT, "first"), lines=[pad] if pad else [])
    equal(peer.frame(), (TEXT, b"first"))
    for size in 0, 1, 125, 126, 65535, 65536, 300000:
        peer.send(frame(BINARY_FRAME, b"e" * size))
        equal(peer.frame(), (BINARY_FRAME, b"e" * size))
    if end == "close":
        peer.send(frame(CLOSE, b"\x03\xe8"))
        equal(peer.frame(), (CLOSE, b"\x03\xe8"))
        equal(peer.rest(), b"")
        equal(peer.report(), "echo ended | nil")
        peer.close()
    elif end == "fin":
        peer.fin()
        equal(peer.rest(), b"")
        equal(peer.report(), f"echo ended | failed to receive the first 2 bytes: {ended}")
        peer.close()
    else:
        peer.rst()
        got = peer.report()
        assert got == "echo ended | failed to receive the first 2 bytes: " \
                      "connection reset by peer", got


for number, name in enumerate(FORMS):
    def both(ng, number=number, name=name):
        # A head beyond client_header_buffer_size: the frame lies in a large header buffer.
        pad = "X-Pad: " + "x" * 3000 if "large" in name else ""
        for end in "close", "fin", "rst":
            ended = "client aborted" if "abort" in name else "closed"
            echoes(ng, f"/form{number}", end, pad, ended)
    case(f"an echo handler with {name}")(both)


@case("behind a proxying nginx")
def _(ng):
    peer = Peer(ng, "/proxied", first=frame(TEXT, "first"))
    equal(peer.frame(), (TEXT, b"first"))
    peer.send(frame(BINARY_FRAME, b"e" * 100000) + frame(CLOSE, b"\x03\xe8"))
    equal(peer.frame(), (BINARY_FRAME, b"e" * 100000))
    equal(peer.frame(), (CLOSE, b"\x03\xe8"))
    equal(peer.rest(), b"")
    peer.close()


run(case, listen="sndbuf=32k")
