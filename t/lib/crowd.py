"""Many subscribers and several workers, for the .t files about the hub: connections whose worker is
known, requests to a worker of the test's choice, and books of what each subscriber was sent.

The locations in HANDLERS are what they talk to; a file adds them by room(case).
"""

import http.client
import json
import resource
import selectors
import socket
import struct
import time

from lib.live import PATIENCE, VALGRIND, await_
from lib.peer import head

WORKERS = 1 if VALGRIND else 4


def room(case, directives=""):
    """The locations: /room subscribes, the others push from a phase each or ask."""
    case.handler("/room", """
        local websocket = require "resty.websocket"
        local ws, err, status = websocket.accept()
        if not ws then return ngx.exit(status) end
        for topic in (ngx.var.arg_topics or "room"):gmatch("[^,]+") do
            assert(ws:subscribe(topic))
        end
        ws:send(ngx.worker.pid() .. " " .. ws.id)
        for data in ws:messages() do
            local verb, rest = data:match("^(%S+) ?(.*)$")
            if verb == "publish" then assert(websocket.publish("room", rest))
            elseif verb == "echo" then ws:send(rest) end
        end
    """, directives)
    case.handler("/push", """
        local args = ngx.req.get_uri_args()
        local ok, seq = require("resty.websocket").publish(args.topic or "room", args.data,
            { type = args.type, scope = args.scope, except = args.except })
        ngx.print(ok, " ", seq)
    """)
    case.handler("/timer", """
        local data = ngx.var.arg_data
        assert(ngx.timer.at(0, function()
            assert(require("resty.websocket").publish("room", data))
        end))
    """)
    case.handler("/log", 'assert(require("resty.websocket").publish("room", ngx.var.arg_data))',
                 "return 200;", "log")
    case.handler("/filter", 'assert(require("resty.websocket").publish("room", ngx.var.arg_data))',
                 "return 200;", "header_filter")
    case.handler("/send", """
        local args = ngx.req.get_uri_args()
        ngx.print(require("resty.websocket").send(args.to, args.data))
    """)
    case.handler("/close", """
        ngx.print(require("resty.websocket").close(ngx.var.arg_to, 4001, "go"))
    """)
    case.handler("/count", 'ngx.print(require("resty.websocket").count(ngx.var.arg_topic))')
    case.server += "location = /info { websocket_status; }\n"
    case.handler("/pid", "ngx.print(ngx.worker.pid())")
    # As many messages of eight bytes as asked for: who, then a number.
    case.handler("/flood", """
        local publish = require("resty.websocket").publish
        local args = ngx.req.get_uri_args()
        local from, padding = args.from, ("."):rep(tonumber(args.more) or 0)
        local burst = tonumber(args.burst) or 50
        for n = 1, tonumber(args.n) do
            assert(publish("room", from .. ("%07d"):format(n) .. padding))
            if n % burst == 0 then ngx.sleep(0.001) end
        end
    """)


class Line:
    """A connection for requests that stays with its worker."""

    def __init__(self, ng):
        self.http = http.client.HTTPConnection("127.0.0.1", ng.port, timeout=PATIENCE)
        self.pid = int(self.ask("/pid"))

    def start(self, path, method="GET", body=None):
        self.http.request(method, path, body)

    def end(self):
        answer = self.http.getresponse()
        body = answer.read().decode(errors="replace")
        if answer.status >= 300:
            raise AssertionError(f"status {answer.status}: {body}")
        return body

    def ask(self, path, method="GET", body=None):
        self.start(path, method, body)
        return self.end()

    def info(self):
        return json.loads(self.ask("/info"))

    def close(self):
        self.http.close()


def lines(ng):
    """A line to every worker, by process id."""
    found, spare = {}, []
    limit = time.monotonic() + PATIENCE
    while set(found) != set(ng.workers()):
        assert time.monotonic() < limit, f"lines to {sorted(found)} of {sorted(ng.workers())}"
        line = Line(ng)
        (spare.append(line) if line.pid in found else found.update({line.pid: line}))
    for line in spare:
        line.close()
    return found


class Subscriber:
    """A connection in a room: what it has been sent, its worker and its id."""

    def __init__(self, sock):
        self.sock, self.data, self.over = sock, bytearray(), False

    def take(self):
        """Reads what is there; False at the end of the stream."""
        try:
            data = self.sock.recv(1 << 18)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            data = b""
        self.data += data
        self.over = not data
        return not self.over

    def frame(self):
        """Takes the first whole frame off, or None: first byte and payload."""
        data = self.data
        if len(data) < 2:
            return None
        size, at = data[1], 2
        if size == 126:
            size, at = (struct.unpack_from(">H", data, 2)[0], 4) if len(data) >= 4 else (1 << 40, 4)
        elif size == 127:
            size, at = (struct.unpack_from(">Q", data, 2)[0], 10) if len(data) >= 10 else (1 << 40, 10)
        if len(data) < at + size:
            return None
        frame = data[0], bytes(data[at:at + size])
        del data[:at + size]
        return frame

    def frames(self):
        return list(iter(self.frame, None))

    def send(self, data):
        self.sock.setblocking(True)
        self.sock.sendall(data)
        self.sock.setblocking(False)


class Crowd(list):
    """Subscribers: as many as asked for, and some more if they are not in every worker yet. Without
    `hello` they are as many as asked for, and nobody knows where."""

    def __init__(self, ng, count, path="/room", window=None, hello=True):
        super().__init__()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < count + 100:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, count + 1000), hard))
        self.selector = selectors.DefaultSelector()
        self.add(ng, count, path, window, hello)
        while hello and {one.pid for one in self} != set(ng.workers()):
            self.add(ng, 4, path, window)

    def add(self, ng, count, path, window=None, hello=True):
        request, new = head(path), []
        for _ in range(count):
            sock = socket.socket()
            if window:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
            sock.connect(("127.0.0.1", ng.port))
            sock.sendall(request)
            sock.setblocking(False)
            self.join(Subscriber(sock))
            new.append(self[-1])
        fresh = set(map(id, new))
        self.until(lambda s: id(s) not in fresh or b"\r\n\r\n" in s.data)
        for one in new:
            answer, _, rest = bytes(one.data).partition(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 101 "), answer
            one.data = bytearray(rest)
        if not hello:
            return
        # The handler's first message says where and who it is.
        self.until(lambda s: id(s) not in fresh or len(s.data) >= 2 and len(s.data) >= 2 + s.data[1])
        for one in new:
            pid, one.id = one.frame()[1].decode().split()
            one.pid = int(pid)

    def join(self, one):
        self.append(one)
        self.selector.register(one.sock, selectors.EVENT_READ, one)

    def until(self, done, patience=PATIENCE, what="what subscribers wait for"):
        """Reads until done(subscriber) holds for all."""
        waiting = {id(s) for s in self if not done(s)}
        limit = time.monotonic() + patience
        while waiting:
            events = self.selector.select(max(0, limit - time.monotonic()))
            if not events:
                raise AssertionError(f"{len(waiting)} of {len(self)} wait in vain: {what}")
            for key, _ in events:
                one = key.data
                if not one.take():
                    self.selector.unregister(one.sock)
                if id(one) in waiting and done(one):
                    waiting.discard(id(one))
                elif one.over and id(one) in waiting:
                    raise AssertionError(f"a subscriber's stream ended: {what}")

    def in_all(self, bytes, patience=PATIENCE):
        """Reads until so many bytes have come, whoever they are for."""
        limit = time.monotonic() + patience
        while sum(len(one.data) for one in self) < bytes:
            events = self.selector.select(max(0, limit - time.monotonic()))
            assert events, f"{sum(len(one.data) for one in self)} of {bytes} bytes came"
            for key, _ in events:
                if not key.data.take():
                    self.selector.unregister(key.data.sock)

    def next(self, what="a frame"):
        """The next frame of each."""
        def whole(one):
            one.first = getattr(one, "first", None) or one.frame()
            return one.first
        self.until(whole, what=what)
        frames = [one.first for one in self]
        for one in self:
            one.first = None
        return frames

    def by_worker(self):
        workers = {}
        for one in self:
            workers.setdefault(one.pid, []).append(one)
        return workers

    def close(self):
        self.selector.close()
        for one in self:
            one.sock.close()


def empty(ng):
    """Until nothing of the subscribers is left."""
    line = Line(ng)
    await_(lambda: line.ask("/count") == "0", "all connections gone")
    info = line.info()
    line.close()
    assert (info["topics"], info["subscriptions"], info["topics_uncounted"]) == (0, 0, 0), info
