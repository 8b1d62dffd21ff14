BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# lua_check_client_abort: a handler that waits for anything but the client is ended, or its ngx.on_abort
# runs, when the client goes; one that waits for the client is told. As upstream, by every way of going.
from lib.live import Cases, await_, equal, run
from lib.peer import CLOSE, TEXT, Peer, frame

case = Cases()
ON = "lua_check_client_abort on;"
OPENERS = {"new": "live.open()", "accept": 'require("resty.websocket").accept()'}
WAITS = {
    "sleep": "ngx.sleep(3600)",
    "semaphore": 'require("ngx.semaphore").new():wait(3600)',
    "thread": "ngx.thread.wait(ngx.thread.spawn(function() ngx.sleep(3600) end))",
}
for opener, opens in OPENERS.items():
    for wait, waits in WAITS.items():
        case.handler(f"/{opener}-{wait}", f"local ws = assert({opens}) {waits} live.report('over')", ON)
    case.handler(f"/{opener}-callback", f"""
        local ws = assert({opens})
        assert(ngx.on_abort(function()
            live.report("aborted")
            ngx.exit(499)
        end))
        ngx.sleep(3600)
    """, ON)
    case.handler(f"/{opener}-cleanup", f"""
        local ws = assert({opens})
        local going = true
        assert(ngx.on_abort(function() going = false end))
        while going do ngx.sleep(0.005) end
        live.report("ended by itself")
    """, ON)
    case.handler(f"/{opener}-off", f"""
        local ws = assert({opens})
        live.report(ngx.on_abort(function() live.report("aborted") end))
        live.take_signal()
        live.report("not ended")
    """)
case.handler("/new-recv", "live.report(live.open():recv_frame())", ON)
case.handler("/new-unread", """
    local ws = live.open()
    live.report(ws:recv_frame())
    live.take_signal()
    live.report(ws:recv_frame())
    live.report(ws:recv_frame())
""", ON)
case.handler("/accept-recv", """
    local ws = require("resty.websocket").accept()
    live.report(ws:recv())
    live.take_signal()
    live.report("not ended")
""", ON)
case.handler("/accept-unread", """
    local ws = require("resty.websocket").accept()
    live.take_signal()
    for data in ws:messages() do live.report(data) end
    live.report("no more")
""", ON)
case.handler("/accept-close", """
    local ws = require("resty.websocket").accept()
    live.report(ws:close(1000, "bye"))
    live.report("not ended")
""", ON)


WAYS = {"fin": Peer.fin, "rst": Peer.rst, "close": Peer.close}
for opener in OPENERS:
    for wait in WAITS:
        for way, go in WAYS.items():
            @case(f"{opener}: {wait} is ended by {way}")
            def _(ng, opener=opener, wait=wait, go=go):
                peer = Peer(ng, f"/{opener}-{wait}")
                await_(lambda: ng.sessions() == 1, "the session")
                go(peer)
                await_(lambda: ng.sessions() == 0, "the end of the request")

    for way, go in WAYS.items():
        @case(f"{opener}: ngx.on_abort runs on {way}")
        def _(ng, opener=opener, go=go):
            for path, text in ("callback", "aborted"), ("cleanup", "ended by itself"):
                peer = Peer(ng, f"/{opener}-{path}")
                go(peer)
                equal(peer.report(), text)

    @case(f"{opener}: off, and nothing is ended")
    def _(ng, opener=opener):
        peer = Peer(ng, f"/{opener}-off")
        equal(peer.report(), "nil | lua_check_client_abort is off")
        peer.fin()
        peer.signal()
        equal(peer.report(), "not ended")
        peer.close()


@case("recv_frame says client aborted")
def _(ng):
    peer = Peer(ng, "/new-recv")
    peer.fin()
    equal(peer.report(), "nil | nil | failed to receive the first 2 bytes: client aborted")
    peer.close()


@case("recv of accept() learns of it, and its handler goes on")
def _(ng):
    peer = Peer(ng, "/accept-recv")
    peer.fin()
    equal(peer.report(), "nil | connection lost | 1006 | connection lost")
    peer.signal()
    equal(peer.report(), "not ended")
    peer.close()


@case("what was sent before is read first, frame by frame")
def _(ng):
    peer = Peer(ng, "/new-unread", first=frame(TEXT, "one") + frame(TEXT, "two"))
    equal(peer.report(), "one | text | nil")
    peer.fin()
    peer.signal()
    equal(peer.report(), "two | text | nil")
    equal(peer.report(), "nil | nil | failed to receive the first 2 bytes: client aborted")
    peer.close()


@case("and message by message")
def _(ng):
    peer = Peer(ng, "/accept-unread", first=frame(TEXT, "one") + frame(TEXT, "two"))
    peer.fin()
    peer.signal()
    for text in "one", "two", "no more":
        equal(peer.report(), text)
    peer.close()


@case("close() is told, and returns")
def _(ng):
    peer = Peer(ng, "/accept-close")
    equal(peer.frame(), (CLOSE, b"\x03\xe8bye"))
    peer.send(frame(CLOSE, b"\x03\xe8"))
    peer.fin()
    equal(peer.report(), "true")
    equal(peer.report(), "not ended")
    peer.close()


run(case)
