BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Finalizers (`__gc`) may run wherever the collector takes a step, those included that this module
# makes it take. Freed memory is overwritten here (MALLOC_PERTURB_), so that nothing reads it unseen.
import os
import random

os.environ["MALLOC_PERTURB_"] = "165"

from lib.live import VALGRIND, Cases, await_, equal, run
from lib.peer import BINARY_FRAME, CLOSE, TEXT, Peer, frame

case = Cases()

# Large strings, so that vm/memory.rs starts the collector when no more come; then a proxy whose
# finalizer logs, after which only that timer runs Lua.
case.handler("/garbage", """
    collectgarbage("setstepmul", 1000000)
    local wb = live.open{ max_payload_len = 2^24 }
    wb:recv_frame()
    local proxy = newproxy(true)
    getmetatable(proxy).__gc = function()
        ngx.log(ngx.INFO, "collected")
    end
""", directives="""
    log_by_lua_block { local done = ngx.var.uri }
    header_filter_by_lua_block { ngx.header["X-Seen"] = ngx.var.uri }
""")


@case("the request of the last log_by_lua is not there for a finalizer")
def by_timer(ng):
    for turn in range(1, 6):
        peer = Peer(ng, "/garbage")
        peer.send(frame(BINARY_FRAME, bytes(1 << 20)))
        peer.rest()
        peer.close()
        await_(lambda: ng.read_log().count("collected") >= turn, "the finalizer's line")


# Connections whose frames or messages nobody reads but finalizers: `grab` makes garbage whose
# finalizer receives there, and checks that it got that connection's own bytes.
STRANGERS = """
    local strangers = require("strangers")
    local function grab()
        for _ = 1, 3 do
            local proxy = newproxy(true)
            getmetatable(proxy).__gc = strangers.receive
        end
    end
"""
MODULE = """
    package.loaded.strangers = { all = {}, got = 0, faults = {} }
    local strangers = package.loaded.strangers
    function strangers.receive()
        for name, stranger in pairs(strangers.all) do
            for _ = 1, 3 do
                local data, _, err = stranger()
                if not data then
                    strangers.refused = err or strangers.refused
                    break
                end
                strangers.got = strangers.got + 1
                if data ~= name:rep(#data) then
                    strangers.faults[#strangers.faults + 1] = name .. " got " .. data:sub(1, 40)
                end
            end
        end
    end
    collectgarbage("setpause", 100)
    collectgarbage("setstepmul", 10000)
"""

case.handler("/stranger/frames", """
    local wb = live.open{ max_payload_len = 2^24, timeout = 60000 }
    require("strangers").all[ngx.var.arg_name] = function() return wb:recv_frame() end
    live.report("ready")
    live.take_signal()
    require("strangers").all[ngx.var.arg_name] = nil
""")
case.handler("/stranger/messages", """
    local ws = assert(require("resty.websocket").accept{ max_message_size = 2^24 })
    require("strangers").all[ngx.var.arg_name] = function()
        local data, err = ws:recv()
        return data, nil, err
    end
    live.report("ready")
    live.take_signal()
    require("strangers").all[ngx.var.arg_name] = nil
    ws:shutdown()
""")
# A handler that reads itself, by compiled code or not, with garbage made at each frame.
for jit in "on", "off":
    case.handler(f"/frames/{jit}", STRANGERS + f"""
        local wb = live.open{{ max_payload_len = 2^24, timeout = 60000 }}
        local function echo()
            while true do
                grab()
                local data, typ = wb:recv_frame()
                if typ ~= "binary" then
                    return
                end
                wb:send_binary(data)
            end
        end
        jit.{jit}(echo, true)
        jit.{jit}(wb.recv_frame, true)
        echo()
        live.report(strangers.got, strangers.refused, table.concat(strangers.faults, ", "))
    """)
    case.handler(f"/messages/{jit}", STRANGERS + f"""
        local ws = assert(require("resty.websocket").accept{{ max_message_size = 2^24 }})
        local function echo()
            while true do
                grab()
                local data, typ = ws:recv()
                if not data then
                    return
                end
                ws:send(data, typ)
            end
        end
        jit.{jit}(echo, true)
        jit.{jit}(ws.recv, true)
        echo()
        live.report(strangers.got, strangers.refused, table.concat(strangers.faults, ", "))
    """)

# Sends a close frame in a finalizer, where the peer's answer cannot be waited for; then sleeps.
case.handler("/closes", """
    local ws = assert(require("resty.websocket").accept())
    assert(ws:recv() == "go")
    local answer
    local proxy = newproxy(true)
    getmetatable(proxy).__gc = function()
        answer = { ws:close(1000, "collected") }
    end
    proxy = nil
    collectgarbage()
    collectgarbage()
    ngx.sleep(0.001)
    live.report(answer[1], answer[2], ws:recv())
""")
for style, open_it, send in (
        ("frames", "live.open()", "conn:send_binary(data)"),
        ("messages", 'require("resty.websocket").accept()', 'conn:send(data, "binary")')):
    case.handler(f"/sends/{style}", f"""
        local conn, answers = {open_it}, {{}}
        local data = ("x"):rep(60000)
        table.sort({{ 1, 2 }}, function()
            for _ = 1, 200 do
                local n, err = {send}
                answers[#answers + 1] = n and "sent" or err
            end
            return false
        end)
        local sent = 0
        for _, answer in ipairs(answers) do
            sent = sent + (answer == "sent" and 1 or 0)
        end
        live.report(sent, #answers, answers[#answers])
        live.take_signal()
    """, "websocket_send_buffer 64k;")
case.handler("/sorts", """
    local wb = live.open()
    local answer
    table.sort({ 1, 2 }, function()
        answer = answer or { wb:recv_frame() }
        return false
    end)
    live.report(answer[1], answer[2], answer[3])
    live.report(live.echo(wb))
""")


@case("a close in a finalizer does not wait")
def closes(ng):
    peer = Peer(ng, "/closes")
    peer.send(frame(TEXT, "go"))
    equal(peer.frame(), (CLOSE, b"\x03\xe8collected"))
    peer.send(frame(CLOSE, b"\x03\xe8"))
    equal(peer.report(), "nil | cannot wait here | nil | closed | 1000 | ")
    peer.close()


@case("a receive in a callback of table.sort does not wait, and the object goes on")
def sorts(ng):
    peer = Peer(ng, "/sorts")
    equal(peer.report(), "nil | nil | cannot wait here")
    peer.send(frame(TEXT, "after"))
    equal(peer.frame(), (TEXT, b"after"))
    peer.send(frame(CLOSE, b"\x03\xe8"))
    equal(peer.frame(), (CLOSE, b"\x03\xe8"))
    peer.close()


@case("what is sent where nobody can wait, to a peer that does not read: what was taken arrives")
def sends(ng):
    for style in "frames", "messages":
        peer = Peer(ng, f"/sends/{style}", window=4096)
        sent, answers, last = peer.report().split(" | ")
        # Frames are queued first, as on a cosocket; of messages nothing is that would have to wait.
        if style == "frames":
            equal((sent, last), (answers, "sent"))
        else:
            assert 0 < int(sent) < int(answers)
            equal(last, CANNOT_WAIT)
        peer.signal()
        for _ in range(int(sent)):
            equal(peer.frame(), (BINARY_FRAME, b"x" * 60000))
        equal(peer.rest(), b"" if style == "frames" else b"\x88\x02\x03\xe8")
        peer.close()


ROUNDS = 40 if VALGRIND else 400
SIZES = [1, 30, 100, 125, 126, 1000, 16384, 40000, 65536, 200000]


def stranger(ng, kind, name):
    peer = Peer(ng, f"/stranger/{kind}?name={name}")
    equal(peer.report(), "ready")
    return peer


def echo(ng, path):
    strangers = [stranger(ng, "frames", "f"), stranger(ng, "messages", "m")]
    reader = Peer(ng, path)
    order = random.Random(path)
    for turn in range(ROUNDS):
        for peer, letter in zip(strangers, b"fm"):
            peer.send(b"".join(frame(BINARY_FRAME, bytes([letter]) * order.choice(SIZES))
                               for _ in range(order.randrange(4))))
        burst = [bytes([order.randrange(128, 256)]) * order.choice(SIZES)
                 for _ in range(order.randrange(1, 5))]
        reader.send(b"".join(frame(BINARY_FRAME, data) for data in burst))
        for data in burst:
            got = reader.frame()
            assert got == (BINARY_FRAME, data), f"{data[:1]} * {len(data)}: {got[1][:20]}..."
    reader.send(frame(CLOSE, b"\x03\xe8"))
    got, refused, faults = reader.report().split(" | ")
    equal(faults, "", "what the finalizers got")
    assert int(got) > 0, "the finalizers received nothing"
    equal(refused, CANNOT_WAIT, "a finalizer that would wait")
    for peer in strangers:
        peer.signal()
        peer.close()
    reader.close()


CANNOT_WAIT = "cannot wait here"

for style in "frames", "messages":
    for jit in "on", "off":
        case(f"receiving in finalizers, {style}, jit {jit}")(
            lambda ng, path=f"/{style}/{jit}": echo(ng, path))


run(case, http="""
    init_worker_by_lua_block { """ + MODULE + """ }
""")
