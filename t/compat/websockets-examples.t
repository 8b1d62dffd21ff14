BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# The programs of nginx-conf/lua-websockets, as they stand there: README's echo, the test server with
# its own loop and with somebody else's, the tour of every call. And nginx.conf beside them.
import os
import re
import socket
import subprocess

from lib.live import BINARY, PATIENCE, PORT, REPO, ROOT, Cases, await_, equal, modules, run
from lib.lws import Ws, is_open
from lib.peer import BINARY_FRAME, CLOSE, TEXT, frame

FOLDER = f"{REPO}/nginx-conf/lua-websockets/"
ECHO, SERVER, EV, TOUR = range(PORT + 2, PORT + 6)
case = Cases()


def http(port, request):
    """The answer to a request, up to the end of the connection."""
    await_(lambda: is_open(port), f"port {port} opens")
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as s:
        s.sendall(request.encode())
        head, _, body = b"".join(iter(lambda: s.recv(65536), b"")).partition(b"\r\n\r\n")
    return head.decode().split("\r\n"), body


def content(name):
    with open(FOLDER + name, "rb") as f:
        return f.read()


@case("echo.lua")
def _(ng):
    ws = Ws(ng, "echo", ECHO)
    for text in "hello", "ä" * 70000:
        equal(ws.ask(text), text)
    ws.leave()
    head, body = http(ECHO, "GET / HTTP/1.1\r\nHost: t\r\n\r\n")
    equal(head[0], "HTTP/1.1 426 Upgrade Required")
    assert "Upgrade: websocket" in head, head


for name, port in ("test-server.lua", SERVER), ("test-server-ev.lua", EV):
    @case(f"{name}: the page and the icon")
    def _(ng, port=port):
        for target, file, kind in (("/", "test.html", "text/html"),
                                   ("/any?thing", "test.html", "text/html"),
                                   ("/favicon.ico", "favicon.ico", "image/x-icon")):
            head, body = http(port, f"GET {target} HTTP/1.1\r\nHost: t\r\n\r\n")
            expected = content(f"test-server/{file}")
            equal(head, ["HTTP/1.0 200 OK", "Server: libwebsockets", f"Content-Type: {kind}",
                         f"Content-Length: {len(expected)}"])
            equal(body, expected)

    @case(f"{name}: dumb-increment-protocol counts for each client, and reset starts again")
    def _(ng, port=port):
        first = Ws(ng, "dumb-increment-protocol", port)
        for n in range(3):
            equal(first.text(), str(n))
        second = Ws(ng, "dumb-increment-protocol", port)
        equal([second.text(), second.text()], ["0", "1"])
        first.send(frame(TEXT, "reset\n"))
        numbers = [int(first.text())]
        while len(numbers) < 2 or numbers[-1] > numbers[-2]:
            assert len(numbers) < 100, numbers
            numbers.append(int(first.text()))
        equal(numbers[-1], 0)
        for ws in first, second:
            ws.send(frame(CLOSE, b"\x03\xe8"))
            last = ws.frame()
            while last[0] == TEXT:
                last = ws.frame()
            equal(last, (CLOSE, b"\x03\xe8"))
            ws.close()

    @case(f"{name}: lws-mirror-protocol shows everybody what one says")
    def _(ng, port=port):
        clients = [Ws(ng, "lws-mirror-protocol", port) for _ in range(3)]
        for n, client in enumerate(clients):
            client.send(frame(TEXT, f"0 0 {n} {n}"))
            equal([each.text() for each in clients], [f"0 0 {n} {n}"] * 3)
        for client in clients:
            client.leave()


@case("tour.lua")
def _(ng):
    ws, echo = Ws(ng, "super-test", TOUR), Ws(ng, "echo", TOUR)
    equal(echo.ask("hello"), "hello")

    def call(name, *before):
        ws.send(frame(TEXT, name))
        for each in before:
            equal(ws.frame(), each, name)
        return ws.text().removeprefix(f"{name}: ")

    equal(call("write", (TEXT, b"hello")), "0")
    equal(call("binary", (BINARY_FRAME, b"hello")), "0")
    equal(call("hostname"), socket.gethostname().lower())
    equal(call("fds"), "true")
    equal(call("peer"), "127.0.0.1 127.0.0.1")
    equal(call("remaining"), "0")
    equal(call("flow"), "0")
    equal(call("broadcast", (TEXT, b"all echo hello")), "0")
    equal(call("forward_binary"), "nil")
    equal(call("broadcast", (BINARY_FRAME, b"all echo hello")), "0")
    equal(call("forward_text"), "nil")
    equal(call("broadcast", (TEXT, b"all echo hello")), "0")
    equal(call("intercept"), "nil")
    equal(call("broadcast", (TEXT, b"all echo hellohello")), "0")
    equal(call("broadcast_echo"), "0")
    equal(echo.text(), "hello")
    equal(http(TOUR, "GET / HTTP/1.0\r\n\r\n")[1], content("test-server/test.html"))
    ws.send(frame(TEXT, "close"))
    equal(ws.frame(), (CLOSE, b"\x03\xe8"))
    ws.send(frame(CLOSE, b"\x03\xe8"))
    equal(ws.rest(), b"")
    ws.close()
    await_(lambda: re.search(r"\[notice\].* bye", ng.read_log()), "on_closed is called")

    last = Ws(ng, "super-test", TOUR)
    last.send(frame(TEXT, "destroy"))
    for each in last, echo:
        equal(each.frame(), (CLOSE, b"\x03\xe9"))
        equal(each.rest(), b"")
        each.close()
    with socket.socket() as s:
        equal(s.connect_ex(("127.0.0.1", TOUR)) != 0, True, "the port is closed")


@case("nginx.conf is one that nginx takes")
def _(ng):
    # With the module that is tested, and a pid file and a log of its own.
    with open(FOLDER + "nginx.conf") as f:
        text = re.sub(r"load_module .*;\n", "", f.read())
    text = "".join(f"load_module {m};\n" for m in modules()) + re.sub(
        r"pid +\S+;", f"pid {ROOT}/logs/other.pid;", text)
    path = f"{ROOT}/conf/other.conf"
    with open(path, "w") as f:
        f.write(text)
    done = subprocess.run([BINARY, "-t", "-p", FOLDER, "-e", "stderr", "-c", path],
                          capture_output=True, text=True)
    equal(done.returncode, 0, done.stderr)
    for name in os.listdir(FOLDER):
        assert name in ("test-server", "nginx.conf") or name.endswith(".lua"), name


START = "".join(f"""
        start("{name}", {args})""" for name, args in (
    ("echo.lua", ECHO), ("test-server.lua", f"folder, {SERVER}"),
    ("test-server-ev.lua", f"folder, {EV}"), ("tour.lua", f"folder, {TOUR}")))

run(case, http=f"""
    init_worker_by_lua_block {{
        local folder = "{FOLDER}"
        local function start(name, ...)
            local program = assert(loadfile(folder .. name))
            assert(ngx.timer.at(0, function(_, ...) program(...) end, ...))
        end{START}
    }}""")
