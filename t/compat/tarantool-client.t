BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# require "websocket" as a client, bind and accept, peers over other sockets, TLS contexts; against
# the module's own ports and against a server whose every byte is the test's own.
import os
import re
import socket
import ssl
import subprocess
import threading

from lib.live import PATIENCE, PORT, ROOT, Cases, equal, run
from lib.peer import frame
from lib.upstream import accept_of

case = Cases()
RAW, RAW_TLS, ECHO, ECHO_TLS, STRICT = range(PORT + 2, PORT + 7)


def program(path, body, directives=""):
    """A location that runs a program and prints what it says, a line each."""
    case.handler(path, f"""
        local websocket = require "websocket"
        local ssl = require "websocket.ssl"
        local lines = {{}}
        local function say(...)
            local out = {{}}
            for i = 1, select("#", ...) do
                out[i] = tostring((select(i, ...)))
            end
            lines[#lines + 1] = table.concat(out, " | ")
        end
        local function show(frame, err)
            if type(frame) == "table" then
                return say(frame.opcode, frame.fin, frame.data, frame.rsv)
            end
            say(frame, err)
        end
        local function fault(f, ...)
            local ok, err = pcall(f, ...)
            say(ok, (tostring(err):gsub("^.-:%d+: ", "")))
        end
        {body}
        ngx.print(table.concat(lines, "\\n"))
    """, directives)


def sections(ng):
    ng.certificate()
    for name, more in (("other", ()), ("named", ()),
                       ("address", ("-addext", "subjectAltName=IP:127.0.0.1,IP:::1"))):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3", "-subj",
                        f"/CN={name}", "-keyout", f"{ROOT}/conf/{name}.key",
                        "-out", f"{ROOT}/conf/{name}.pem", *more],
                       check=True, stderr=subprocess.DEVNULL)
    with open(f"{ROOT}/conf/trusted.pem", "w") as trusted:
        for name in "named", "address":
            with open(f"{ROOT}/conf/{name}.pem") as certificate:
                trusted.write(certificate.read())
    return dict(http=f"""
        lua_socket_log_errors off;
        lua_ssl_trusted_certificate {ROOT}/conf/cert.pem;
        init_worker_by_lua_block {{
            local websocket = require "websocket"
            local ssl = require "websocket.ssl"
            local function echo(ws)
                while true do
                    local message = ws:read()
                    if not message or message.opcode == nil then return end
                    ws:write(message)
                end
            end
            local function ctx()
                local ctx = ssl.ctx(ssl.methods.tlsv12)
                assert(ssl.ctx_use_private_key_file(ctx, "{ROOT}/conf/key.pem"))
                assert(ssl.ctx_use_certificate_file(ctx, "{ROOT}/conf/cert.pem"))
                return ctx
            end
            assert(websocket.server("ws://127.0.0.1:{ECHO}", echo))
            assert(websocket.server("wss://127.0.0.1:{ECHO_TLS}", echo, {{ ctx = ctx() }}))
            local strict = ctx()
            assert(ssl.ctx_use_ca_file(strict, "{ROOT}/conf/cert.pem"))
            ssl.ctx_set_verify(strict, "require")
            assert(websocket.server("wss://127.0.0.1:{STRICT}", echo, {{ ctx = strict }}))
        }}
    """)


class Server:
    """Accepts one connection at a time; what it does with it is the test's."""

    def __init__(self, body, port=RAW, tls=None, host="127.0.0.1"):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.sock = socket.create_server((host, port), family=family)
        self.sock.settimeout(PATIENCE)
        self.error, self.tls = None, tls
        self.thread = threading.Thread(target=self.work, args=(body,))
        self.thread.start()

    def work(self, body):
        try:
            conn, _ = self.sock.accept()
            conn.settimeout(PATIENCE)
            if self.tls:
                conn = self.tls.wrap_socket(conn, server_side=True)
            with conn:
                body(conn)
        except Exception as error:
            self.error = error

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind:
            self.sock.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.sock.close()
        if self.error and not kind:
            raise self.error


def head_of(conn):
    data = b""
    while b"\r\n\r\n" not in data:
        more = conn.recv(4096)
        assert more, data
        data += more
    return data


def answer(data):
    key = re.search(rb"Sec-WebSocket-Key: (.*)\r\n", data).group(1)
    accept = accept_of(key)
    return (b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: " + accept
            + b"\r\nUpgrade: x\r\n\r\n")


def unmasked(conn):
    """The next short frame of a client: first byte, key, payload."""
    first, size = conn.recv(1, socket.MSG_WAITALL)[0], conn.recv(1, socket.MSG_WAITALL)[0]
    assert size & 0x80, "a client masks"
    key = conn.recv(4, socket.MSG_WAITALL)
    data = conn.recv(size & 0x7f, socket.MSG_WAITALL)
    return first, key, bytes(b ^ key[i % 4] for i, b in enumerate(data))


def lines(ng, path, expected, what=""):
    equal(ng.get(path).split("\n"), expected, what)


SELF = """
    local server = assert(websocket.bind("%s://127.0.0.1:0", %s))
    say(server:listen(10), server:readable(0))
    local url = "%s://127.0.0.1:" .. server:name().port
    local client = assert(websocket.connect(url, nil, { timeout = 1 }))
    local sent = ngx.thread.spawn(function() return client:write{ opcode = 1, data = "hello" } end)
    say(server:readable(5))
    local ws = assert(server:accept())
    local message = ws:read(5)
    show(message)
    local _, bytes = ngx.thread.wait(sent)
    say(bytes)
    ws:write{ opcode = 2, fin = true, data = "\\0\\1" }
    show(client:read(5))
    -- Both sides at once, as in the original's own test.
    local other = ngx.thread.spawn(function() return ws:shutdown(1000, "OK", 0.1) end)
    say(client:shutdown(1000, "OK", 0.1))
    say(select(2, ngx.thread.wait(other)))
    client:close()
    ws:close()

    client = assert(websocket.connect(url, nil, { timeout = 1, max_receive_payload = 65 }))
    sent = ngx.thread.spawn(function() return client:write("x") end)
    ws = server:accept(5)
    ws:read(5)
    ngx.thread.wait(sent)
    ws:write(("y"):rep(90))
    local ok, err = pcall(client.read, client, 5)
    say(ok, err:find("limit", 1, true) ~= nil)
    client:close()
    ws:close()
    server:close()
    say(websocket.connect(url, nil, { timeout = 1 }))
    say(server:accept(1))
"""
program("/self", SELF % ("ws", "nil", "ws"))
program("/self-tls", f"""
    local ctx = ssl.ctx()
    ssl.ctx_use_private_key_file(ctx, "{ROOT}/conf/key.pem")
    ssl.ctx_use_certificate_file(ctx, "{ROOT}/conf/cert.pem")
""" + SELF % ("wss", "{ ctx = ctx }", "wss"))


@case("bind, listen, connect, accept: both sides in one program, plain and TLS")
def _(ng):
    for path in "/self", "/self-tls":
        lines(ng, path, ["true | false", "true", "1 | true | hello | 0", "11", "2 | true | \0\1 | 0",
                         "true", "true", "false | true", "nil | Connection refused",
                         "nil | Connection reset by peer"], path)


program("/alone", f"""
    local ctx = ssl.ctx()
    ssl.ctx_use_private_key_file(ctx, "{ROOT}/conf/key.pem")
    ssl.ctx_use_certificate_file(ctx, "{ROOT}/conf/cert.pem")
    for _, options in ipairs{{ {{}}, {{ ctx = ctx }} }} do
        local server = assert(websocket.bind("ws://127.0.0.1:0", options))
        server:listen(10)
        local url = (options.ctx and "wss" or "ws") .. "://127.0.0.1:" .. server:name().port
        local client = assert(websocket.connect(url))
        local ws = server:accept()
        say(ws.peerhost, server:close())
        -- One light thread on both sides, as in the original's own test. TLS first: it takes its time.
        client.peer:write("")
        show(client:read(0.05))
        say(ws:write({{ opcode = 1, fin = true, data = "ASDF", rsv = 0 }}, 5))
        show(client:read(5))
        ws:shutdown(1000, "OK", 0.1)
        ws:close()
        client:shutdown(1000, "OK", 0.1)
        client:close()
    end
    -- Who never shakes hands, who says something else, who leaves.
    for _, words in ipairs{{ "", "GET / HTTP/1.1\\r\\n\\r\\n", false }} do
        local server = assert(websocket.bind("wss://127.0.0.1:0",
                                             {{ ctx = ctx, handshake_timeout = 0.1 }}))
        local sock = ngx.socket.tcp()
        assert(sock:connect("127.0.0.1", server:name().port))
        local ws = server:accept()
        if words then sock:send(words) else sock:close() end
        say(ws:write("queued"))
        say(ws:read(5))
        ws:close()
        server:close()
    end
    -- Never used.
    local server = assert(websocket.bind("wss://127.0.0.1:0", {{ ctx = ctx }}))
    local client = assert(websocket.connect("wss://127.0.0.1:" .. server:name().port))
    server:accept():close()
    say(client:write("x", 5))
    local waiting = assert(websocket.connect("wss://127.0.0.1:" .. server:name().port))
    say(server:readable(5))
    server:accept():close()
    server:close()
""")


@case("accept() of a TLS port does not wait for the handshake: one light thread may be both sides",
      logs="SSL_|peer closed connection in SSL handshake")
def _(ng):
    got = ng.get("/alone").split("\n")
    both = ["127.0.0.1 | true", "nil | Connection timed out", "6", "1 | true | ASDF | 0"]
    equal(got[:8], both + both)
    for line in got[8:14]:
        assert line.startswith("nil | "), got[8:]
    assert got[14].startswith("nil | "), got[14]
    equal(got[15:], ["true"])


program("/echo", f"""
    for _, url in ipairs{{ "ws://127.0.0.1:{ECHO}", "wss://127.0.0.1:{ECHO_TLS}",
                          "ws://localhost:{ECHO}/path?query" }} do
        local ws = assert(websocket.connect(url, nil, {{ timeout = 3 }}))
        say(ws.is_client, ws.handshaked, ws.peerhost, ws.ping_freq)
        assert(ws:check_client_handshake(5) and ws:check_client_handshake(0))
        ws:write("HELLO")
        show(ws:read())
        for _, size in ipairs{{ 125, 126, 65536, 1000000 }} do
            ws:write{{ opcode = 2, data = ("z"):rep(size) }}
            local frame = ws:read(10)
            if #frame.data ~= size then say("lost", size, #frame.data) end
        end
        say(ws.handshaked, ws.handshake_packets[2].code, type(ws.peer:fd()))
        say(ws:shutdown())
        show(ws:read())
        ws:close()
    end
""")


@case("connect to an echo server: ws, wss, localhost")
def _(ng):
    got = ng.get("/echo").split("\n")
    for n, host in enumerate(("127.0.0.1", "127.0.0.1", "127.0.0.1")):
        equal(got[5 * n:5 * n + 5],
              [f"true | false | {host} | nil", "1 | true | HELLO | 0", "true | 101 | number",
               "true", "nil | nil | nil | nil"])


program("/request", f"""
    local request = {{ headers = {{ Origin = "o", ["Sec-WebSocket-Protocol"] = "chat" }} }}
    local ws = assert(websocket.connect(ngx.unescape_uri(ngx.var.arg_url), request))
    say(request.method, request.path, request.version, request.headers.Host)
    show(ws:read(5))
    show(ws:write("masked"))
    show(ws:write("masked"))
    show(ws:read(5))
    ws:close()
""")


@case("the request: target, Host, headers of the program; every frame is masked anew")
def _(ng):
    for url, target, host in ((f"ws://127.0.0.1:{RAW}/p?q=1%23frag", "/p?q=1", f"127.0.0.1:{RAW}"),
                              (f"127.0.0.1:{RAW}?dropped", "/", f"127.0.0.1:{RAW}"),
                              (f"any://user@127.0.0.1:{RAW}", "/", f"127.0.0.1:{RAW}")):
        def body(conn):
            data = head_of(conn)
            # Interim responses do not count.
            conn.sendall(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n")
            conn.sendall(answer(data) + b"\x81\x02hi")
            rows = data.decode().split("\r\n")
            equal(rows[0], f"GET {target} HTTP/1.1")
            rows = sorted(filter(None, rows[1:]))
            equal([row for row in rows if "Key" not in row],
                  ["Connection: Upgrade", f"Host: {host}", "Origin: o",
                   "Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Version: 13",
                   "Upgrade: websocket"])
            first, second = unmasked(conn), unmasked(conn)
            equal((first[0], first[2], second[2]), (0x81, b"masked", b"masked"))
            assert first[1] != second[1], "the same masking key twice"
            conn.sendall(frame(0x81, "masked too"))
            first, _, data = unmasked(conn)
            equal((first, data), (0x88, b"\x03\xeaframe masked"))
        with Server(body):
            lines(ng, f"/request?url={url}",
                  [f"GET | {target} | HTTP/1.1 | {host}", "1 | true | hi | 0", "12 | nil", "12 | nil",
                   "nil | Validation error"], url)


program("/flags", f"""
    local function flags(ws)
        say(ws.close_sended, ws.close_received, ws.closed_by_me, ws.ping_sended)
        say(ws:error(), ws:errno())
    end
    local ws = assert(websocket.connect("ws://127.0.0.1:{ECHO}"))
    flags(ws)
    fault(ws.write, ws, nil)
    fault(ws.write, ws, 5)
    ws:write("x")
    show(ws:read(5))
    show(ws:read(0.01))
    say(ws:error(), ws:errno())
    ws:shutdown()
    flags(ws)
    ws:close()
    local request = {{}}
    for _ = 1, 2 do
        ws = assert(websocket.connect("ws://127.0.0.1:{RAW}", request))
        show(ws:read(5))
        flags(ws)
        ws:close()
    end
    say(request.method, request.headers.Connection, request.headers["Sec-WebSocket-Key"])
""")


@case("the flags of closing are booleans, a normal end is no error, write() wants something to write")
def _(ng):
    server = socket.create_server(("127.0.0.1", RAW))
    server.settimeout(PATIENCE)
    keys = []

    def serve():
        for body in b"\x88\x02\x03\xe8", b"":
            conn, _ = server.accept()
            conn.settimeout(PATIENCE)
            with conn:
                data = head_of(conn)
                keys.append(re.search(rb"Sec-WebSocket-Key: (.*)\r\n", data).group(1))
                conn.sendall(answer(data) + body)
                if body:
                    conn.recv(100)
    thread = threading.Thread(target=serve)
    thread.start()
    wants = "string or frame expected, got"
    lines(ng, "/flags", ["false | false | false | false", "nil | 0",
                         f"false | bad argument #1 to 'write' ({wants} nil)",
                         f"false | bad argument #1 to 'write' ({wants} number)",
                         "1 | true | x | 0", "nil | Connection timed out",
                         "Connection timed out | 110",
                         "true | true | true | false", "nil | 0",
                         "nil | Close handshaked", "true | true | false | false", "nil | 0",
                         "nil | nil | nil | nil", "false | false | false | false", "nil | 0",
                         "GET | nil | nil"])
    thread.join()
    server.close()
    equal(len(set(keys)), 2, "another key for each connection")


program("/fails", f"""
    local ws = assert(websocket.connect("ws://127.0.0.1:{RAW}"))
    say(ws:read(5))
    say(ws:write("x"))
    ws:close()
""")


@case("responses that are no upgrade")
def _(ng):
    for reply, expected in (
            (b"HTTP/1.1 404 Not Found\r\nX-Say: \"no\"\r\n\r\n",
             'nil | Handshake error: {'),
            (b"HTTP/1.1 101 Fine\r\nSec-WebSocket-Accept: wrong\r\n\r\n",
             "nil | Handshake error: {"),
            (b"hello there\r\n\r\n", "nil | Malformed packet"),
            (b"x" * 70000, "nil | Malformed packet"),
            (b"HTTP/1.1 102 Processing\r\n\r\n" * 3000, "nil | Malformed packet"),
            (b"HTTP/1.1 101 Fi", "nil | Connection closed: eof"), (b"", "nil | Connection closed: eof")):
        def body(conn):
            head_of(conn)
            conn.sendall(reply)
        with Server(body):
            got = ng.get("/fails").split("\n")
        assert got[0].startswith(expected), (reply[:30], got)
        if "404" in repr(reply):
            for part in '"code":"404"', '"reason":"Not Found"', '"x-say":"\\u0022no\\u0022"', '"status":""':
                assert part in got[0], got[0]


program("/patient", f"""
    local ws = assert(websocket.connect("ws://127.0.0.1:{RAW}"))
    show(ws:read(0.02))
    show(ws:read(0.02))
    show(ws:read(10))
    show(ws:read(0.02))
    show(ws:read(10))
    ws:close()
""")


@case("time-outs: the request is sent once, half a response and half a frame are kept")
def _(ng):
    def body(conn):
        data = head_of(conn)
        reply = answer(data) + b"\x81\x05whole"
        threading.Event().wait(0.1)
        for part in reply[:20], reply[20:-3], reply[-3:]:
            conn.sendall(part)
            threading.Event().wait(0.01)
        threading.Event().wait(0.1)
        conn.sendall(b"\x81\x04late")
        equal(conn.recv(1000), b"", "nothing more was sent")
    with Server(body):
        lines(ng, "/patient", ["nil | Connection timed out", "nil | Connection timed out",
                               "1 | true | whole | 0", "nil | Connection timed out",
                               "1 | true | late | 0"])


program("/urls", """
    for _, url in ipairs{ "ws://127.0.0.1:99999", "ws://[::1", "ws://a b", "ws://127.0.0.1:x" } do
        fault(websocket.connect, url)
    end
    fault(websocket.connect, nil)
    fault(websocket.server, nil, print)
    say(websocket.connect("ws://127.0.0.1:1", nil, { timeout = 1 }))
    say(websocket.connect("ws://no.such.name.invalid", nil, { timeout = 1 }))
    say(websocket.server("wss://127.0.0.1:0", print))
    say(websocket.server("ws://192.0.2.1:0", print))
    say(websocket.bind("ws://192.0.2.1:0"))
    fault(websocket.new)
    fault(websocket.new, {})
""")


@case("bad URLs raise, what the world refuses is returned", logs="connect\\(\\) failed|no resolver")
def _(ng):
    got = ng.get("/urls").split("\n")
    for n in range(6):
        assert got[n].startswith("false | ") and "Websocket invalid url: " in got[n], got[n]
    equal(got[6:11],
          ["nil | Connection refused",
           'nil | No resolver defined to resolve "no.such.name.invalid"',
           "nil | a TLS port needs a ctx with certificate and private key",
           "nil | Cannot assign requested address", "false | Cannot assign requested address"])
    assert "attempt to index" in got[11], got[11]
    assert "bad peer" in got[12], got[12]


program("/tls", f"""
    local url = "wss://localhost:{ECHO_TLS}"
    local function try(ctx, other)
        local ws = assert(websocket.connect(other or url, nil, {{ timeout = 3, ctx = ctx }}))
        local ok, err = ws:write("over TLS", 5)
        if not ok then return say(ok, err) end
        show(ws:read(5))
        ws:close()
    end
    try(nil)
    local verifying = ssl.ctx()
    ssl.ctx_set_verify(verifying, true)
    try(verifying)
    try(verifying, "wss://127.0.0.1:{ECHO_TLS}")
    ssl.ctx_set_server_name(verifying, "localhost")
    try(verifying, "wss://127.0.0.1:{ECHO_TLS}")
    -- A ctx makes TLS of ws:// too.
    try(ssl.ctx(), "ws://localhost:{ECHO_TLS}")
    -- The port asks for a certificate.
    local strict = "wss://localhost:{STRICT}"
    try(nil, strict)
    local known = ssl.ctx()
    assert(ssl.ctx_use_private_key_file(known, "{ROOT}/conf/key.pem"))
    assert(ssl.ctx_use_certificate_file(known, "{ROOT}/conf/cert.pem"))
    try(known, strict)
    local stranger = ssl.ctx()
    assert(ssl.ctx_use_private_key_file(stranger, "{ROOT}/conf/other.key"))
    assert(ssl.ctx_use_certificate_file(stranger, "{ROOT}/conf/other.pem"))
    try(stranger, strict)
    -- Plain at a TLS port, TLS at a plain one.
    try(nil, "ws://localhost:{ECHO_TLS}")
    try(nil, "wss://localhost:{ECHO}")
""")


program("/tls-words", f"""
    local function try(...)
        local ok, err = pcall(...)
        say(ok, tostring(err):match('bad ".*'))
    end
    local function serve(ctx)
        return websocket.server("wss://127.0.0.1:{RAW}", function() end, {{ ctx = ctx }})
    end
    try(ssl.ctx, {{ protocols = {{ true }} }})
    local ctx = ssl.ctx()
    assert(ssl.ctx_use_private_key_file(ctx, "{ROOT}/conf/key.pem"))
    assert(ssl.ctx_use_certificate_file(ctx, "{ROOT}/conf/cert.pem"))
    ctx.protocols = {{ true }}
    try(serve, ctx)
    try(serve, 5)
    local port = ngx.socket.tcp()
    say(port:connect("127.0.0.1", {RAW}))
""")


@case("TLS: settings that are none open no plain port instead", logs="connect\\(\\) failed")
def _(ng):
    equal(ng.get("/tls-words").split("\n")[:4], [
        'false | bad "method" argument: one of ssl.methods expected',
        'false | bad "tls" option: names of files, ciphers and protocols expected, got boolean',
        'false | bad "ctx" argument: a context of ssl.ctx() expected',
        "nil | connection refused"])


@case("TLS: SNI, verification on request, client certificates, the wrong kind of port",
      logs=r"lua ssl|SSL_|certificate|recv\(\) failed \(104")
def _(ng):
    got = ng.get("/tls").split("\n")
    echoed = "1 | true | over TLS | 0"
    equal(got[0], echoed)
    equal(got[1], echoed)
    assert got[2].startswith("nil | ") and "ertificate" in got[2], got[2]
    equal(got[3:5], [echoed, echoed])
    assert got[5].startswith("nil | "), got[5]
    equal(got[6], echoed)
    assert got[7].startswith("nil | "), got[7]
    assert got[8].startswith("nil | "), got[8]
    assert got[9].startswith("nil | "), got[9]


@case("the name that a TLS client asks for")
def _(ng):
    names = []
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(f"{ROOT}/conf/cert.pem", f"{ROOT}/conf/key.pem")
    tls.sni_callback = lambda sock, name, ctx: names.append(name)

    def body(conn):
        data = head_of(conn)
        conn.sendall(answer(data) + b"\x88\x02\x03\xe8")
        conn.recv(100)
    with Server(body, RAW_TLS, tls):
        lines(ng, "/sni", ["nil | Close handshaked"])
    equal(names, ["localhost"])


program("/address", f"""
    local ctx = ssl.ctx()
    ssl.ctx_set_verify(ctx, true)
    local ws = assert(websocket.connect("WSS://" .. ngx.unescape_uri(ngx.var.arg_host)
                                        .. ":{RAW_TLS}", nil, {{ timeout = 3, ctx = ctx }}))
    show(ws:read(5))
    ws:close()
""", f"lua_ssl_trusted_certificate {ROOT}/conf/trusted.pem;")


@case("an address is verified against the certificate's addresses", logs="lua ssl|SSL_")
def _(ng):
    def body(conn):
        data = head_of(conn)
        conn.sendall(answer(data) + b"\x88\x02\x03\xe8")
        conn.recv(100)

    def refused(conn):
        equal(conn.recv(100), b"", "no request was sent")

    hosts = {"127.0.0.1": "127.0.0.1", "[::1]": "::1"}
    if not os.path.exists("/proc/net/if_inet6"):
        del hosts["[::1]"]
    for host, address in hosts.items():
        for name, serve, expected in (("address", body, "nil | Close handshaked"),
                                      ("named", refused, "nil | Connection closed: certificate host mismatch")):
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(f"{ROOT}/conf/{name}.pem", f"{ROOT}/conf/{name}.key")
            # Sent behind the handshake (RFC 8446 4.6.1), to a client that may have left by then.
            tls.num_tickets = 0
            with Server(serve, RAW_TLS, tls, address):
                lines(ng, f"/address?host={host}", [expected], f"{host} {name}")


program("/sni", f"""
    local ws = assert(websocket.connect("wss://localhost:{RAW_TLS}", nil, {{ timeout = 3 }}))
    show(ws:read(5))
    ws:close()
""")
program("/contexts", f"""
    local ctx = ssl.ctx()
    say(ssl.ctx_use_private_key_file(ctx, "{ROOT}/conf/key.pem"))
    say((ssl.ctx_use_private_key_file(ctx, "{ROOT}/conf/none.pem")))
    say((ssl.ctx_use_private_key_file(ctx, "{ROOT}/conf/nginx.conf")))
    say(ssl.ctx_use_certificate_file(ctx, "{ROOT}/conf/cert.pem"))
    say((ssl.ctx_use_certificate_file(ctx, "{ROOT}/conf/key.pem")))
    say((ssl.ctx_use_certificate_file(ctx, "{ROOT}/conf/none.pem")))
    fault(ssl.ctx, "tls")
    fault(ssl.ctx_use_certificate_file, {{}}, "x")
    fault(ssl.ctx_set_verify, ctx, "always")
    for _, name in ipairs{{ "tls", "tlsv1", "tlsv11", "tlsv12", "tlsv13" }} do
        assert(ssl.ctx(ssl.methods[name]))
    end
    ctx = ssl.ctx()
    ssl.ctx_use_private_key_file(ctx, "{ROOT}/conf/other.key")
    ssl.ctx_use_certificate_file(ctx, "{ROOT}/conf/cert.pem")
    local server, err = websocket.server("wss://127.0.0.1:0", print, {{ ctx = ctx }})
    say(server, err:match("[^:]+$"))

    -- The sockets beneath.
    ssl.ctx_use_private_key_file(ctx, "{ROOT}/conf/key.pem")
    local addr
    server, addr = ssl.tcp_server("127.0.0.1", 0, function(sock)
        sock:write(sock:read("\\n"):upper())
        sock:write(sock:read(4))
    end, nil, ctx)
    local sock = assert(ssl.tcp_connect("127.0.0.1", addr.port, 1, ssl.ctx()))
    say(sock:write("a line\\nfour"))
    say(sock:read("\\n"))
    say(sock:read(100))
    say(sock:read(100), sock:error(), sock:errno(), sock:nonblock(true))
    say(sock:peer().port == addr.port, sock:fd() > 0)
    sock:shutdown()
    say(sock:close(), sock:close())
    fault(sock.read, sock, 1)
    server:close()
    -- accept() of a port with a ctx, and of one without.
    for _, options in ipairs{{ {{ ctx = ctx }}, {{}} }} do
        local port = assert(websocket.bind("ws://127.0.0.1:0", options))
        local scheme = options.ctx and "wss" or "ws"
        local client = websocket.connect(scheme .. "://127.0.0.1:" .. port:name().port)
        local write = ngx.thread.spawn(function() client:write("x", 0.5) end)
        local accepted, why = ssl.accept(port, ctx)
        say(accepted and type(accepted.read), why)
        if accepted then accepted:close() end
        ngx.thread.kill(write)
        client:close()
        port:close()
    end
""")


@case("websocket.ssl: contexts and the sockets beneath")
def _(ng):
    got = ng.get("/contexts").split("\n")
    equal(got[:6], ["true | nil", "false", "false", "true | nil", "false", "false"])
    for n, text in (6, "one of ssl.methods"), (7, "a context of ssl.ctx()"), (8, "boolean"):
        assert text in got[n] and got[n].startswith("false"), got[n]
    equal(got[9], "nil |  key values mismatch")
    equal(got[10:16], ["11", "A LINE", "", "four", " | nil | 0 | true", "true | true"])
    equal(got[16], "true | false")
    assert "attempt to use closed socket" in got[17], got[17]
    equal(got[18:], ["function | nil", "nil | the port was opened without ctx"])


program("/new", f"""
    -- A cosocket whose handshake somebody else has done, as client and as server.
    local sock = ngx.socket.tcp()
    assert(sock:connect("127.0.0.1", {RAW}))
    local ws = websocket.new(sock, nil, true, true)
    say(ws:write("as client"))
    show(ws:read(5))
    local server = websocket.new(ws.peer, nil, false, true, nil, 10)
    say(server.peer == ws.peer, server.is_client)
    say(server:write("as server"))
    show(server:read(5))
    say((pcall(server.read, server, 5)))
    sock:close()
""")


@case("new over a cosocket, in either role, and over the socket of another peer")
def _(ng):
    def body(conn):
        first, _, data = unmasked(conn)
        equal((first, data), (0x81, b"as client"))
        conn.sendall(b"\x82\x03abc")
        equal(conn.recv(11, socket.MSG_WAITALL), b"\x81\x09as server")
        conn.sendall(frame(0x81, "x" * 10) + frame(0x81, "x" * 11))
        assert b"Payload size limit reached" in conn.recv(100)
    with Server(body):
        lines(ng, "/new", ["15", "2 | true | abc | 0", "true | false", "11",
                           "1 | true | xxxxxxxxxx | 0", "false"])


program("/many", f"""
    local ws = assert(websocket.connect("ws://127.0.0.1:{ECHO}"))
    ws:write("first")
    ws:read(5)
    local big, threads = ("b"):rep(3000000), {{}}
    for n = 1, 8 do
        threads[n] = ngx.thread.spawn(function()
            return ws:write{{ opcode = 2, data = n .. big }}
        end)
    end
    local seen = 0
    for n = 1, 8 do
        local frame = ws:read(30)
        if frame.data:sub(2) == big then seen = seen + tonumber(frame.data:sub(1, 1)) end
    end
    for _, thread in ipairs(threads) do
        say((select(2, ngx.thread.wait(thread))))
    end
    say(seen)
    ws:close()
""")


@case("light threads that write large frames at once do not mix them")
def _(ng):
    lines(ng, "/many", ["3000015"] * 8 + ["36"])


program("/reopen", """
    local function greet(ws) ws:write("welcome") ws:read() end
    local server, addr = websocket.server("ws://127.0.0.1:0", greet)
    local url = "ws://127.0.0.1:" .. addr.port
    local function visit()
        local ws, err = websocket.connect(url, nil, { timeout = 1 })
        if not ws then return say(ws, err) end
        show(ws:read(5))
        return ws
    end
    local stays = visit()
    say(websocket.server(url, greet))
    say(websocket.bind(url))
    say(server:close(), server:close(), server:accept(1))
    visit()
    server = assert(websocket.server(url, greet))
    visit():close()
    stays:write("still there")
    show(stays:read(5))
    server:close()
""")


@case("a port that is taken, closed, opened again; who is connected stays")
def _(ng):
    welcome = "1 | true | welcome | 0"
    lines(ng, "/reopen", [welcome, "nil | Address already in use", "false | Address already in use",
                          "true | false | nil | Connection reset by peer",
                          "nil | Connection refused", welcome, "nil | nil | nil | nil"])


program("/judge", """
    local ws = websocket.new(ngx.socket.tcp(), nil, true, true)
    local function judge(opcode, fin, data, rsv)
        local ok, fault = ws:validate{ opcode = opcode, fin = fin, data = data, rsv = rsv or 0 }
        say(ok, fault and fault.code, fault and fault.message)
    end
    judge(1, false, "\\226\\130")
    judge(9, true, "ping")
    judge(0, true, "\\172")
    judge(8, true, "")
    judge(3, true, "")
    judge(9, true, ("x"):rep(126), 16)
    judge(1, true, "", 64)
    judge(8, false, "")
    judge(0, true, "")
    ws = websocket.new(ngx.socket.tcp(), nil, true, true)
    judge(8, true, "\\3")
    judge(8, true, "\\3\\237")
    judge(8, true, "\\3\\232\\255")
    judge(1, true, "\\255")
""")


@case("validate judges frames that the program has read by itself")
def _(ng):
    lines(ng, "/judge", ["true | nil | nil"] * 4 + [
        "false | 1002 | opcode invalid: 3",
        "false | 1002 | control frame length greater than 125: 126",
        "false | 1002 | frame rsv invalid: 64",
        "false | 1002 | fragmented control frame not allloed",
        "false | 1002 | continuation frame without head frame",
        "false | 1002 | invalid close frame", "false | 1002 | close code invalid",
        "false | 1007 | utf8 data in close frame invalid", "false | 1007 | utf8 data invalid"])


program("/parts", f"""
    local frame = require "websocket.frame"
    local handshake = require "websocket.handshake"
    local utf8 = require "websocket.utf8_validator"
    say(frame.CONTINUATION, frame.TEXT, frame.BINARY, frame.CLOSE, frame.PING, frame.PONG)
    say(frame.encode("hi"):byte(1, -1))
    say(frame.encode("hi", frame.BINARY, false, false):byte(1, -1))
    say(#frame.encode("hi", frame.TEXT, true), frame.encode("hi", 1, true) ~= frame.encode("hi", 1, true))
    say(#frame.encode(("x"):rep(126)), #frame.encode(("x"):rep(65536)), frame.encode(nil, 9):byte(1, -1))
    say(#frame.encode_close(), frame.encode_close(1000, "ok"):byte(1, -1))
    say(frame.decode_close("\\3\\232ok"))
    say(frame.decode_close(""))
    say(frame.xor_mask("abcd!", {{ 1, 2, 3, 4 }}, 5):byte(1, -1))
    say(frame.slice_wait(nil, ngx.now()), frame.slice_wait(5, ngx.now() - 1) <= 4)
    local accept = handshake.sec_websocket_accept("dGhlIHNhbXBsZSBub25jZQ==")
    say(accept)
    local given = {{ path = "/p", headers = {{ Host = "h" }} }}
    local request = handshake.upgrade_request(given)
    say(request == given, request.headers == given.headers, handshake.upgrade_request().path)
    say((handshake.reduce_response{{ headers = {{}} }}:gsub("\\r\\n", "~")))
    say(request.method, request.path, request.headers.Host, request.headers.Upgrade,
        #request.headers["Sec-WebSocket-Key"], request.headers["Sec-WebSocket-Version"])
    local good = {{ headers = {{ upgrade = "WebSocket", connection = "x, Upgrade",
        ["sec-websocket-key"] = "dGhlIHNhbXBsZSBub25jZQ==", ["sec-websocket-version"] = "13",
        ["sec-websocket-protocol"] = "chat, superchat" }} }}
    say(handshake.validate_request(good))
    say(handshake.validate_request{{ headers = {{}} }} == false,
        (select(2, handshake.validate_request{{ headers = {{}} }}):gsub("\\r\\n", "~")))
    local response = handshake.accept_upgrade(good)
    say(response.code, response.version, response.status, response.headers["Sec-WebSocket-Accept"],
        response.headers.Connection, response.headers["Sec-WebSocket-Protocol"])
    say((handshake.reduce_response{{ code = 404, version = "HTTP/1.1", status = "No",
        headers = {{ A = "b\\r\\nc" }} }}:gsub("\\r\\n", "~")))
    say((handshake.reduce_request{{ method = "GET", path = "/", headers = {{ A = {{ "b", "c" }} }} }}
        :gsub("\\r\\n", "~")))
    say(utf8("fine"), utf8.validate("\\195\\164"))
    say(utf8("ab\\192"))
    say(utf8("\\237\\160\\128"))
    -- Frames from a socket.
    local sock = ngx.socket.tcp()
    assert(sock:connect("127.0.0.1", {RAW}))
    for _ = 1, 3 do
        local f, err = frame.decode_from(sock, 5)
        say(f and f.opcode, f and f.fin, f and f.data, f and f.rsv or err)
    end
    local f, err = frame.decode_from(sock, 0.05)
    say(f, err)
    sock:send("go")
    f = frame.decode_from(sock, 5)
    say(f.opcode, #f.data)
    say(next(frame.decode_from(sock, 5)))
""")


@case("websocket.frame, websocket.handshake, websocket.utf8_validator")
def _(ng):
    def body(conn):
        late = frame(0x82, b"l" * 300)
        conn.sendall(frame(0x81, "masked") + b"\xc2\x03bin" + b"\x81\x7f" + (5).to_bytes(8, "big")
                     + late[:3])
        equal(conn.recv(2), b"go")
        conn.sendall(late[3:] + late[:100])
    with Server(body):
        got = ng.get("/parts").split("\n")
    equal(got[:23], [
        "0 | 1 | 2 | 8 | 9 | 10", "129 | 2 | 104 | 105", "2 | 2 | 104 | 105", "8 | true",
        "130 | 65546 | 137 | 0", "0 | 3 | 232 | 111 | 107", "1000 | ok", "nil | nil",
        "96 | 96 | 96 | 96 | 32", "nil | true", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        "true | true | /", "HTTP/1.1 200 OK~~", "GET | /p | h | websocket | 24 | 13", "true",
        "true | HTTP/1.1 400 Bad Request~Connection: close~~",
        "101 | HTTP/1.1 | Switching Protocols | s3pPLMBiTxaQ9kYGzzhZRbK+xOo= | x, Upgrade | nil",
        "HTTP/1.1 404 No~A: b  c~~", "GET / HTTP/1.1~A: b~A: c~~", "true | true", "false | 3",
        "false | 1", "1 | true | masked | 0"])
    equal(got[23], "2 | true | bin | 64")
    equal(got[24:], ["nil | nil | nil | Invalid payload frame size", "nil | Connection timed out",
                     "2 | 300", "nil"])


run(case, prepare=sections)
