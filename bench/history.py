"""What topics remember, and who is there: the tables `history` and `presence`.

Publishing is measured in nginx, by a handler that does nothing else; those who listen are sockets
here that throw away what they get. Plain topics and others take turns, round by round.
"""
import contextlib
import dataclasses
import json
import os
import selectors
import socket
import statistics
import threading
import time

from servers import CLIENT_CORE, Nginx, cpu_ns

HTTP = """
    websocket_zone 64m;
    websocket_history_zone 128m;
    websocket_resume_limit 0;
    websocket_send_buffer 64m;
    websocket_ping_interval 0;
    websocket_topic kept:* history=100 bytes=100m;
    websocket_topic deep:* history=100000 bytes=100m;
    websocket_topic here:* presence;
"""
SUBSCRIBERS = [0, 1, 10, 1000]
TOPICS = [1, 10, 100, 1000, 10000]
# Messages for each number of subscribers: as many deliveries in about the same time.
MESSAGES = {0: 16000, 1: 8000, 10: 4000, 1000: 160}
BURST = 16
PATIENCE = 60


class Listeners:
    """Subscribers whose output is thrown away, by a thread that counts it."""

    def __init__(self, server):
        self.server, self.bytes, self.over = server, 0, False
        self.sockets = []
        self.selector = selectors.DefaultSelector()
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        if os.cpu_count() > 1:
            os.sched_setaffinity(threading.get_native_id(), {int(CLIENT_CORE)})
        while not self.over:
            for key, _ in self.selector.select(0.05) if self.selector.get_map() else ():
                try:
                    data = key.fileobj.recv(1 << 18)
                except BlockingIOError:
                    continue
                except OSError:
                    data = b""
                if not data:
                    self.selector.unregister(key.fileobj)
                self.bytes += len(data)
            if not self.selector.get_map():
                time.sleep(0.01)

    def join(self, count, path, at_once=False):
        """That many more. All requests are sent before an answer is awaited with `at_once`."""
        fresh = []
        for n in range(count):
            sock = socket.create_connection(("127.0.0.1", self.server.port))
            sock.sendall(request(path.replace("@", f"{n:032d}")))
            if not at_once:
                shaken(sock)
            fresh.append(sock)
        for sock in fresh:
            sock.setblocking(False)
            self.selector.register(sock, selectors.EVENT_READ)
        self.sockets += fresh

    def until(self, count):
        limit = time.monotonic() + PATIENCE
        while self.bytes < count:
            if time.monotonic() > limit:
                raise RuntimeError(f"{self.bytes} of {count} bytes came")
            time.sleep(0.001)

    def leave(self):
        self.over = True
        self.thread.join()
        for sock in self.sockets:
            sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.leave()


def request(path):
    return (f"GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n").encode()


def shaken(sock):
    """Reads the 101, byte by byte, so that nothing behind it is lost. Its length."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        data = sock.recv(1)
        if not data:
            raise RuntimeError(f"no handshake: {head!r}")
        head += data
    return len(head)


@dataclasses.dataclass
class Sizes:
    """What one subscriber is sent: the 101, what comes after it, and each message."""
    head: int
    first: int
    message: int


def sizes(server, form, topic):
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock:
        sock.sendall(request(f"/history/{form}?topic={topic}00001"))
        head, first = shaken(sock), 0
        publish(server, topic, 0)
        while True:
            length = sock.recv(2, socket.MSG_WAITALL)[1]
            extra = 2 if length == 126 else 0
            length = int.from_bytes(sock.recv(2, socket.MSG_WAITALL)) if extra else length
            if b"x" * 100 in sock.recv(length, socket.MSG_WAITALL):
                return Sizes(head, first, 2 + extra + length)
            first += 2 + extra + length


def publish(server, topic, count, topics=1, burst=BURST):
    return server.get(f"/history/publish?topic={topic}&count={count}&topics={topics}&burst={burst}")


def cpu(server):
    return sum(map(cpu_ns, server.pids)) / 1e3


def numbers(server):
    return json.loads(server.get("/status"))


class Latency:
    """How long unrelated requests take meanwhile, in milliseconds from when each was due. Who asks and
    the workers go before whatever else the machine does, where that is allowed."""

    def __init__(self, server, rate):
        self.server, self.rate, self.over, self.found = server, rate, False, []
        self.flag = server.folder / "enough"
        self.reader, self.writer = os.pipe()
        for pid in server.pids:
            go_first(pid)
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self.ask()
            finally:
                os._exit(0)
        os.close(self.writer)

    def ask(self):
        if os.cpu_count() > 1:
            os.sched_setaffinity(0, {int(CLIENT_CORE)})
        go_first(0)
        sock = socket.create_connection(("127.0.0.1", self.server.port))
        found, due = [], time.monotonic()
        while not self.flag.exists():
            due = max(due + 1 / self.rate, time.monotonic() - 1)
            time.sleep(max(0, due - time.monotonic()))
            sock.sendall(b"GET /ping HTTP/1.1\r\nHost: bench\r\n\r\n")
            answer = b""
            while b"pong\n" not in answer:
                answer += sock.recv(4096)
            found.append((time.monotonic() - due) * 1e3)
        with os.fdopen(self.writer, "w") as out:
            json.dump(found, out)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.flag.touch()
        with os.fdopen(self.reader) as answers:
            self.found = json.load(answers)
        os.waitpid(self.pid, 0)
        self.flag.unlink()

    def quantile(self, q):
        return sorted(self.found)[min(len(self.found) - 1, int(q * len(self.found)))]


def go_first(pid):
    with contextlib.suppress(OSError):
        os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(1))


def history(pace):
    rounds = min(pace.rounds, 5)
    return {"publish": publishing(rounds), "topics": many_topics(rounds), "resume": resuming(rounds, pace.idle // 10),
            "storm": storm(pace.idle), "memory": memory()}


KINDS = {"plain, raw": ("plain:", "raw"), "kept, raw": ("kept:", "raw"),
         "plain, JSON": ("plain:", "json"), "kept, JSON": ("kept:", "json")}


def publishing(rounds):
    """CPU of a publish in microseconds, deliveries included."""
    with Nginx(http=HTTP) as server:
        runs = {}
        for subscribers in SUBSCRIBERS:
            for turn in range(rounds):
                for kind, (prefix, form) in KINDS.items():
                    topic = f"{prefix}{subscribers}{form}{turn}-"
                    runs.setdefault((subscribers, kind), []).append(publish_cpu(server, topic, form, subscribers))
        return [{"row": n, "servers": {kind: {"cpu_us": statistics.median(runs[n, kind])} for kind in KINDS}}
                for n in SUBSCRIBERS]


def publish_cpu(server, topic, form, subscribers):
    size = sizes(server, form, topic)
    with Listeners(server) as listeners:
        listeners.join(subscribers, f"/history/{form}?topic={topic}00001")
        publish(server, topic, BURST - 1)
        listeners.until(subscribers * (size.first + BURST * size.message))
        count = MESSAGES[subscribers]
        before, goal = cpu(server), listeners.bytes + subscribers * count * size.message
        publish(server, topic, count - 1)
        listeners.until(goal)
        return (cpu(server) - before) / count


def many_topics(rounds):
    """CPU of a publish in microseconds without subscribers, by how many topics take turns."""
    with Nginx(http=HTTP) as server:
        runs = {}
        for turn in range(rounds + 1):
            for kind in ("plain:", "kept:"):
                for topics in TOPICS:
                    before = cpu(server)
                    publish(server, kind, 20000, topics)
                    if turn > 0:
                        runs.setdefault((topics, kind), []).append((cpu(server) - before) / 20000)
        return [{"row": n, "servers": {kind: {"cpu_us": statistics.median(runs[n, kind])}
                                       for kind in ("plain:", "kept:")}} for n in TOPICS]


def resuming(rounds, clients):
    """CPU a client in microseconds: a burst of 100 messages live, and the same 100 resumed."""
    runs = {"live": [], "resumed": []}
    with Nginx(http=HTTP) as server:
        for turn in range(rounds):
            topic = f"kept:r{turn}-"
            size = sizes(server, "raw", topic)
            path = f"/history/raw?topic={topic}00001&since="
            with Listeners(server) as live:
                live.join(clients, path)
                cursor = publish(server, topic, 0)
                live.until(clients * size.message)
                began = cpu(server)
                publish(server, topic, 99, burst=1000)
                live.until(clients * 101 * size.message)
                runs["live"].append((cpu(server) - began) / clients)
            gone(server)
            spent = {}
            for since, messages in ("", 0), (cursor, 100):
                with Listeners(server) as listeners:
                    began = cpu(server)
                    listeners.join(clients, path + since, at_once=True)
                    listeners.until(clients * (size.head + messages * size.message))
                    spent[messages] = cpu(server) - began
                gone(server)
            runs["resumed"].append((spent[100] - spent[0]) / clients)
    return {name: statistics.median(figures) for name, figures in runs.items()}


def gone(server, but=0):
    """Until connections have ended, but so many."""
    while numbers(server)["connections_open"] > but:
        time.sleep(0.01)


def storm(clients):
    """All resume 100 messages at once: how long do others' requests take?"""
    with Nginx(http=HTTP) as server, Listeners(server) as listeners:
        size = sizes(server, "raw", "kept:storm-")
        cursor = publish(server, "kept:storm-", 0)
        publish(server, "kept:storm-", 99)
        with Latency(server, 200) as latency:
            began = time.monotonic()
            listeners.join(clients, f"/history/raw?topic=kept:storm-00001&since={cursor}", at_once=True)
            listeners.until(clients * (size.head + 100 * size.message))
            seconds = time.monotonic() - began
        return {"clients": clients, "seconds": seconds, "p99_ms": latency.quantile(0.99),
                "max_ms": latency.quantile(1)}


def memory():
    """Bytes of the zone for a message of 100 B, and for a topic with a name of 32."""
    with Nginx(http=HTTP) as server:
        used = lambda: numbers(server)["history_bytes"]
        publish(server, "deep:m", 100)
        before = used()
        publish(server, "deep:m", 20000 - 1)
        message = (used() - before) / 20000
        before = used()
        publish(server, "kept:" + "n" * 22, 10000, 10000)
        # One topic has the last message too.
        topic = (used() - before - 10001 * message) / 10000
        return {"message": message, "topic": topic}


def presence(pace):
    """Many members: turns of the event loop while they are asked for, and what a join and a leave cost."""
    with Nginx(http=HTTP) as server, Listeners(server) as members:
        path = "/history/raw?topic=here:all&info=@"
        members.join(100, path)
        few = coming(server, path, 100)
        members.join(pace.crowd - 100, path)
        many = coming(server, path, pace.crowd)
        with Latency(server, 1000) as quiet:
            time.sleep(2)
        with Latency(server, 1000) as latency:
            began, until, lists = cpu(server), time.monotonic() + 4, 0
            while time.monotonic() < until:
                if int(server.get("/history/presence?topic=here:all")) != pace.crowd:
                    raise RuntimeError("members are missing")
                lists += 1
            spent = (cpu(server) - began) / lists
        return {"members": pace.crowd, "join_leave_us": {"100": few, str(pace.crowd): many}, "list_us": spent,
                "quiet_max_ms": quiet.quantile(1), "p99_ms": latency.quantile(0.99), "max_ms": latency.quantile(1)}


def coming(server, path, members):
    """CPU of one that comes and goes, in microseconds."""
    figures = []
    for _ in range(5):
        began = cpu(server)
        with Listeners(server) as listeners:
            listeners.join(200, path)
        gone(server, members)
        figures.append((cpu(server) - began) / 200)
    return statistics.median(figures)
