"""The oracle of topics that remember: publishers number their messages, subscribers drop and resume at
random, on any of several machines, while something is done to all of them. Whatever a subscriber gets
has the next offset, the publishers' messages come in their order, everybody has the same message at the
same offset, and every hole was told."""

import http.client
import json
import selectors
import socket
import struct
import threading
import time

from lib.feed import position
from lib.live import PATIENCE, equal
from lib.peer import head

PUBLISHERS = 4


class World:
    """What is known of all messages: of each epoch, what stands at each offset."""

    def __init__(self, dense):
        self.at, self.gaps, self.resumed, self.received = {}, 0, 0, 0
        self.dense, self.after = dense, {}

    def enter(self, epoch, offset, data):
        known = self.at.setdefault((epoch, offset), data)
        equal(data, known, f"two messages at offset {offset}")

    def follow(self, last, at):
        """One message comes after another for everybody; their offsets, where they have no gaps, too."""
        # Of a topic that was empty at its broker the first message begins an epoch.
        equal(at[0], at[0] if last == (0, 0) else last[0], "the epoch")
        if self.dense:
            equal(at[1], last[1] + 1, "the next message")
        assert at[1] > last[1], (at, last)
        if last != (0, 0):
            equal(at, self.after.setdefault(last, at), "the message after one")


class Client:
    """A subscriber that keeps its cursor over connections."""

    def __init__(self, ngs, world, selector, chance):
        self.ngs, self.world, self.selector, self.chance = ngs, world, selector, chance
        self.cursor, self.last, self.sock = "", None, None

    def connect(self):
        self.sock = socket.socket()
        self.data, self.open = bytearray(), False
        self.sock.setblocking(False)
        self.sock.connect_ex(("127.0.0.1", self.chance.choice(self.ngs).port))
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
        if "cursor" not in line:
            # It came for the first time, while the broker was away: nobody knows where it stands.
            assert self.first and self.last is None and "data" not in line, (line, self.last)
            self.first = False
            return
        epoch, offset = position(line["cursor"])
        if "data" in line:
            assert not self.first, "a message before the line that says where they begin"
            if self.last is not None:
                self.world.follow(self.last, (epoch, offset))
            self.world.enter(epoch, offset, line["data"])
            self.world.received += 1
        elif line.get("reason") == "unavailable":
            assert self.first and self.last is not None
            equal((epoch, offset), self.last, "the cursor that was offered")
            return
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


def publisher(ng, name, stop, count, faults, passing):
    """Numbers its messages; one whose answer was lost, or is one of `passing`, is sent again with its
    key."""
    n, web = 0, None
    while not stop.is_set():
        try:
            if web is None:
                web = http.client.HTTPConnection("127.0.0.1", ng.port, timeout=PATIENCE)
            web.request("POST", "/publish", f"{name}{n}", {"Idempotency-Key": f"{name}{n}"})
            answer = web.getresponse()
            text = answer.read()
            if answer.status in passing:
                time.sleep(0.05)
                continue
            if answer.status != 202:
                faults.append(f"{name}{n}: {answer.status} {text}")
                return
            n += 1
            count[name] = n
            time.sleep(0.002)
        except (OSError, http.client.HTTPException):
            web and web.close()
            web = None
            time.sleep(0.01)


def run_oracle(ngs, seconds, clients, chance, disturb, calm=lambda: None, passing=(), dense=True):
    """`disturb(now)` is called all the time, and `calm` once it is not any more; `dense`: offsets have no
    gaps. Returns what is known."""
    world, selector = World(dense), selectors.DefaultSelector()
    clients = [Client(ngs, world, selector, chance) for _ in range(clients)]
    stop, count, faults = threading.Event(), {}, []
    threads = [threading.Thread(target=publisher, args=(ngs[n % len(ngs)], name, stop, count, faults, passing))
               for n, name in enumerate("abcd"[:PUBLISHERS])]
    [thread.start() for thread in threads]
    began = time.monotonic()
    end = None
    try:
        while True:
            now = time.monotonic()
            if end is None and now > began + seconds:
                if not stop.is_set():
                    calm()
                    stop.set()
                    [thread.join() for thread in threads]
                    limit = now + 6 * PATIENCE
                # A machine whose way was cut may not have heard of the last ones yet.
                tops = {position(newest(ng)) for ng in ngs}
                assert len(tops) == 1 or time.monotonic() < limit, f"machines differ: {tops}"
                end = tops.pop() if len(tops) == 1 else None
            if not stop.is_set():
                disturb(now)
            for client in clients:
                if client.sock is None:
                    if chance.random() < 0.2:
                        client.connect()
                elif client.open and not stop.is_set() and chance.random() < 0.002:
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
    print(f"# {sum(count.values())} published, {world.received} received, "
          f"{world.resumed} resumed, {world.gaps} told of gaps, "
          f"{len({epoch for epoch, _ in world.at})} epochs", flush=True)
    return world


def newest(ng):
    """The topic's newest cursor, asked for until it is known."""
    while True:
        web = http.client.HTTPConnection("127.0.0.1", ng.port, timeout=PATIENCE)
        web.request("GET", "/end")
        text = web.getresponse().read().decode()
        web.close()
        if text.startswith("c"):
            return text
        time.sleep(0.1)
