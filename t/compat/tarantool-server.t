BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# require "websocket" as a server: what read, write, shutdown, validate and the handshake do, row by
# row, against a client whose every byte is the test's own. Plain and TLS.
import os
import socket
import time

from lib.live import PATIENCE, PORT, ROOT, VALGRIND, Cases, await_, equal, run
from lib.peer import (BINARY_FRAME, CLOSE, PING, PONG, TEXT, Peer, context, frame, head)

case = Cases()
PERIOD = 2 if VALGRIND else 0.2  # seconds between pings
PLAIN, TLS, SMALL, PINGS, HOOK, STRICT = range(PORT + 2, PORT + 8)

PROGRAM = f"    local PERIOD = {PERIOD}" + """
    local websocket = require "websocket"
    local ssl = require "websocket.ssl"
    local live = require "live"
    local programs = {}

    local function said(id, frame, err)
        if type(frame) == "table" then
            local keys = {}
            for key in pairs(frame) do keys[#keys + 1] = key end
            table.sort(keys)
            return live.report_as(id, table.concat(keys, " "), frame.opcode, frame.fin,
                                  frame.data, frame.rsv)
        end
        live.report_as(id, frame, err)
    end

    local function fault(id, ok, err)
        live.report_as(id, ok, tostring(err):match("[^:]+$"))
    end

    function programs.echo(ws)
        while true do
            local message = ws:read()
            if not message or message.opcode == nil then return end
            assert(ws:write(message))
        end
    end

    function programs.reads(ws, id)
        for _ = 1, 20 do
            local frame, err = ws:read()
            said(id, frame, err)
            if not frame or frame.opcode == nil then
                said(id, ws:read())
                return
            end
        end
    end

    function programs.slow(ws, id)
        said(id, ws:read(0.05))
        ws:write("waiting")
        said(id, ws:read(10))
    end

    function programs.writes(ws, id)
        live.report_as(id, ws:write("text"))
        live.report_as(id, ws:write{ opcode = 2, data = "bytes" })
        live.report_as(id, ws:write{ opcode = 1, fin = false, data = "be" })
        live.report_as(id, ws:write{ opcode = 0, fin = true, data = "gin" })
        live.report_as(id, ws:write{ opcode = 1 })
        live.report_as(id, ws:write(("x"):rep(200)))
        live.report_as(id, ws:write(("y"):rep(70000)))
        live.report_as(id, ws:write{})
        live.report_as(id, ws:write{ opcode = 8, data = "" })
        live.report_as(id, ws:write{ opcode = 9, data = "" })
        fault(id, pcall(ws.write, ws, 5))
        fault(id, pcall(ws.write, ws, true))
        fault(id, pcall(ws.write, ws, { opcode = 1, data = 5 }))
    end

    function programs.shut(ws, id)
        local how = ws:read().data
        if how == "plain" then live.report_as(id, ws:shutdown())
        elseif how == "code" then live.report_as(id, ws:shutdown(4321, "because"))
        elseif how == "long" then live.report_as(id, ws:shutdown(1000, ("\\195\\164"):rep(100)))
        elseif how == "silent" then live.report_as(id, ws:shutdown(1000, "bye", 0.1))
        elseif how == "misuse" then
            fault(id, pcall(ws.shutdown, ws, 70000))
            fault(id, pcall(ws.shutdown, ws, "x"))
            return
        end
        live.report_as(id, ws:shutdown(1000))
        said(id, ws:read())
        live.report_as(id, ws:write("late"))
    end

    function programs.closes(ws, id)
        ws:close()
        for _, name in ipairs{ "read", "write", "error", "errno", "shutdown" } do
            fault(id, pcall(ws[name], ws, name == "write" and "x" or nil))
        end
    end

    function programs.fields(ws, id)
        fault(id, pcall(function() ws.mine = 1 end))
        live.report_as(id, ws.TEXT, ws.BINARY, websocket.TEXT, websocket.BINARY, ws.PING)
        live.report_as(id, ws.peerhost, type(ws.peerport), ws.is_client, ws.handshaked, ws.ping_freq)
        local request, response = ws.handshake_packets[1], ws.handshake_packets[2]
        live.report_as(id, request.method, request.uri, request.version, request.headers["x-it"])
        live.report_as(id, response.code, response.version, response.status)
        live.report_as(id, ws:error(), ws:errno())
        local peer, name = ws.peer:peer(), ws.peer:name()
        live.report_as(id, type(ws.peer:fd()), peer.host, peer.family, name.port, ws.peer:errno())
        live.report_as(id, ws.peer:nonblock(true), ws.peer:error(), ws.peer:readable(0.01))
        fault(id, pcall(function() ws.peer.mine = 1 end))
        rawset(ws, "mine", 2)
        live.report_as(id, ws.mine)
    end

    function programs.raises(ws)
        ws:write("last words")
        error("on purpose")
    end

    function programs.limit(ws, id)
        while true do
            local ok, frame, err = pcall(ws.read, ws)
            if not ok then
                live.report_as(id, frame:find("limit", 1, true) ~= nil)
                said(id, ws:read())
                return
            end
            live.report_as(id, #frame.data)
        end
    end

    -- To a peer that does not read.
    function programs.stuffs(ws, id)
        local sent, failed = 0, nil
        for _ = 1, 40 do
            local ok, err = ws:write(("s"):rep(1048576), 0.02)
            if ok then
                sent = sent + 1
            else
                failed = err
            end
        end
        live.report_as(id, sent, failed)
        ws:write("end")
    end

    -- Writes only, for several ping times.
    function programs.talks(ws, id)
        for n = 1, 10 do
            local ok, err = ws:write("n" .. n)
            if not ok then return live.report_as(id, n > 1, err) end
            ngx.sleep(PERIOD / 2)
        end
        live.report_as(id, "done")
        said(id, ws:read())
    end

    -- The first message names the program, the rest of it the test's peer.
    local function handler(ws)
        local first, err = ws:read()
        local name, id = (first and first.data or ""):match("^(%S+) (.+)$")
        if name then
            programs[name](ws, id)
        end
    end
    package.loaded.handler = handler
"""


def sections(ng):
    ng.certificate()
    return dict(http=f"""
        init_worker_by_lua_block {{
            {PROGRAM}
            local ctx = ssl.ctx()
            assert(ssl.ctx_use_private_key_file(ctx, "{ROOT}/conf/key.pem"))
            assert(ssl.ctx_use_certificate_file(ctx, "{ROOT}/conf/cert.pem"))
            local function open(url, options)
                local server, addr = assert(websocket.server(url, handler, options))
                assert(addr.port == server:name().port)
            end
            local calm = {{ ping_frequency = math.huge }}
            open("ws://127.0.0.1:{PLAIN}/any/path", calm)
            open("wss://127.0.0.1:{TLS}", {{ ctx = ctx, ping_frequency = 3600, ping_timeout = 120 }})
            open("ws://127.0.0.1:{SMALL}", {{ max_receive_payload = 65, ping_frequency = math.huge }})
            open("ws://127.0.0.1:{PINGS}", {{ ping_frequency = {PERIOD} }})
            open("ws://127.0.0.1:{STRICT}", {{ handshake_timeout = 0.2, ping_frequency = math.huge }})
            assert(websocket.server("ws://127.0.0.1:{HOOK}", function(ws)
                rawset(ws, "proxy_handshake", function(self, request, response)
                    if request.uri == "/later" then
                        return {{ version = "HTTP/1.1", code = "404", status = "Not Found",
                                  headers = {{ ["Content-Length"] = "0" }} }}
                    end
                    response.headers["Sec-WebSocket-Protocol"] =
                        request.headers["sec-websocket-protocol"]
                    return response
                end)
                local m = ws:read()
                if m then ws:write(m) end
                ws:read()
            end, {{ ping_frequency = math.huge }}))
        }}
    """)


class Pinged(Peer):
    """A client that takes the ping for granted which comes right after the handshake."""

    pinged = False

    def frame(self):
        if not self.pinged:
            self.pinged = True
            equal(super().frame(), (PING, b""), "the first ping")
        return super().frame()

    def rest(self):
        data = super().rest()
        return data if self.pinged else data.removeprefix(b"\x89\x00")


def peer(ng, program="", port=PLAIN, **more):
    it = Pinged(ng, "/", port=port, tls=context() if port == TLS else None, **more)
    if program:
        it.send(frame(TEXT, f"{program} {it.id}"))
    return it


def bye(it):
    it.send(frame(CLOSE, b"\x03\xe8"))
    equal(it.frame(), (CLOSE, b"\x03\xe8"))
    equal(it.rest(), b"")
    it.close()


@case("echo of text, binary and fragments, plain and TLS")
def _(ng):
    ng.get("/live/open")
    for port in PLAIN, TLS:
        it = peer(ng, "echo", port)
        for size in 0, 1, 125, 126, 65535, 65536, 300000:
            it.send(frame(TEXT, b"t" * size))
            equal(it.frame(), (TEXT, b"t" * size))
        it.send(frame(0x02, b"\xff") + frame(0x00, b"\xfe") + frame(0x80, b"\xfd"))
        equal([it.frame() for _ in range(3)], [(0x02, b"\xff"), (0x00, b"\xfe"), (0x80, b"\xfd")])
        bye(it)


@case("read gives exactly opcode, fin, data and rsv; fragments one by one")
def _(ng):
    it = peer(ng, "reads")
    it.send(frame(TEXT, "whole") + frame(0x01, "be") + frame(PING, "hi") + frame(0x80, "gin")
            + frame(BINARY_FRAME, b"\x00"))
    it.send(frame(CLOSE, b"\x0f\xa0bye"))
    equal([it.report() for _ in range(4)],
          ["data fin opcode rsv | 1 | true | whole | 0", "data fin opcode rsv | 1 | false | be | 0",
           "data fin opcode rsv | 0 | true | gin | 0", "data fin opcode rsv | 2 | true | \0 | 0"])
    equal(it.frame(), (PONG, b"hi"))
    equal(it.frame(), (CLOSE, b"\x03\xe8"))
    equal(it.report(), "nil | Close handshaked")
    equal(it.report(), " | nil | nil | nil | nil")
    equal(it.rest(), b"")
    it.close()


@case("the end of the stream is an empty table, in the middle of a frame too")
def _(ng):
    for part in b"", frame(TEXT, "cut")[:1], frame(TEXT, "cut")[:7]:
        it = peer(ng, "reads")
        it.send(part)
        it.fin()
        equal(it.report(), " | nil | nil | nil | nil")
        equal(it.report(), " | nil | nil | nil | nil")
        it.close()


@case("a time-out in the middle of a frame loses nothing")
def _(ng):
    it = peer(ng, "slow")
    data = frame(TEXT, "in two parts")
    it.send(data[:5])
    equal(it.report(), "nil | Connection timed out")
    equal(it.frame(), (TEXT, b"waiting"))
    it.send(data[5:])
    equal(it.report(), "data fin opcode rsv | 1 | true | in two parts | 0")
    it.close()


BROKEN = [
    ("opcode 3", frame(0x83, "x"), 1002, b"opcode invalid: 3"),
    ("opcode 11", frame(0x8b, "x"), 1002, b"opcode invalid: 11"),
    ("rsv", frame(0xc1, "x"), 1002, b"frame rsv invalid: 64"),
    ("long ping", frame(PING, "x" * 126), 1002, b"control frame length greater than 125: 126"),
    ("fragmented ping", frame(0x09, "x"), 1002, b"fragmented control frame not allloed"),
    ("new message inside", frame(0x01, "x") + frame(TEXT, "y"), 1002,
     b"fragmented frame should be continuation"),
    ("lone continuation", frame(0x80, "x"), 1002, b"continuation frame without head frame"),
    ("utf-8", frame(TEXT, b"\xc0"), 1007, b"utf8 data invalid"),
    ("utf-8 in a continuation", frame(0x01, "x") + frame(0x80, b"\xc0"), 1007,
     b"utf8 data invalid"),
    ("close of one byte", frame(CLOSE, b"\x03"), 1002, b"invalid close frame"),
    ("close code", frame(CLOSE, b"\x03\xed"), 1002, b"close code invalid"),
    ("close reason", frame(CLOSE, b"\x03\xe8\xff"), 1007, b"utf8 data in close frame invalid"),
    ("unmasked", frame(TEXT, "x", key=None), 1002, b"frame unmasked"),
    ("2^31 bytes", b"\x82\xff" + (1 << 31).to_bytes(8, "big") + b"abcd", 1009,
     b"Invalid payload frame size"),
]


@case("a broken rule closes with code and reason: Validation error")
def _(ng):
    for name, data, code, reason in BROKEN:
        it = peer(ng, "reads")
        it.send(data)
        while (report := it.report()).startswith("data"):
            pass
        equal(report, "nil | Validation error", name)
        equal(it.frame(), (CLOSE, code.to_bytes(2, "big") + reason), name)
        equal(it.report(), " | nil | nil | nil | nil", name)
        equal(it.rest(), b"", name)
        it.close()


@case("a character cut between fragments is no fault")
def _(ng):
    it = peer(ng, "echo")
    it.send(frame(0x01, b"\xe2\x82") + frame(0x80, b"\xac"))
    equal((it.frame(), it.frame()), ((0x01, b"\xe2\x82"), (0x80, b"\xac")))
    bye(it)


@case("write: forms, bytes on the wire, refusals")
def _(ng):
    it = peer(ng, "writes")
    equal([it.report() for _ in range(7)], ["6", "7", "4", "5", "2", "204", "70010"])
    for _ in range(3):
        equal(it.report(), "nil | You can send only text or binary frame")
    for _ in range(3):
        assert it.report().startswith("false | "), "a Lua error"
    equal([it.frame() for _ in range(7)],
          [(TEXT, b"text"), (BINARY_FRAME, b"bytes"), (0x01, b"be"), (0x80, b"gin"), (TEXT, b""),
           (TEXT, b"x" * 200), (TEXT, b"y" * 70000)])
    equal(it.rest(), b"", "no close frame at the end of the handler")
    it.close()


@case("shutdown: close frame, the peer's answer, the end; once")
def _(ng):
    for how, payload in ("plain", b""), ("code", b"\x10\xe1because"), \
            ("long", b"\x03\xe8" + "ä".encode() * 61):
        it = peer(ng, "shut")
        it.send(frame(TEXT, how))
        equal(it.frame(), (CLOSE, payload), how)
        it.send(frame(TEXT, "dropped") + frame(CLOSE, b"\x03\xe8"))
        equal(it.report(), "true", how)
        equal(it.report(), "true", how)
        equal(it.report(), " | nil | nil | nil | nil", how)
        equal(it.report(), "nil | Broken pipe", how)
        equal(it.rest(), b"", how)
        it.close()
    it = peer(ng, "shut")
    it.send(frame(TEXT, "silent"))
    equal(it.frame(), (CLOSE, b"\x03\xe8bye"))
    equal(it.report(), "true", "a silent peer is not waited for")
    equal(it.rest(), b"")
    it.close()
    it = peer(ng, "shut")
    it.send(frame(TEXT, "misuse"))
    for _ in range(2):
        assert it.report().endswith("bad argument #1 to 'shutdown' (close code expected)")
    it.close()


@case("close: at once and without a word; afterwards every call raises")
def _(ng):
    it = peer(ng, "closes")
    equal(it.rest(), b"")
    for _ in range(5):
        got = it.report()
        assert got.startswith("false | ") and got.endswith("attempt to use closed socket"), got
    it.close()


@case("fields, and what the peer socket offers")
def _(ng):
    it = peer(ng, "fields", lines=["X-It: is there"])
    got = it.report()
    assert got.endswith("Attempt to modify read-only wspeer properties"), got
    equal(it.report(), "1 | 2 | 1 | 2 | nil")
    equal(it.report(), "127.0.0.1 | number | false | true | inf")
    equal(it.report(), f"GET | /?id={it.id} | HTTP/1.1 | is there")
    equal(it.report(), "101 | HTTP/1.1 | Switching Protocols")
    equal(it.report(), "nil | 0")
    equal(it.report(), f"number | 127.0.0.1 | AF_INET | {PLAIN} | 0")
    equal(it.report(), "true | nil | false")
    got = it.report()
    assert got.endswith("Attempt to modify read-only sslsocket properties mine"), got
    equal(it.report(), "2")
    it.close()


@case("the response: copy of Connection, accept key, no subprotocol, no extensions")
def _(ng):
    it = Peer(ng, "/", port=PLAIN, lines=["Sec-WebSocket-Protocol: chat",
                                         "Sec-WebSocket-Extensions: permessage-deflate"])
    lines = it.answer.decode().split("\r\n")
    equal(lines[0], "HTTP/1.1 101 Switching Protocols")
    equal(sorted(filter(None, lines[1:])),
          ["Connection: Upgrade", "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
           "Upgrade: websocket"])
    it.close()
    raw = head("/").replace(b"Connection: Upgrade", b"Connection: keep-alive, upgrade")
    it = Peer(ng, port=PLAIN, request=raw.replace(b"Upgrade: websocket", b"Upgrade: WebSocket"))
    assert b"\r\nConnection: keep-alive, upgrade\r\n" in it.until(b"\r\n\r\n")
    it.close()


@case("no upgrade: 400, whatever else was right")
def _(ng):
    good = head("/")
    for old, new in ((b"Upgrade: websocket\r\n", b""), (b"Connection: Upgrade\r\n", b""),
                     (b"Version: 13", b"Version: 8"), (b"Sec-WebSocket-Key", b"X-Key"),
                     (b"Sec-WebSocket-Version", b"X-Version"), (b"websocket", b"h2c")):
        it = Peer(ng, port=PLAIN, request=good.replace(old, new, 1))
        equal(it.rest(), b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", old)
        it.close()
    it = Peer(ng, port=PLAIN, request=b"GET / HTTP/1.1\r\nHost: plain\r\n\r\n")
    equal(it.rest(), b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
    it.close()


@case("garbage, a head without end, 100 KiB of headers: refused, others undisturbed")
def _(ng):
    other = peer(ng, "echo")
    for data, answer in ((b"\x16\x03\x01\x02\x00\x01\x00\x01", b"400"),
                         (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"400"),
                         (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 17000 + b"\r\n", b"431"),
                         (b"GET /" + b"x" * 100000, b"431")):
        it = Peer(ng, port=PLAIN, request=b"")
        try:
            it.send(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert it.rest().startswith(b"HTTP/1.1 " + answer), data[:20]
        it.close()
    other.send(frame(TEXT, "here"))
    equal(other.frame(), (TEXT, b"here"))
    bye(other)


@case("half a handshake ends by a time limit, byte by byte too")
def _(ng):
    begun = time.monotonic()
    its = [Peer(ng, port=STRICT, request=b""), Peer(ng, port=STRICT, request=head("/")[:60])]
    for it in its:
        equal(it.rest(), b"")
        it.close()
    it = Peer(ng, port=STRICT, request=b"")
    try:
        for byte in head("/"):
            it.send(bytes([byte]))
            time.sleep(0.02)
    except (BrokenPipeError, ConnectionResetError):
        pass
    it.close()
    assert time.monotonic() - begun < 5, "cut at the limit"


@case("frames behind the request, and a request in pieces")
def _(ng):
    it = Pinged(ng, "/", port=PLAIN, first=frame(TEXT, "echo x") + frame(TEXT, "early"))
    equal(it.frame(), (TEXT, b"early"))
    bye(it)
    it = Pinged(ng, port=PLAIN, request=b"")
    for byte in head("/"):
        it.send(bytes([byte]))
    assert it.until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
    it.send(frame(TEXT, "echo x") + frame(TEXT, "late"))
    equal(it.frame(), (TEXT, b"late"))
    bye(it)


@case("proxy_handshake adds headers, or refuses and lets the client ask again")
def _(ng):
    it = Pinged(ng, "/", port=HOOK, lines=["Sec-WebSocket-Protocol: chat"])
    assert b"\r\nSec-WebSocket-Protocol: chat\r\n" in it.answer, it.answer
    it.send(frame(TEXT, "hello"))
    equal(it.frame(), (TEXT, b"hello"))
    it.close()
    it = Pinged(ng, port=HOOK, request=head("/later", ["X-Old: 1"]))
    assert it.until(b"\r\n\r\n").startswith(b"HTTP/1.1 404 Not Found\r\n")
    it.send(head("/now"))
    assert it.until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
    it.send(frame(TEXT, "again"))
    equal(it.frame(), (TEXT, b"again"))
    it.close()


@case("a frame above max_receive_payload raises; equal is allowed; the peer is told")
def _(ng):
    it = Pinged(ng, "/", port=SMALL)
    it.send(frame(TEXT, f"limit {it.id}"))
    it.send(frame(TEXT, "x" * 65))
    equal(it.report(), "65")
    it.send(frame(TEXT, "x" * 66))
    equal(it.report(), "true")
    equal(it.frame(), (CLOSE, b"\x03\xf1Payload size limit reached"))
    equal(it.report(), " | nil | nil | nil | nil")
    equal(it.rest(), b"")
    it.close()


@case("a handler that raises: logged with its traceback, the connection ends", logs="on purpose")
def _(ng):
    it = peer(ng, "raises")
    equal(it.frame(), (TEXT, b"last words"))
    equal(it.rest(), b"")
    it.close()
    await_(lambda: "on purpose" in ng.read_log(), "the log")
    assert "stack traceback" in ng.read_log()


@case("pings: at once, then in their time; no pong ends the connection")
def _(ng):
    it = Peer(ng, "/", port=PINGS)
    begun = time.monotonic()
    for _ in range(3):
        equal(it.frame(), (PING, b""))
        it.send(frame(PONG, "any"))
    assert 1.5 * PERIOD < time.monotonic() - begun < 25 * PERIOD
    it.send(frame(TEXT, f"reads {it.id}"))
    equal(it.frame(), (PING, b""))
    equal(it.report(), "nil | Pong timeout")
    equal(it.frame(), (CLOSE, b"\x03\xe8pong timeout"))
    equal(it.rest(), b"")
    equal(it.report(), " | nil | nil | nil | nil")
    it.close()


@case("a peer that is only written to has its pongs noticed")
def _(ng):
    it = Peer(ng, "/", port=PINGS)
    it.send(frame(TEXT, f"talks {it.id}"))
    texts, pings = [], 0
    while len(texts) < 10:
        first, data = it.frame()
        if first == PING:
            pings += 1
            it.send(frame(PONG, ""))
        else:
            texts.append(data)
            if len(texts) == 2:
                it.send(frame(TEXT, "meanwhile"))
    assert pings >= 3, f"{pings} pings"
    equal(it.report(), "done")
    equal(it.report(), "data fin opcode rsv | 1 | true | meanwhile | 0")
    it.close()
    it = Peer(ng, "/", port=PINGS)
    it.send(frame(TEXT, f"talks {it.id}"))
    equal(it.report(), "true | Pong timeout")
    it.close()


@case("of a frame whose time-out has passed nothing is sent later")
def _(ng):
    it = peer(ng, "stuffs", window=16384)
    sent, err = it.report(60).split(" | ")
    assert 0 < int(sent) < 20, f"{sent} MiB were taken for a peer that does not read"
    equal(err, "Connection timed out")
    for _ in range(int(sent)):
        equal(it.frame(), (TEXT, b"s" * (1 << 20)))
    equal(it.frame(), (TEXT, b"end"))
    it.close()


@case("a peer that is gone")
def _(ng):
    it = peer(ng, "reads")
    it.send(frame(TEXT, "x"))
    it.report()
    it.rst()
    equal(it.report(), "nil | Connection reset by peer")
    equal(it.report(), " | nil | nil | nil | nil")


run(case, prepare=sections)
