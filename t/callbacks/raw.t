BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# websocket.serve{ raw = true }: what a raw message answers while its callback looks at it, where it may go, and
# that nobody sees it, or another message in its place, afterwards.
import zlib

from lib.live import Cases, equal, run
from lib.peer import BINARY_FRAME, CLOSE, PING, TEXT, Peer, frame

case = Cases()
DEFLATE = ["Sec-WebSocket-Extensions: permessage-deflate"]
GONE = "raw message used after its callback has returned or waited"
UMLAUT = "ä".encode()


def serve(path, callbacks, before=""):
    case.handler(path, f"""
        local websocket = require "resty.websocket"
        local id = ngx.var.arg_id
        local function say(...) live.report_as(id, ...) end
        local function try(call, ...)
            local ok, a, b = pcall(call, ...)
            if ok then return a, b end
            return "error", (tostring(a):gsub("^.-:%d+: ", ""))
        end
        {before}
        say(websocket.serve {{ raw = true, compression = true, max_message_size = 4194304, {callbacks} }})
    """)


def opened(ng, path, **options):
    peer = Peer(ng, path, **options)
    equal(peer.report(), "true")
    return peer


serve("/echo", "on_message = function(ws, data, typ) ws:send(data, typ) end")


@case("an echo gives back what came, of every size and in every shape")
def _(ng):
    peer = opened(ng, "/echo")
    sizes = 0, 1, 125, 126, 2000, 16384, 65535, 65536, 1 << 20, 3
    bodies = [bytes([65 + n]) * size for n, size in enumerate(sizes)]
    for body in bodies:
        peer.send(frame(TEXT, body) + frame(BINARY_FRAME, body + b"\xff"))
        equal([peer.frame(), peer.frame()], [(TEXT, body), (BINARY_FRAME, body + b"\xff")])
    # In a burst, and in fragments.
    peer.send(b"".join(frame(TEXT, body) for body in bodies[:8]) + frame(0x01, b"a" + UMLAUT[:1])
              + frame(0x00, UMLAUT[1:]) + frame(0x80, "z"))
    equal([peer.frame() for _ in range(9)],
          [(TEXT, body) for body in bodies[:8]] + [(TEXT, b"a" + UMLAUT + b"z")])


def deflated(data):
    """A message's payload by RFC 7692 7.2.1."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


@case("over a compressed connection")
def _(ng):
    peer = opened(ng, "/echo", lines=DEFLATE)
    inflate = zlib.decompressobj(-15)
    for body in b"", b"a" * 10, b"0123456789" * 20000, UMLAUT * 300:
        for sent in frame(TEXT, body), frame(0xC1, deflated(body)):
            peer.send(sent)
            first, data = peer.frame()
            if first & 0x40:
                data = inflate.decompress(data + b"\0\0\xff\xff")
            equal((first & 0x8F, data), (TEXT, body))


serve("/look", """on_message = function(ws, data, typ)
    say(typ, #data, data:len(), type(data), data:tostring() == tostring(data))
    say(data:byte(), data:byte(2), data:byte(-1))
    say(select("#", data:byte(99)), data:byte(2, 3))
    say(data:byte(-2, -1))
end""")


@case("it answers what a string would")
def _(ng):
    peer = opened(ng, "/look")
    peer.send(frame(TEXT, "abcd"))
    equal([peer.report() for _ in range(4)],
          ["text | 4 | 4 | cdata | true", "97 | 98 | 100", "0 | 98 | 99", "99 | 100"])
    peer.send(frame(BINARY_FRAME, b"\xff"))
    equal([peer.report() for _ in range(4)][1:], ["255 | nil | 255", "0", "255"])
    peer.send(frame(TEXT, ""))
    equal(peer.report(), "text | 0 | 0 | cdata | true")


@case("bytes that are no text are not sent as one")
def _(ng):
    peer = opened(ng, "/text")
    peer.send(frame(BINARY_FRAME, b"\xff") + frame(BINARY_FRAME, UMLAUT) + frame(TEXT, UMLAUT))
    equal([peer.report() for _ in range(3)], ["nil | invalid utf-8", "4 | nil", "4 | nil"])
    equal([peer.frame(), peer.frame()], [(TEXT, UMLAUT)] * 2)


serve("/text", "on_message = function(ws, data) local n, err = ws:send(data) say(n, err) end")


@case("it goes wherever a string goes")
def _(ng):
    one, two = opened(ng, "/everywhere"), opened(ng, "/everywhere")
    for kind, body in (TEXT, UMLAUT), (BINARY_FRAME, b"\xff" * 100), (TEXT, b""):
        one.send(frame(kind, body))
        equal([one.frame() for _ in range(4)],
              [(kind, body), (PING, body), (kind & 0x0F, body), (0x80, b"")])
        equal([two.frame() for _ in range(3)], [(kind, body)] * 3)
    two.send(frame(TEXT, "x" * 126))
    equal(two.report(), 'bad "data" argument: longer than 125 bytes')


serve("/everywhere", """
    on_open = function(ws)
        package.loaded.opened = package.loaded.opened or {}
        table.insert(package.loaded.opened, ws)
        assert(ws:subscribe("all"))
    end,
    on_message = function(ws, data, typ)
        local other = package.loaded.opened[2]
        if ws == other then
            local _, err = try(ws.ping, ws, data)
            return say(err)
        end
        assert(other:send(data, typ))
        assert(websocket.send(other.id, data, typ))
        assert(websocket.publish("all", data, { type = typ }))
        assert(ws:ping(data))
        local stream = assert(ws:send_stream(typ))
        assert(stream:write(data))
        assert(stream:finish())
    end,
""")


@case("a message that goes on above the high-water mark is copied and waits")
def _(ng):
    peer = opened(ng, "/echo", window=4096)
    bodies = [bytes([97 + n]) * (1 << 20) for n in range(16)]
    for body in bodies[:8]:
        peer.send(frame(TEXT, body))
    equal([peer.frame() for _ in range(8)], [(TEXT, body) for body in bodies[:8]])


# As `uses`, defined in each location.
USES = ["tostring", "len", "byte", "#", "send", "ping", "publish"]
KEEPS = """
    package.loaded.kept = package.loaded.kept or {}
    local kept = package.loaded.kept
    local function uses(ws)
        say("tostring", try(function() return kept.data:tostring() end))
        say("len", try(function() return kept.data:len() end))
        say("byte", try(function() return kept.data:byte() end))
        say("#", try(function() return #kept.data end))
        say("send", try(function() return ws:send(kept.data) end))
        say("ping", try(function() return ws:ping(kept.data) end))
        say("publish", try(function() return websocket.publish("a", kept.data) end))
    end
"""


def keeps(path, callbacks):
    serve(path, callbacks, before=KEEPS)


def gone(peer):
    equal([peer.report() for _ in USES], [f"{use} | error | {GONE}" for use in USES])


@case("kept, it is gone once the callback has returned, for good")
def _(ng):
    one, two = opened(ng, "/kept"), opened(ng, "/kept")
    for size in 4, 16384, 1 << 20:
        one.send(frame(TEXT, "k" * size))
        equal(one.report(), "kept")
        # The callback of another connection, then of the same one, then its end.
        for peer in two, one:
            peer.send(frame(TEXT, "u" * size))
            gone(peer)
    one.send(frame(CLOSE, b"\x03\xe8"))
    gone(one)


keeps("/kept", """
    on_message = function(ws, data)
        if data:byte() == 107 then
            kept.data = data
            say("kept")
        else
            uses(ws)
        end
    end,
    on_close = uses,
""")


@case("it is gone once the callback has waited", logs="without delayed events patch")
def _(ng):
    peer = opened(ng, "/waits")
    for how in "ngx.sleep(0)", "ngx.sleep(0.001)", "semaphore", "thread":
        peer.send(frame(TEXT, how))
        equal(peer.report(), how)
        gone(peer)


keeps("/waits", """
    on_message = function(ws, data)
        kept.data = data
        local code = data:tostring()
        say(code)
        if code == "ngx.sleep(0)" then
            ngx.sleep(0)
        elseif code == "ngx.sleep(0.001)" then
            ngx.sleep(0.001)
        elseif code == "semaphore" then
            local semaphore = require("ngx.semaphore").new()
            ngx.thread.spawn(function() ngx.sleep(0) semaphore:post() end)
            semaphore:wait(1)
        else
            ngx.thread.wait(ngx.thread.spawn(function() ngx.sleep(0.001) end))
        end
        uses(ws)
    end
""")


@case("a light thread has it for as long as the callback that made it goes on without a wait")
def _(ng):
    peer = opened(ng, "/spawns")
    peer.send(frame(TEXT, "abc"))
    equal([peer.report(), peer.report()], ["in it | abc", "beside it | abc"])
    gone(peer)


keeps("/spawns", """
    on_message = function(ws, data)
        kept.data = data
        ngx.thread.spawn(function()
            say("in it", data:tostring())
            ngx.sleep(0.001)
            uses(ws)
        end)
        say("beside it", data:tostring())
        ngx.sleep(0.01)
    end
""")


@case("a callback that fails, or ends by ngx.exit, takes it along",
      logs="callback failed")
def _(ng):
    for how in "error", "exit":
        peer, other = opened(ng, "/fails"), opened(ng, "/kept")
        peer.send(frame(TEXT, how))
        equal(peer.frame(), (CLOSE, b"\x03\xf3"))
        equal(peer.rest(), b"")
        other.send(frame(TEXT, "u"))
        gone(other)


keeps("/fails", """
    on_message = function(ws, data)
        kept.data = data
        if data:byte() == 101 and data:byte(2) == 114 then error("failed") end
        ngx.exit(200)
    end
""")


@case("its connection may end, or others receive, while it is looked at")
def _(ng):
    for size in 3, 20000, 1 << 20:
        peer = opened(ng, "/ends")
        peer.send(frame(TEXT, "e" * size))
        equal(peer.report(), f"nil | closed | {size} | true")
        peer.rest()


serve("/ends", """
    on_message = function(ws, data)
        local before = data:tostring()
        ws:shutdown()
        collectgarbage()
        local ok, err = ws:send(data)
        say(ok, err, #data, data:tostring() == before)
    end
""")


@case("other cdata is refused as anything that is no string, and nothing can be made of its type")
def _(ng):
    peer = opened(ng, "/misuse")
    peer.send(frame(TEXT, "abc"))
    equal([peer.report() for _ in range(4)],
          ['bad "data" argument: string expected, got cdata', "false", GONE, GONE])


serve("/misuse", """
    on_message = function(ws, data)
        local ffi = require "ffi"
        say((select(2, try(ws.send, ws, ffi.new("int")))))
        say((pcall(function() data.number = 5 end)))
        for _, number in ipairs { 0, 1 } do
            local own = ffi.typeof(data)(number)
            say((select(2, try(function() return own:tostring() end))))
        end
    end
""")


run(case)
