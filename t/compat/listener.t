BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Ports opened from Lua: connections as cosockets, what opening refuses, handlers that fail, the
# end of a listener. Two ports are opened in init_worker_by_lua, others by requests.
import os
import socket
import ssl
import subprocess
import threading
import time

from lib.live import PATIENCE, PORT, ROOT, VALGRIND, Cases, await_, equal, run
from lib.peer import context

case = Cases()
PLAIN, TLS = PORT + 2, PORT + 3
MIB = 1 << 20

# What a connection's first line names is run as its handler.
HANDLERS = """
    local listen = require "resty.websocket.listen"
    local handlers = {}

    -- What a handler says to the test, by the word in the connection's first line.
    local live = require "live"

    function handlers.echo(conn)
        while true do
            local line, err = conn:receive()
            if not line then return end
            assert(conn:send{ line, "\\n" })
        end
    end

    function handlers.patterns(conn, id)
        conn:settimeout(200)
        live.report_as(id, conn:receive(5))
        live.report_as(id, conn:receive("*l"))
        live.report_as(id, conn:receiveany(3))
        live.report_as(id, conn:receiveany(100))
        live.report_as(id, conn:receive(10))
        conn:send("next\\n")
        conn:settimeouts(1, 1000, 10000)
        live.report_as(id, conn:receive("*a"))
        live.report_as(id, conn:receive(1))
        live.report_as(id, conn:receive())
    end

    function handlers.misuse(conn, id)
        live.report_as(id, pcall(conn.receive, conn, "*x"))
        live.report_as(id, pcall(conn.receive, conn, -1))
        live.report_as(id, pcall(conn.receiveany, conn, 0))
        live.report_as(id, pcall(conn.send, conn, {}))
        live.report_as(id, pcall(conn.send, conn, true))
        live.report_as(id, pcall(conn.send, conn, { {} }))
    end

    function handlers.closed(conn, id)
        live.report_as(id, conn:close())
        live.report_as(id, conn:close())
        live.report_as(id, conn:send("x"))
        live.report_as(id, conn:receive())
        live.report_as(id, conn:readable(10))
        live.report_as(id, conn:flush())
        live.report_as(id, conn:shutdown("send"))
        live.report_as(id, conn:is_open(), conn:name(), conn:peer().host)
    end

    function handlers.big(conn)
        -- More than the kernel takes: send waits; the end of the handler loses nothing.
        for n = 1, 6 do
            assert(conn:send(("%d"):format(n):rep(1048576)))
        end
    end

    function handlers.swallow(conn, id)
        local data = assert(conn:receive(4 * 1048576))
        live.report_as(id, data)
    end

    function handlers.stalled(conn, id)
        conn:settimeout(100)
        local ok, err
        repeat ok, err = conn:send(("s"):rep(1048576)) until not ok
        live.report_as(id, ok, err)
    end

    function handlers.readable(conn, id)
        live.report_as(id, conn:readable(20))
        conn:send("go\\n")
        live.report_as(id, conn:readable(10000))
        live.report_as(id, conn:receive())
        live.report_as(id, conn:readable())
        live.report_as(id, conn:receive())
    end

    function handlers.addresses(conn, id)
        local peer, name = conn:peer(), conn:name()
        live.report_as(id, peer.host, peer.port, peer.family, peer.type, peer.protocol)
        live.report_as(id, name.host, name.port, name.family)
        live.report_as(id, type(conn:fd()), conn:fd() > 2, conn:is_tls())
    end

    function handlers.half(conn, id)
        conn:send("before")
        live.report_as(id, conn:shutdown("send"))
        live.report_as(id, conn:send("after"))
        live.report_as(id, conn:receive())
        live.report_as(id, conn:receive())
    end

    function handlers.threads(conn, id)
        local reader = ngx.thread.spawn(function() return conn:receive() end)
        live.report_as(id, conn:receive())
        conn:send("go\\n")
        live.report_as(id, select(2, ngx.thread.wait(reader)))
    end

    function handlers.raise(conn)
        conn:send("last words\\n")
        error("on purpose")
    end

    function handlers.exit(conn)
        conn:send("last words\\n")
        ngx.exit(444)
    end

    function handlers.sleep(conn)
        ngx.sleep(0.05)
        conn:send("awake\\n")
    end

    local kept = {}
    package.loaded.kept, package.loaded.opened = kept, {}
    function handlers.keep(conn, id)
        kept[id] = conn
        conn:send("kept\\n")
        conn:receive()
    end

    function handlers.long(conn, id)
        local line, err = conn:receive()
        live.report_as(id, line, err)
        conn:send("enough\\n")
    end

    local function dispatch(conn)
        local line = conn:receive()
        if line then
            local name, id = line:match("^(%S+) ?(.*)$")
            if handlers[name] then
                handlers[name](conn, id)
            end
        end
    end
    package.loaded.dispatch = dispatch
"""


def sections(ng):
    ng.certificate()
    return dict(http=f"""
        init_worker_by_lua_block {{
            {HANDLERS}
            local function open(opts)
                local listener = assert(listen.open(opts))
                assert(listen.serve(listener, dispatch))
                return listener
            end
            open{{ host = "127.0.0.1", port = {PLAIN} }}
            open{{ host = "127.0.0.1", port = {TLS}, handshake_timeout = 300,
                  tls = {{ certificate = "{ROOT}/conf/cert.pem", key = "{ROOT}/conf/key.pem" }} }}
        }}
    """)


class Client:
    ids = 0

    def __init__(self, ng, name="", port=PLAIN, tls=None, window=None):
        Client.ids += 1
        self.ng, self.id, self.buffer = ng, f"l{os.getpid()}-{Client.ids}", b""
        self.sock = socket.socket()
        if window:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(("127.0.0.1", port))
        if tls:
            self.sock = tls.wrap_socket(self.sock, server_hostname="localhost")
        if name:
            self.send(f"{name} {self.id}\n".encode())

    def send(self, data):
        self.sock.sendall(data)

    def line(self):
        while b"\n" not in self.buffer:
            data = self.sock.recv(65536)
            assert data, f"the stream ended after {self.buffer!r}"
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.decode()

    def rest(self):
        parts = [self.buffer]
        while data := self.sock.recv(1 << 18):
            parts.append(data)
        self.buffer = b""
        return b"".join(parts)

    def report(self):
        return self.ng.get(f"/live/take?id={self.id}&wait={PATIENCE}", patience=PATIENCE + 5)

    def close(self):
        self.sock.close()


def descriptors(ng):
    worker, = ng.workers()
    return len(os.listdir(f"/proc/{worker}/fd"))


@case("lines there and back")
def _(ng):
    ng.get("/live/open")  # once the worker answers, its ports are open
    client = Client(ng, "echo")
    for n in range(100):
        client.send(f"line {n}\r\n".encode())
    for n in range(100):
        equal(client.line(), f"line {n}")
    client.close()


@case("every pattern of receive, partial results with their errors")
def _(ng):
    client = Client(ng, "patterns")
    client.send(b"12345" + b"a line\r\n" + b"abcdef")
    equal(client.report(), "12345")
    equal(client.report(), "a line")
    equal(client.report(), "abc")
    equal(client.report(), "def")
    equal(client.report(), "nil | timeout | ")
    equal(client.line(), "next")
    client.send(b"to the end")
    client.sock.shutdown(socket.SHUT_WR)
    equal(client.report(), "to the end")
    equal(client.report(), "nil | closed | ")
    equal(client.report(), "nil | closed | ")
    client.close()


@case("partial results are what came until the time-out")
def _(ng):
    client = Client(ng, "patterns")
    client.send(b"1234")
    equal(client.report(), "nil | timeout | 1234")
    client.close()
    for _ in range(7):
        client.report()


@case("misuse is an error that names the argument")
def _(ng):
    client = Client(ng, "misuse")
    for text in ("bad argument #1 to 'receive' (bad pattern argument)",
                 "bad argument #1 to 'receive' (bad pattern argument)",
                 "bad argument #1 to 'receiveany' (bad max argument)"):
        got = client.report()
        assert got.startswith("false | ") and got.endswith(text), got
    equal(client.report(), "true | 0")
    for _ in range(2):
        got = client.report()
        assert got.endswith("bad data (string or array of strings expected)"), got
    client.close()


@case("a closed connection answers closed")
def _(ng):
    client = Client(ng, "closed")
    equal(client.rest(), b"")
    equal([client.report() for _ in range(8)],
          ["1", "nil | closed", "nil | closed", "nil | closed | ", "nil | closed", "nil | closed",
           "nil | closed", "false | nil | 127.0.0.1"])
    client.close()


@case("6 MiB to a slow reader, all of it after the handler's end")
def _(ng):
    client = Client(ng, "big", window=16384)
    time.sleep(0.05)  # the sender fills what the kernel takes
    data = client.rest()
    equal(data, b"".join(b"%d" % n * MIB for n in range(1, 7)))
    client.close()


@case("4 MiB from the client")
def _(ng):
    client = Client(ng, "swallow")
    client.send(b"x" * (4 * MIB))
    assert client.report().startswith(f"{4 * MIB} bytes"), "the whole"
    client.close()


@case("a peer that does not read lets send time out; its connection does not stay")
def _(ng):
    client = Client(ng, "stalled", window=16384)
    equal(client.report(), "nil | timeout")
    await_(lambda: ng.connections() == 0, "the connection is given up")
    client.close()


@case("readable waits for bytes, and for the end of the stream")
def _(ng):
    client = Client(ng, "readable")
    equal(client.report(), "nil | timeout")
    equal(client.line(), "go")
    client.send(b"there\n")
    equal(client.report(), "true")
    equal(client.report(), "there")
    client.sock.shutdown(socket.SHUT_WR)
    equal(client.report(), "true")
    equal(client.report(), "nil | closed | ")
    client.close()


@case("addresses")
def _(ng):
    client = Client(ng, "addresses")
    port = client.sock.getsockname()[1]
    equal(client.report(), f"127.0.0.1 | {port} | AF_INET | SOCK_STREAM | tcp")
    equal(client.report(), f"127.0.0.1 | {PLAIN} | AF_INET")
    equal(client.report(), "number | true | false")
    client.close()


@case("one side ended: the other goes on")
def _(ng):
    client = Client(ng, "half")
    equal(client.rest(), b"before")
    equal(client.report(), "1")
    equal(client.report(), "nil | closed")
    client.send(b"still heard\n")
    equal(client.report(), "still heard")
    client.close()
    equal(client.report(), "nil | closed | ")


@case("two light threads do not read at once")
def _(ng):
    client = Client(ng, "threads")
    equal(client.report(), "nil | socket busy reading | ")
    equal(client.line(), "go")
    client.send(b"for the first\n")
    equal(client.report(), "for the first")
    client.close()


@case("a line without an end", )
def _(ng):
    client = Client(ng, "long")
    client.send(b"x" * 70000)
    equal(client.report(), "nil | line too long")
    equal(client.line(), "enough")
    equal(client.rest(), b"")
    client.close()


@case("a handler that raises is logged with its traceback, and alone", logs="on purpose")
def _(ng):
    other = Client(ng, "echo")
    client = Client(ng, "raise")
    equal(client.rest(), b"last words\n")
    await_(lambda: "on purpose" in ng.read_log(), "the log")
    log = ng.read_log()
    assert "websocket handler failed: " in log and "stack traceback:" in log, log[-2000:]
    other.send(b"undisturbed\n")
    equal(other.line(), "undisturbed")
    client.close()
    other.close()


@case("ngx.exit in a handler ends its connection, after what was sent")
def _(ng):
    client = Client(ng, "exit")
    equal(client.rest(), b"last words\n")
    client.close()


@case("a handler may sleep; a peer that left in the meantime harms nothing")
def _(ng):
    clients = [Client(ng, "sleep") for _ in range(50)]
    for client in clients[::2]:
        client.close()
    for client in clients[1::2]:
        equal(client.line(), "awake")
        client.close()


@case("a connection is used from a request")
def _(ng):
    client = Client(ng, "keep")
    equal(client.line(), "kept")
    equal(ng.get(f"/kept?id={client.id}"), "4")
    equal(client.line(), "hey")
    client.close()
    await_(lambda: ng.get(f"/kept?id={client.id}") == "closed", "the end is seen")


case.handler("/kept", """
    local bytes, err = require("kept")[ngx.var.arg_id]:send("hey\\n")
    ngx.print(bytes or err)
""")


@case("TLS")
def _(ng):
    client = Client(ng, "echo", port=TLS, tls=context())
    for size in 1, 1000, 60000:
        client.send(b"x" * size + b"\n")
        equal(len(client.line()), size)
    client.close()
    client = Client(ng, "big", port=TLS, tls=context())
    equal(len(client.rest()), 6 * MIB)
    client.close()
    client = Client(ng, "addresses", port=TLS, tls=context())
    client.report()
    client.report()
    equal(client.report(), "number | true | true")
    equal(client.rest(), b"")
    client.close()


@case("half a TLS handshake ends by the time limit")
def _(ng):
    begun = time.monotonic()
    clients = [Client(ng, port=TLS) for _ in range(3)]
    clients[1].send(b"\x16")
    clients[2].send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    for client in clients:
        equal(client.rest(), b"")
        client.close()
    assert 0.2 < time.monotonic() - begun < PATIENCE / 2, "at the limit"


@case("plain on the TLS port, TLS on the plain port, garbage")
def _(ng):
    client = Client(ng, port=TLS)
    client.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
    try:
        client.rest()
    except ConnectionResetError:
        pass
    client.close()
    try:
        Client(ng, port=PLAIN, tls=context())
        raise AssertionError("a TLS handshake on the plain port")
    except (ssl.SSLError, OSError):
        pass
    client = Client(ng, port=TLS)
    client.send(os.urandom(3000))
    try:
        client.rest()
    except ConnectionResetError:
        pass
    client.close()
    client = Client(ng, "echo", port=TLS, tls=context())
    client.send(b"undisturbed\n")
    equal(client.line(), "undisturbed")
    client.close()


case.handler("/open", f"""
    local listen = require "resty.websocket.listen"
    local listener, err = listen.open{{ host = ngx.var.arg_host or "127.0.0.1",
        port = tonumber(ngx.var.arg_port), tls = ngx.var.arg_cert and {{
            certificate = ngx.var.arg_cert, key = ngx.var.arg_key, ca = ngx.var.arg_ca,
            verify = ngx.var.arg_verify, protocols = ngx.var.arg_protocol }} }}
    if not listener then
        return ngx.print(err)
    end
    local opened = require "opened"
    opened[listener:port()] = listener
    if ngx.var.arg_serve then
        assert(listen.serve(listener, require("dispatch")))
    end
    ngx.print(listener:port(), " ", listener:name().host, " ", listener:fd() > 2)
""")
case.handler("/close", """
    local listener = require("opened")[tonumber(ngx.var.arg_port)]
    listener:close()
    listener:close()
    ngx.print(listener:is_open(), " ", select(2, listener:accept()))
""")


@case("what opening refuses")
def _(ng):
    equal(ng.get(f"/open?port={PLAIN}"), "address already in use", "opened by this worker")
    equal(ng.get(f"/open?port={PORT}"), "address already in use", "opened by nginx")
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    equal(ng.get(f"/open?port={taken.getsockname()[1]}"), "address already in use", "opened by somebody else")
    taken.close()
    equal(ng.get("/open?port=70000"), "bad port")
    equal(ng.get("/open?port=0&host=192.0.2.1"), "cannot assign requested address")
    equal(ng.get("/open?port=0&host=no.such.host.invalid"), "host not found")
    conf = f"{ROOT}/conf"
    with open(f"{conf}/rubbish.pem", "w") as out:
        out.write("rubbish")
    equal(ng.get(f"/open?port=0&cert={conf}/none.pem&key={conf}/key.pem"),
          f'cannot load certificate "{conf}/none.pem": no such file or directory')
    equal(ng.get(f"/open?port=0&cert={conf}/rubbish.pem&key={conf}/key.pem"),
          f'cannot load certificate "{conf}/rubbish.pem": no start line')
    equal(ng.get(f"/open?port=0&cert={conf}/cert.pem&key={conf}/none.pem"),
          f'cannot load private key "{conf}/none.pem": no such file or directory')
    equal(ng.get(f"/open?port=0&cert={conf}/cert.pem&key={conf}/other.key"),
          f'cannot load private key "{conf}/other.key": key values mismatch')
    # Nobody is asked for its password: OpenSSL calls that a processing error where it has no terminal.
    answer = ng.get(f"/open?port=0&cert={conf}/cert.pem&key={conf}/locked.key")
    assert answer.startswith(f'cannot load private key "{conf}/locked.key": '), answer
    assert "processing" not in answer, answer
    equal(ng.get(f"/open?port=0&cert={conf}/cert.pem&key={conf}/key.pem&protocol=SSLv9"),
          'unknown tls protocol "SSLv9"')


@case("any free port; closed and opened again")
def _(ng):
    port, host, fd = ng.get("/open?serve=1&port=0").split()
    equal((host, fd), ("127.0.0.1", "true"))
    port = int(port)
    client = Client(ng, "echo", port=port)
    client.send(b"one\n")
    equal(client.line(), "one")
    equal(ng.get(f"/close?port={port}"), "false closed")
    client.send(b"two\n")
    equal(client.line(), "two", "running handlers go on")
    try:
        Client(ng, port=port)
        raise AssertionError("connected to a closed port")
    except ConnectionRefusedError:
        pass
    client.close()
    for _ in range(3):
        equal(ng.get(f"/open?serve=1&port={port}"), f"{port} 127.0.0.1 true")
        client = Client(ng, "echo", port=port)
        client.send(b"again\n")
        equal(client.line(), "again")
        client.close()
        equal(ng.get(f"/close?port={port}"), "false closed")


@case("IPv6", skip_valgrind=True)
def _(ng):
    if not socket.has_ipv6 or not os.path.exists("/proc/net/if_inet6"):
        return
    answer = ng.get("/open?serve=1&port=0&host=::1")
    if answer == "cannot assign requested address":
        return
    port, host, _ = answer.split()
    equal(host, "::1")
    with socket.create_connection(("::1", int(port)), PATIENCE) as sock:
        sock.sendall(b"echo\nsix\n")
        equal(sock.recv(10), b"six\n")
    ng.get(f"/close?port={port}")


case.handler("/manual", """
    local listen = require "resty.websocket.listen"
    local listener = assert(listen.open{ host = "127.0.0.1", port = 0, backlog = 2 })
    live.report(listener:port())
    live.report(listener:accept(20))
    live.report(listener:readable(20))
    live.report("ready")
    live.report(listener:readable(10000))
    live.take_signal()
    for n = 1, 5 do
        local conn = assert(listener:accept(10000))
        conn:send("number " .. n .. "\\n")
        conn:close()
    end
    live.report(listener:accept(20))
    listener:close()
    live.report(listener:readable())
    live.report(listener:accept())
    ngx.print("done")
""")


@case("accepted by hand: what waits beyond the backlog stays with the kernel")
def _(ng):
    client = Client(ng)
    client.close()
    answer = []
    thread = threading.Thread(target=lambda: answer.append(ng.get(f"/manual?id={client.id}")))
    thread.start()
    port = int(client.report())
    equal(client.report(), "nil | timeout")
    equal(client.report(), "nil | timeout")
    equal(client.report(), "ready")
    clients = [Client(ng, port=port) for _ in range(5)]
    equal(client.report(), "true")
    ng.get(f"/live/signal?id={client.id}")
    equal(sorted(c.line() for c in clients), [f"number {n}" for n in range(1, 6)])
    equal(client.report(), "nil | timeout")
    equal(client.report(), "true")
    equal(client.report(), "nil | closed")
    thread.join()
    equal(answer, ["done"])
    for each in clients:
        each.close()


@case("client certificates")
def _(ng):
    conf = f"{ROOT}/conf"
    files = f"cert={conf}/cert.pem&key={conf}/key.pem&ca={conf}/cert.pem"
    for verify, without in ("require", False), ("optional", True):
        port, _, _ = ng.get(f"/open?serve=1&port=0&{files}&verify={verify}").split()
        tls = context()
        tls.load_cert_chain(f"{conf}/cert.pem", f"{conf}/key.pem")
        for _ in range(2):
            client = Client(ng, "echo", port=int(port), tls=tls)
            client.send(b"known\n")
            equal(client.line(), "known")
            client.close()
        client = Client(ng, "echo", port=int(port), tls=context())
        try:
            client.send(b"unknown\n")
            got = client.sock.recv(100)
        except (ssl.SSLError, ConnectionError):
            got = b""
        equal(got, b"unknown\n" if without else b"", verify)
        client.close()
        ng.get(f"/close?port={port}")


@case("1000 connections leave no descriptor", skip_valgrind=True)
def _(ng):
    ng.get("/live/open")
    before = descriptors(ng)
    for n in range(1000):
        client = Client(ng, ["echo", "exit", "closed", "sleep"][n % 4],
                        *([TLS, context()] if n % 50 == 0 else []))
        if n % 3:
            client.close()
        else:
            client.sock.close()
    await_(lambda: ng.connections() == 0, "all connections end")
    equal(descriptors(ng), before)


def prepare(ng):
    for name, lock in ("other", []), ("locked", ["-aes-128-cbc", "-pass", "pass:secret"]):
        subprocess.run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt",
                        "ec_paramgen_curve:prime256v1", *lock, "-out", f"{ROOT}/conf/{name}.key"],
                       check=True, stderr=subprocess.DEVNULL)
    return sections(ng)


run(case, prepare=prepare)
