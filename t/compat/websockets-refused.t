BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# What a port of `websockets` answers to those who do not speak WebSocket, or badly: plain HTTP, TLS,
# garbage, half a handshake, huge headers, wrong subprotocols. And on_http with what it may do.
import os
import socket
import time

from lib.live import PATIENCE, PORT, Cases, await_, equal, run
from lib.lws import Ws, is_open
from lib.peer import PING, PONG, TEXT, frame

case = Cases()
BARE, PAGES, ODD = PORT + 2, PORT + 3, PORT + 4
KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
VERSION = "Sec-WebSocket-Version: 13\r\n"
UPGRADE = "Upgrade: websocket\r\nConnection: Upgrade\r\n"
HOST, ECHO = "Host: t\r\n", "Sec-WebSocket-Protocol: echo\r\n"
GET = "GET / HTTP/1.1\r\n"

PROGRAM = """
    local websockets = require "websockets"
    local live = require "live"
    local function echo(ws)
        ws:on_receive(function(ws, data) ws:write(data) end)
    end
    local folder = "@ROOT@/html/"

    local kept
    local pages = {}
    pages["/file"] = function(ws) ws:serve_http_file(folder .. "page", "text/plain") end
    pages["/empty"] = function(ws) ws:serve_http_file(folder .. "empty", "text/plain") end
    pages["/relative"] = function(ws) ws:serve_http_file("html/page", "text/plain") end
    pages["/missing"] = function(ws)
        live.report_as("missing", ws:serve_http_file(folder .. "missing", "text/plain"))
    end
    pages["/folder"] = function(ws)
        live.report_as("folder", ws:serve_http_file(folder, "text/plain"))
    end
    pages["/type"] = function(ws) ws:serve_http_file(folder .. "page", "text/plain\\r\\nX: y") end
    pages["/raw"] = function(ws)
        live.report_as("raw", ws:write("HTTP/1.1 204 No Content\\r\\n", websockets.WRITE_HTTP),
                       ws:write("\\r\\n", websockets.WRITE_HTTP))
    end
    pages["/methods"] = function(ws)
        live.report_as("methods", ws:write("x"), ws:broadcast("x"), ws:rx_flow_control(true),
                       ws:get_peer_addresses(), ws:get_socket_fd() > 2,
                       ws:remaining_packet_payload())
        kept = ws
    end
    pages["/kept"] = function()
        live.report_as("kept", kept:write("x", websockets.WRITE_HTTP),
                       kept:serve_http_file(folder .. "page", "text/plain"),
                       kept:get_socket_fd(), kept:close())
    end
    pages["/close"] = function(ws) ws:close() end
    pages["/nothing"] = function() end
    pages["/failing"] = function() error("on purpose") end

    local contexts = {
        websockets.context { port = @BARE@, protocols = { echo = echo, mirror = echo },
                             handshake_timeout = 500 },
        websockets.context { port = @PAGES@, on_http = function(ws, uri)
            if uri == nil then return live.report_as("uri", "nil") end
            local page = pages[uri:match("^[^?]*")]
            live.report_as("uri", uri)
            if page then page(ws) end
        end },
        websockets.context { port = @ODD@, options = websockets.SERVER_OPTIONS_DEFEAT_CLIENT_MASK,
                             protocols = { echo = echo } },
    }
    for _, context in ipairs(contexts) do
        context:fork_service_loop()
    end
"""


def connect(port):
    await_(lambda: is_open(port), f"port {port} opens")
    return socket.create_connection(("127.0.0.1", port), PATIENCE)


def answer(port, request, patience=PATIENCE):
    """Everything that comes back, up to the end of the stream."""
    if isinstance(request, str):
        request = request.encode()
    with connect(port) as s:
        s.settimeout(patience)
        data = b""
        try:
            s.sendall(request)
        except OSError:
            pass  # it has been refused before its end
        try:
            while True:
                more = s.recv(65536)
                if not more:
                    return data
                data += more
        except ConnectionResetError:
            return data


def status(port, request):
    return answer(port, request).split(b"\r\n")[0].decode()


BAD, OLD = "HTTP/1.1 400 Bad Request", "HTTP/1.1 426 Upgrade Required"
LARGE = "HTTP/1.1 431 Request Header Fields Too Large"
REFUSED = [
    ("plain HTTP", GET + HOST + "\r\n", OLD),
    ("another upgrade", GET + HOST + "Upgrade: h2c\r\nConnection: Upgrade\r\n\r\n", OLD),
    ("POST", "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", OLD),
    ("no Connection", GET + HOST + "Upgrade: websocket\r\n" + KEY + VERSION + ECHO + "\r\n", BAD),
    ("no Host", GET + UPGRADE + KEY + VERSION + ECHO + "\r\n", BAD),
    ("no key", GET + HOST + UPGRADE + VERSION + ECHO + "\r\n", BAD),
    ("bad key", GET + HOST + UPGRADE + "Sec-WebSocket-Key: x\r\n" + VERSION + ECHO + "\r\n", BAD),
    ("no version", GET + HOST + UPGRADE + KEY + ECHO + "\r\n", BAD),
    ("a draft's version", GET + HOST + UPGRADE + KEY + "Sec-WebSocket-Version: 8\r\n" + ECHO
     + "\r\n", OLD),
    ("HTTP/1.0", "GET / HTTP/1.0\r\n" + HOST + UPGRADE + KEY + VERSION + ECHO + "\r\n", BAD),
    ("POST upgrade", "POST / HTTP/1.1\r\n" + HOST + UPGRADE + KEY + VERSION + ECHO + "\r\n", BAD),
    ("no subprotocol", GET + HOST + UPGRADE + KEY + VERSION + "\r\n", BAD),
    ("an unknown subprotocol", GET + HOST + UPGRADE + KEY + VERSION
     + "Sec-WebSocket-Protocol: nothing, Echo\r\n\r\n", BAD),
    ("http-only", GET + HOST + UPGRADE + KEY + VERSION
     + "Sec-WebSocket-Protocol: http-only\r\n\r\n", BAD),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(500), BAD),
    ("garbage", b"\x00\xff" * 1000, BAD),
    ("another protocol", b"SSH-2.0-OpenSSH_9.2\r\n", BAD),
    ("frames without a handshake", frame(TEXT, "hello"), BAD),
    ("100 KiB of a header", GET + "A: " + "a" * (100 << 10), LARGE),
    ("100 KiB of headers", GET + "A: b\r\n" * (100 << 10) + "\r\n", LARGE),
    ("a header without a colon", GET + "nonsense\r\n\r\n", BAD),
]

for title, request, expected in REFUSED:
    @case(f"refused: {title}")
    def _(ng, request=request, expected=expected):
        witness = Ws(ng, "echo", BARE)
        equal(status(BARE, request), expected)
        equal(witness.ask("undisturbed"), "undisturbed")
        witness.leave()


@case("a refusal says what was wrong")
def _(ng):
    head, _, body = answer(BARE, GET + HOST + UPGRADE + KEY + VERSION + "\r\n").partition(
        b"\r\n\r\n")
    equal(body, b"no such subprotocol\n")
    assert b"Connection: close" in head and b"Content-Type: text/plain" in head, head
    head = answer(BARE, GET + HOST + UPGRADE + KEY + ECHO + "Sec-WebSocket-Version: 7\r\n\r\n")
    assert b"\r\nSec-WebSocket-Version: 13\r\n" in head, head


@case("refusals are counted by reason")
def _(ng):
    def counts():
        return dict(part.split("=") for part in ng.get("/refused").split())
    before = counts()
    status(BARE, GET + HOST + UPGRADE + KEY + ECHO + "Sec-WebSocket-Version: 7\r\n\r\n")
    status(BARE, GET + HOST + UPGRADE + KEY + VERSION + "\r\n")
    after = counts()
    changed = {name: int(after[name]) - int(before[name]) for name in after}
    equal({name: n for name, n in changed.items() if n}, {"version": 1, "other": 1})


case.handler("/refused", """
    for name, n in pairs(require("resty.websocket").info().connections_refused) do
        ngx.print(name, "=", n, " ")
    end
""")


@case("half a handshake, or none, is ended by a time limit; many of them disturb nobody")
def _(ng):
    witness = Ws(ng, "echo", BARE)
    halves = [connect(BARE) for _ in range(50)]
    for n, half in enumerate(halves):
        half.sendall((GET + HOST)[:n].encode())
    started = time.monotonic()
    equal(witness.ask("undisturbed"), "undisturbed")
    for half in halves:
        got = b"".join(iter(lambda: half.recv(4096), b""))
        equal(got.split(b"\r\n")[0], b"HTTP/1.1 408 Request Timeout")
        half.close()
    assert 0.3 < time.monotonic() - started < 3
    # A byte now and then does not prolong it.
    slow = connect(BARE)
    started = time.monotonic()
    for byte in GET * 10:
        try:
            slow.sendall(byte.encode())
        except OSError:
            break
        time.sleep(0.02)
    assert time.monotonic() - started < 3, "the time limit did not hold"
    slow.close()
    witness.leave()


@case("connections that go away at any point leave nothing behind")
def _(ng):
    whole = (GET + HOST + UPGRADE + KEY + VERSION + ECHO + "\r\n").encode() + frame(TEXT, "x")
    for end in range(0, len(whole), 7):
        with connect(BARE) as s:
            s.sendall(whole[:end])
    witness = Ws(ng, "echo", BARE)
    equal(witness.ask("still here"), "still here")
    witness.leave()


@case("SERVER_OPTIONS_DEFEAT_CLIENT_MASK: unmasked frames are taken as well")
def _(ng):
    ws = Ws(ng, "echo", ODD)
    ws.send(frame(TEXT, "plain", key=None) + frame(TEXT, "masked") + frame(PING, "p", key=None))
    equal(ws.frame(), (PONG, b"p"))
    equal([ws.text(), ws.text()], ["plain", "masked"])
    ws.leave()


def page(ng, target, method="GET"):
    got = answer(PAGES, f"{method} {target} HTTP/1.1\r\nHost: t\r\n\r\n")
    uri = ng.get("/live/take?id=uri&wait=5")
    return uri, got


OK = b"HTTP/1.0 200 OK\r\nServer: libwebsockets\r\nContent-Type: text/plain\r\nContent-Length: "


@case("on_http: serve_http_file, files there are and files there are not")
def _(ng):
    big = os.urandom(3 << 20)
    for name, data in ("page", b"a page\n"), ("empty", b""), ("big", big):
        with open(f"{ng.root}/html/{name}", "wb") as f:
            f.write(data)
    for target, expected in (
            ("/file", OK + b"7\r\n\r\na page\n"),
            ("/file?query=1", OK + b"7\r\n\r\na page\n"),
            ("/relative", OK + b"7\r\n\r\na page\n"),
            ("/empty", OK + b"0\r\n\r\n"),
            ("/missing", b"HTTP/1.0 400 Bad\r\nServer: libwebsockets\r\n\r\n"),
            ("/folder", b"HTTP/1.0 400 Bad\r\nServer: libwebsockets\r\n\r\n"),
            ("/type", OK.replace(b"plain", b"plainX: y") + b"7\r\n\r\na page\n"),
            ("/raw", b"HTTP/1.1 204 No Content\r\n\r\n"),
            ("/nothing", b""), ("/close", b"")):
        equal(page(ng, target), (target, expected))
    for name, result in ("missing", "-1"), ("folder", "-1"), ("raw", "0 | 0"):
        equal(ng.get(f"/live/take?id={name}&wait=5"), result)
    os.replace(f"{ng.root}/html/big", f"{ng.root}/html/page")
    uri, got = page(ng, "/file")
    assert got == OK + b"%d\r\n\r\n" % len(big) + big, "the large file differs"


@case("on_http: other methods have no uri, and what climbs out of the root never gets there")
def _(ng):
    equal(page(ng, "/file", "POST"), ("nil", b""))
    for target in "/../page", "/a/../../page", "/a\\..\\b", "/..":
        equal(status(PAGES, f"GET {target} HTTP/1.1\r\nHost: t\r\n\r\n"), BAD, target)
    equal(page(ng, "/..."), ("/...", b""))
    equal(page(ng, "/x?../y"), ("/x?../y", b""))


@case("on_http: its websocket is good for nothing else, and for nothing afterwards")
def _(ng):
    page(ng, "/methods")
    equal(ng.get("/live/take?id=methods&wait=5"), "-1 | -1 | 1 | 127.0.0.1 | true | 0")
    page(ng, "/kept")
    equal(ng.get("/live/take?id=kept&wait=5"), "-1 | -1 | -1")


@case("on_http: a failing callback costs its own connection",
      logs="websockets: on_http failed: .*on purpose")
def _(ng):
    equal(page(ng, "/failing"), ("/failing", b""))
    equal(page(ng, "/nothing"), ("/nothing", b""))


@case("a context without protocols refuses every upgrade")
def _(ng):
    equal(status(PAGES, GET + HOST + UPGRADE + KEY + VERSION + ECHO + "\r\n"), BAD)


def prepare(ng):
    program = PROGRAM
    for name, value in ("BARE", BARE), ("PAGES", PAGES), ("ODD", ODD), ("ROOT", ng.root):
        program = program.replace(f"@{name}@", str(value))
    return {"http": "init_worker_by_lua_block {" + program + "}"}


run(case, prepare=prepare)
