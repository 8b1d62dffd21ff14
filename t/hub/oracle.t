BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# The oracle of topics that remember: publishers number their messages, subscribers of all workers drop
# and resume at random, and all the while workers are killed with SIGKILL and nginx is reloaded. Whatever
# a subscriber gets has the next offset, the publishers' messages come in their order, everybody has
# the same message at the same offset, and every hole was told. ORACLE=seconds and ORACLE_CLIENTS=n make
# it long (`make oracle`).
import base64
import http.client
import json
import os
import random
import re
import selectors
import signal
import socket
import struct
import threading
import time

from lib.crowd import WORKERS
from lib.live import PATIENCE, VALGRIND, Nginx, Tap, await_, equal
from lib.peer import head

SECONDS = float(os.environ.get("ORACLE", 6))
CLIENTS = int(os.environ.get("ORACLE_CLIENTS", 60))
PUBLISHERS = 4
SEED = int(os.environ.get("ORACLE_SEED", time.time_ns() % 10**6))
HTTP = """
    websocket_topic feed history=5000 ttl=10m;
    websocket_history_zone 8m;
    websocket_resume_limit 0;
"""
SERVER = """
    location = /feed { websocket_subscribe feed since=$arg_since format=json; websocket_shutdown_close 1001 "bye" over=300ms; }
    location = /publish { websocket_publish feed; }
    location = /end { content_by_lua_block {
        local messages, cursor = require("resty.websocket").history("feed", { limit = 0 })
        ngx.print(cursor)
    } }
"""
chance = random.Random(SEED)


def position(cursor):
    """Epoch and offset of a cursor, which is opaque to all but this test."""
    return struct.unpack(">QQ", base64.urlsafe_b64decode(cursor[1:])[8:])


class World:
    """What is known of all messages: of each epoch, what stands at each offset."""

    def __init__(self):
        self.at, self.gaps, self.resumed, self.received = {}, 0, 0, 0

    def enter(self, epoch, offset, data):
        known = self.at.setdefault((epoch, offset), data)
        equal(data, known, f"two messages at offset {offset}")


class Client:
    """A subscriber that keeps its cursor over connections."""

    def __init__(self, ng, world, selector):
        self.ng, self.world, self.selector = ng, world, selector
        self.cursor, self.last, self.sock = "", None, None

    def connect(self):
        self.sock = socket.socket()
        self.data, self.open = bytearray(), False
        self.sock.setblocking(False)
        self.sock.connect_ex(("127.0.0.1", self.ng.port))
        self.selector.register(self.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, self)

    def drop(self):
        self.selector.unregister(self.sock)
        self.sock.close()
        self.sock = None

    def ready(self, events):
        try:
            if events & selectors.EVENT_WRITE:
                self.sock.send(head(f"/feed?since={self.cursor}"))
                self.selector.modify(self.sock, selectors.EVENT_READ, self)
                return
            data = self.sock.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            return self.drop()
        self.data += data
        if not self.open:
            answer, mark, rest = bytes(self.data).partition(b"\r\n\r\n")
            if not mark:
                return
            assert answer.startswith(b"HTTP/1.1 101 "), answer
            self.open, self.data, self.first = True, bytearray(rest), True
        while self.sock and (frame := self.frame()):
            if frame[0] == 0x88:
                return self.drop()
            if frame[0] == 0x81:
                try:
                    line = json.loads(frame[1])
                except ValueError:
                    raise AssertionError(f"not a line: {frame[1][:200]!r}")
                self.take(line)

    def frame(self):
        data = self.data
        if len(data) < 2:
            return None
        size, at = data[1], 2
        if size == 126:
            if len(data) < 4:
                return None
            size, at = struct.unpack_from(">H", data, 2)[0], 4
        if len(data) < at + size:
            return None
        frame = data[0], bytes(data[at:at + size])
        del data[:at + size]
        return frame

    def take(self, line):
        epoch, offset = position(line["cursor"])
        if "data" in line:
            assert not self.first, "a message before the line that says where they begin"
            equal((epoch, offset), (self.last[0], self.last[1] + 1), "the next message")
            self.world.enter(epoch, offset, line["data"])
            self.world.received += 1
        elif line["resumed"]:
            assert self.first and self.last is not None
            equal((epoch, offset), self.last, "resumed where it was")
            self.world.resumed += 1
        else:
            # The first time nothing was asked for.
            equal("reason" in line, self.last is not None)
            self.world.gaps += self.last is not None
        self.first = False
        self.last, self.cursor = (epoch, offset), line["cursor"]


def publisher(ng, name, stop, count, faults):
    """Numbers its messages; one whose answer was lost is sent again with its key."""
    n, web = 0, None
    while not stop.is_set():
        try:
            if web is None:
                web = http.client.HTTPConnection("127.0.0.1", ng.port, timeout=PATIENCE)
            web.request("POST", "/publish", f"{name}{n}", {"Idempotency-Key": f"{name}{n}"})
            answer = web.getresponse()
            answer.read()
            if answer.status != 202:
                faults.append(f"{name}{n}: {answer.status}")
                return
            n += 1
            count[name] = n
            time.sleep(0.002)
        except (OSError, http.client.HTTPException):
            web and web.close()
            web = None
            time.sleep(0.01)


def run_oracle(ng):
    world, selector = World(), selectors.DefaultSelector()
    clients = [Client(ng, world, selector) for _ in range(CLIENTS)]
    stop, count, faults, kills, reloads = threading.Event(), {}, [], 0, 0
    threads = [threading.Thread(target=publisher, args=(ng, name, stop, count, faults))
               for name in "abcd"[:PUBLISHERS]]
    [thread.start() for thread in threads]
    began = time.monotonic()
    next_kill, next_reload = began + 0.7, began + 1.5
    end = None
    try:
        while True:
            now = time.monotonic()
            if end is None and now > began + SECONDS:
                stop.set()
                [thread.join() for thread in threads]
                web = http.client.HTTPConnection("127.0.0.1", ng.port, timeout=PATIENCE)
                web.request("GET", "/end")
                end = position(web.getresponse().read().decode())
                limit = now + 6 * PATIENCE
            if end is None and now > next_kill:
                victims = ng.workers()
                if len(victims) == WORKERS:
                    os.kill(chance.choice(victims), signal.SIGKILL)
                    kills += 1
                next_kill = now + chance.uniform(0.2, 0.8)
            if end is None and now > next_reload:
                ng.signal("HUP")
                reloads += 1
                next_reload = now + chance.uniform(1, 3)
            for client in clients:
                if client.sock is None:
                    if chance.random() < 0.2:
                        client.connect()
                elif client.open and end is None and chance.random() < 0.002:
                    client.drop()
            for key, events in selector.select(0.01):
                key.data.ready(events)
            if end is not None:
                if all(client.last == end and client.sock for client in clients):
                    break
                waiting = [c.last for c in clients if c.last != end]
                assert time.monotonic() < limit, f"{len(waiting)} wait for {end}: {waiting[:5]}"
    finally:
        stop.set()
        [thread.join() for thread in threads]
        for client in clients:
            client.sock and client.drop()
    equal(faults, [])
    # Each publisher's messages once, in order, within each epoch.
    for epoch in {epoch for epoch, _ in world.at}:
        offsets = sorted(offset for e, offset in world.at if e == epoch)
        for name in "abcd"[:PUBLISHERS]:
            numbers = [int(world.at[epoch, offset][1:]) for offset in offsets
                       if world.at[epoch, offset][0] == name]
            equal(numbers, sorted(set(numbers)), f"order of {name}")
    print(f"# seed {SEED}: {sum(count.values())} published, {world.received} received, "
          f"{world.resumed} resumed, {world.gaps} told of gaps, {kills} killed, {reloads} reloads, "
          f"{len({epoch for epoch, _ in world.at})} epochs", flush=True)
    assert world.resumed > 0 and kills > 0 and reloads > 0


tap = Tap()
QUIET = re.compile(r"exited on signal 9|this worker missed")
if not VALGRIND:
    ng = Nginx(server=SERVER, http=HTTP, workers=WORKERS, listen="reuseport",
               events="worker_connections 4096;", main="worker_shutdown_timeout 5s;")
    try:
        ng.start()
        tap.attempt("no hole that was not told, no duplicate, one order", lambda: run_oracle(ng))

        def end():
            equal(ng.stop(), 0, "exit code of nginx")
            loud = [line for line in ng.loud() if not QUIET.search(line)]
            assert not loud, "nginx logged:\n" + "\n".join(loud[:10])
        tap.attempt("nginx ends without a word", end)
    finally:
        ng.kill()
tap.done()
