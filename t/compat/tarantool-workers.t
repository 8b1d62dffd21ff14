BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Ports of require "websocket" over a worker's life: many connections, several workers, a worker that
# is killed, reloads with clients connected, worker_shutdown_timeout.
import os
import select
import signal
import socket
import threading

from lib.live import PATIENCE, PORT, VALGRIND, Nginx, Tap, await_, equal
from lib.memory import resident, within
from lib.peer import CLOSE, PING, TEXT, Peer, frame, head

tap = Tap()
ECHO, SOLE = PORT + 2, PORT + 3
# The test and the worker have 20 000 descriptors each; a connection takes one in either.
MANY = 200 if VALGRIND else 10000

HTTP = f"""
    init_worker_by_lua_block {{
        local websocket = require "websocket"
        local function echo(ws)
            ws:write("worker " .. ngx.worker.pid())
            while true do
                local message = ws:read()
                if not message or message.opcode == nil then return end
                ws:write(message)
            end
        end
        assert(websocket.server("ws://127.0.0.1:{ECHO}", echo, {{ ping_frequency = 3600 }}))
        local only, err = websocket.server("ws://127.0.0.1:{SOLE}", echo,
                                           {{ workers = 1, ping_frequency = 3600 }})
        assert(only or err == "Another worker's", err)
    }}
"""


class Client(Peer):
    def __init__(self, ng, port=ECHO):
        super().__init__(ng, "/", port=port)
        equal(self.frame(), (PING, b""))
        first, text = self.frame()
        self.worker = int(text.split()[1])

    def talk(self, text):
        self.send(frame(TEXT, text))
        equal(self.frame(), (TEXT, text.encode()))

    def leave(self):
        self.send(frame(CLOSE, b"\x03\xe8"))
        equal(self.frame(), (CLOSE, b"\x03\xe8"))
        equal(self.rest(), b"")
        self.close()


def with_nginx(name, body, **sections):
    """A case with an nginx of its own, which must end without a loud word."""
    ng = Nginx(http=HTTP, **sections)

    def attempt():
        try:
            ng.start()
            ng.get("/live/open")
            allowed = body(ng)
            equal(ng.stop(), 0, "exit code of nginx")
            loud = ng.loud(allowed)
            assert not loud, "nginx logged:\n" + "\n".join(loud[:10])
            found = ng.valgrind_findings()
            assert not found, "valgrind:\n" + "\n".join(found[:200])
        finally:
            ng.kill()
    tap.attempt(name, attempt)


def read_some(sock, size):
    data = b""
    while len(data) < size:
        more = sock.recv(65536)
        assert more, f"the stream ended after {data!r}"
        data += more
    return data


def many(ng):
    """10 000 connections at a time, twice: all served, nothing left."""
    worker, = ng.workers()
    request = head("/")
    message = frame(TEXT, "hello")
    opened = len(os.listdir(f"/proc/{worker}/fd"))
    memories = []
    for round in range(2):
        socks = []
        for start in range(0, MANY, 250):
            batch = [socket.create_connection(("127.0.0.1", ECHO), PATIENCE)
                     for _ in range(min(250, MANY - start))]
            for sock in batch:
                sock.sendall(request + message)
            socks += batch
        await_(lambda: ng.connections() == MANY, "all are accepted", 60)
        greeting = f"worker {worker}".encode()
        for sock in socks:
            data = b""
            while not data.endswith(b"\x81\x05hello"):
                more = sock.recv(65536)
                assert more, f"the stream ended after {data!r}"
                data += more
            assert data.startswith(b"HTTP/1.1 101 ") and greeting in data, data
        memories.append(resident(worker))
        for sock in socks:
            sock.sendall(frame(TEXT, "again"))
        for sock in socks:
            equal(read_some(sock, 7), b"\x81\x05again")
        equal(ng.sessions(), MANY)
        for n, sock in enumerate(socks):
            if n % 2:
                sock.sendall(frame(CLOSE, b"\x03\xe8"))
                sock.shutdown(socket.SHUT_WR)
            else:
                sock.close()
        for sock in socks[1::2]:
            while sock.recv(100):
                pass
            sock.close()
        await_(lambda: ng.connections() == 0, "all connections end", 60)
        await_(lambda: ng.sessions() == 0, "all sessions end", 60)
        equal(len(os.listdir(f"/proc/{worker}/fd")), opened, "descriptors of the worker")
    within(memories[1] - memories[0], memories[0] / 10 + (4 << 20))
    print(f"# {MANY} connections: the worker has {memories[0] >> 10} KiB, then {memories[1] >> 10} KiB, "
          f"{resident(worker) >> 10} KiB in the end")
    # Only half of them are descriptors: each has a request context of its own beside it.
    return "worker_connections exceed open file resource limit"


def two_workers(ng):
    """Both serve the port; one opened for a single worker is that one's."""
    clients = []

    def both():
        clients.append(Client(ng))
        return {c.worker for c in clients} == set(ng.workers())
    # Their ports open when they begin, one perhaps after the other has served a few.
    await_(both, "both workers serve")
    clients += [Client(ng) for _ in range(40)]
    sole = [Client(ng, SOLE) for _ in range(20)]
    equal(len({c.worker for c in sole}), 1, "workers that serve the sole port")
    for client in clients + sole:
        client.talk("hello")
    for client in clients + sole:
        client.leave()


def killed(ng):
    """A worker that is killed: its successor opens the ports again."""
    client = Client(ng)
    old = client.worker
    os.kill(old, signal.SIGKILL)
    await_(lambda: ng.workers() and old not in ng.workers(), "another worker")
    ng.get("/live/open")
    client.close()
    client = Client(ng)
    assert client.worker != old
    client.talk("after")
    client.leave()
    loud = ng.loud()
    assert all("exited on signal 9" in line for line in loud), loud


def reload(ng):
    old = ng.workers()
    ng.signal("HUP")
    await_(lambda: ng.workers() and not set(ng.workers()) & set(old), "new workers")
    ng.get("/live/open")
    return old


def reloads(ng):
    """Connected clients stay with their worker, which exits after the last; others never wait."""
    seen, failures, stop = [], [], threading.Event()

    def knock():
        while not stop.is_set():
            try:
                client = Client(ng)
                client.talk("knock")
                client.leave()
                seen.append(client.worker)
            except Exception as error:
                failures.append(error)
    thread = threading.Thread(target=knock)
    thread.start()
    try:
        clients = []
        for generation in range(4):
            clients.append(Client(ng))
            reload(ng)
            for client in clients:
                client.talk(f"after {generation}")
    finally:
        stop.set()
        thread.join()
    refused = [f for f in failures if isinstance(f, ConnectionRefusedError)]
    assert not refused, f"{len(refused)} refused"
    # What the kernel had queued for a socket that closes is reset, see the documents.
    assert len(failures) <= 2 + len(seen) // 100, failures
    assert len(set(seen)) > 1, "served by one generation only"
    for client in clients:
        old = client.worker
        client.talk("still")
        client.leave()
        await_(lambda: not os.path.exists(f"/proc/{old}"), "the old worker exits")
    equal(len(ng.children()), 1, "workers left")


def slow(ng):
    """The new worker's program takes its time: the old one's port stays open meanwhile."""
    old, = ng.workers()
    ng.write(http=f"init_worker_by_lua_block {{ os.execute('sleep 0.7') }} {HTTP}".replace(
        "} \n    init_worker_by_lua_block {", ""))
    ng.signal("HUP")
    await_(lambda: old not in ng.workers(), "the old worker is told")
    seen = set()
    while old in seen or not seen:
        client = Client(ng)  # is not refused
        if client.worker != old:
            break
        seen.add(client.worker)
        client.leave()
    assert old in seen, "nobody was served by the old worker"
    client.leave()
    await_(lambda: not os.path.exists(f"/proc/{old}"), "the old worker exits")


def quits(ng):
    """A worker that is told to quit closes its ports at once and serves who is there."""
    client = Client(ng)
    ng.signal("QUIT")

    def refused():
        try:
            socket.create_connection(("127.0.0.1", ECHO), PATIENCE).close()
        except ConnectionRefusedError:
            return True
    await_(refused, "the port is closed")
    client.talk("still here")
    assert ng.child.poll() is None
    client.leave()


def timed_out(ng):
    """worker_shutdown_timeout cuts what is left."""
    client = Client(ng)
    ng.signal("QUIT")
    equal(client.rest(), b"")
    client.close()


def terminated(ng):
    """TERM in the midst of everything."""
    clients = [Client(ng) for _ in range(20)]
    half = socket.create_connection(("127.0.0.1", ECHO), PATIENCE)
    half.sendall(b"GET /")
    equal(ng.stop("TERM"), 0)
    for client in clients:
        client.close()
    half.close()


with_nginx(f"{MANY} connections", many, events="worker_connections 22000;")
with_nginx("two workers", two_workers, workers=2)
with_nginx("a killed worker", killed)
with_nginx("reloads", reloads)
with_nginx("a reload with a slow program", slow)
with_nginx("quit", quits)
with_nginx("worker_shutdown_timeout", timed_out, main="worker_shutdown_timeout 300ms;")
with_nginx("terminated", terminated)
tap.done()
