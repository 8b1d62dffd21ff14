BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# A port opened from Lua where something runs out: descriptors, nginx's connections, the peer's
# patience; and nginx without a master process.
import os
import re
import socket
import subprocess
import threading
import time

from lib.live import PATIENCE, PORT, ROOT, VALGRIND, Nginx, Tap, await_, equal
from lib.memory import peak, within
from lib.peer import context

tap = Tap()
ECHO, TLS = PORT + 2, PORT + 3
HTTP = f"""
    init_worker_by_lua_block {{
        local listen = require "resty.websocket.listen"
        local listener = assert(listen.open{{ host = "127.0.0.1", port = {ECHO} }})
        package.loaded.listener = listener
        assert(listen.serve(listener, function(conn)
            while true do
                local line = conn:receive()
                if not line then return end
                conn:send(line .. "\\n")
            end
        end))
    }}
"""


def connect():
    return socket.create_connection(("127.0.0.1", ECHO), PATIENCE)


def answers(sock, word=b"hello\n"):
    """Whether it echoes: False, if it was closed instead."""
    try:
        sock.sendall(word)
        data = b""
        while len(data) < len(word):
            more = sock.recv(100)
            if not more:
                return False
            data += more
        equal(data, word)
        return True
    except (ConnectionResetError, BrokenPipeError):
        return False


def cpu(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def with_nginx(name, body, allowed=None, **sections):
    ng = Nginx(http=HTTP, **sections)

    def attempt():
        try:
            ng.start()
            ng.get("/live/open")
            body(ng)
            equal(ng.stop(), 0, "exit code of nginx")
            loud = [line for line in ng.loud() if not (allowed and re.search(allowed, line))]
            assert not loud, "nginx logged:\n" + "\n".join(loud[:10])
            found = ng.valgrind_findings()
            assert not found, "valgrind:\n" + "\n".join(found[:200])
        finally:
            ng.kill()
    tap.attempt(name, attempt)


def descriptors(ng):
    """Too many connections wait with the kernel, without a spinning worker, and are served once
    there is room."""
    def spent():
        return sum(map(cpu, ng.workers()))

    before = spent()
    socks = [connect() for _ in range(200 * len(ng.workers()))]
    served = []
    for sock in socks:
        sock.sendall(b"hello\n")
    await_(lambda: "Too many open files" in ng.read_log(), "descriptors run out")
    time.sleep(1.2)  # two pauses of the listener
    assert spent() - before < 0.6 * len(ng.workers()), f"{spent() - before} s of CPU: a worker spins"
    failures = ng.read_log().count("Too many open files")
    assert failures < 3 * len(socks), f"{failures} times asked the kernel in vain"
    waiting = []
    for sock in socks:
        sock.setblocking(False)
        try:
            equal(sock.recv(100), b"hello\n")
            served.append(sock)
        except BlockingIOError:
            waiting.append(sock)
    assert len(served) > 20 and len(waiting) > 20, (len(served), len(waiting))
    sock = served.pop()
    sock.settimeout(PATIENCE)
    assert answers(sock, b"undisturbed\n")
    sock.close()
    while served or waiting:
        for sock in served:
            sock.close()
        served = []
        for sock in list(waiting):
            try:
                equal(sock.recv(100), b"hello\n")
                waiting.remove(sock)
                served.append(sock)
            except BlockingIOError:
                pass
        time.sleep(0.01)
    await_(lambda: ng.connections() == 0, "all connections end")


def closes(ng):
    """A port is closed while nginx's own ports pause, because descriptors have run out on it."""
    keeps = socket.create_connection(("127.0.0.1", ng.port), PATIENCE)

    def asks(path):
        keeps.sendall(f"GET {path} HTTP/1.1\r\nHost: t\r\n\r\n".encode())
        assert keeps.recv(65536).startswith(b"HTTP/1.1 200")

    asks("/live/open")
    socks = [connect() for _ in range(200)]
    await_(lambda: "Too many open files" in ng.read_log(), "descriptors run out")
    asks("/close")
    keeps.close()
    for sock in socks:
        sock.close()
    await_(lambda: ng.connections() == 0, "nginx answers, and all connections end")


def connections(ng):
    """More than worker_connections allows: closed at once, each of the others is served."""
    for _ in range(3):
        socks = [connect() for _ in range(100)]
        good = [sock for sock in socks if answers(sock)]
        assert 10 < len(good) < 60, f"{len(good)} served"
        for sock in good:
            assert answers(sock, b"again\n"), "one of the served was cut"
        for sock in socks:
            sock.close()
        await_(lambda: ng.connections() == 0, "all connections end")
    assert "could not create fake connection" not in ng.read_log()


def unread(ng):
    """A flood of lines, none of which ends where a read does: what was read is not kept."""
    line = b"x" * 998 + b"\n"
    count = 1 << (12 if VALGRIND else 15)
    sock = connect()
    assert answers(sock, line)
    worker, = ng.workers()
    before = peak(worker)
    writer = threading.Thread(target=lambda: sock.sendall(line * count))
    writer.start()
    left = len(line) * count
    while left > 0:
        got = sock.recv(min(left, 1 << 16))
        assert got, f"it ended, {left} bytes before the end"
        left -= len(got)
    writer.join()
    within(peak(worker) - before, 4 << 20)
    sock.close()
    await_(lambda: ng.connections() == 0, "all connections end")


def single(ng):
    sock = connect()
    assert answers(sock)
    sock.close()
    await_(lambda: ng.connections() == 0, "all connections end")


if not VALGRIND:  # which has limits on descriptors of its own
    with_nginx("descriptors", descriptors, "Too many open files",
               main="worker_rlimit_nofile 100;", events="worker_connections 500;")
    with_nginx("descriptors of two workers", descriptors, "Too many open files",
               main="worker_rlimit_nofile 100;", events="worker_connections 500;", workers=2)
    with_nginx("a port that is closed meanwhile", closes, "Too many open files",
               main="worker_rlimit_nofile 100;",
               events="worker_connections 500; accept_mutex_delay 1h;",
               server="location = /close { content_by_lua_block { package.loaded.listener:close() } }")
with_nginx("worker_connections", connections,
           "worker_connections are not enough", events="worker_connections 96;")
with_nginx("a flood of lines", unread)


class Single(Nginx):
    """Without a master process: nginx is its own worker."""

    def workers(self):
        return [self.child.pid] if os.path.exists(f"{ROOT}/logs/nginx.pid") else []


Nginx = Single
with_nginx("without a master process", single, main="master_process off;")
tap.done()
