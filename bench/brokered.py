"""What a message costs between machines: the table `broker`. Two nginx with a worker each, over one
Redis; beside them a bare Redis round trip, and Nchan over the same Redis.

What one nginx publishes, the other delivers. Costs of the gateway are what a message takes more than
one that stays on its machine.
"""
import contextlib
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import time

from history import Listeners, request, shaken
from servers import SERVER_CORE, TARGET, Contender, Nginx, Peer, Server, cpu_ns

HTTP = """
    websocket_zone 64m;
    websocket_history_zone 128m;
    websocket_send_buffer 64m;
    websocket_ping_interval 0;
    websocket_broker main { server redis://127.0.0.1:%d; queue 64m retry=10s; reconnect max=100ms; }
    websocket_topic home:* broker=off;
    websocket_topic kept:* history=10000;
    websocket_topic bench history=32 ttl=5s;
"""
REDIS = shutil.which("redis-server") or shutil.which("valkey-server")
BURST, WANTED = 16, 100_000
PATIENCE = 60


class Redis(Server):
    """A Redis that keeps nothing on disk."""

    def __init__(self):
        super().__init__("Redis")
        folder = TARGET / "run" / f"{self.port}"
        folder.mkdir(parents=True, exist_ok=True)
        self.spawn(REDIS, "--port", self.port, "--bind", "127.0.0.1", "--save", "", "--dir", folder,
                   stdout=subprocess.DEVNULL)

    def connect(self):
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def ask(self, *words):
        with self.connect() as sock:
            sock.sendall(command(*words))
            return sock.recv(65536)


def command(*words):
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def cpu(*servers):
    return sum(cpu_ns(pid) for server in servers for pid in server.pids) / 1e3


def numbers(server):
    return json.loads(server.get("/status"))


def until(condition, what):
    limit = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > limit:
            raise RuntimeError(f"waited in vain: {what}")
        time.sleep(0.005)


def level(server, topics):
    """The broker has acknowledged so many."""
    def is_level():
        found = numbers(server)
        return found["broker_connected"] == 1 and found["broker_topics"]["subscribed"] == topics
    until(is_level, f"{topics} topics subscribed")


def broker(pace, load):
    if not REDIS:
        raise SystemExit("bench: no redis-server")
    rounds = min(pace.rounds, 5)
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(Redis())
        http = HTTP % redis.port
        one, two = (stack.enter_context(Nginx(http=http)) for _ in range(2))
        for server in one, two:
            level(server, 0)
        floor = stack.enter_context(Peer("floor"))
        found = {"floor_us": load("echo", Contender("floor", floor, raw=True), pace, "--size", 100,
                                  "--connections", 1, "--depth", 1)["cpu_us"]}
        found["plain"] = plain(one, two, rounds)
        found["server"] = server_cost(redis, one, two, rounds)
        found["latency"] = latency(redis, one, two, rounds)
        found["wanted"] = wanted(redis, http)
    with contextlib.ExitStack() as stack:
        found["nchan"] = beside_nchan(stack, rounds)
    return found


def send(server, topic, count, topics=1, burst=BURST, pause=0):
    """Publishes one more than `count`."""
    return server.get(f"/history/publish?topic={topic}&count={count}&topics={topics}&burst={burst}&pause={pause}")


MESSAGE = 2 + 100


def plain(one, two, rounds):
    """CPU of a plain message in the gateways, alone and in bursts: out of the one and into the other;
    and of its delivery on its own machine, with a broker and without."""
    runs = {}

    def run(key, publisher, listener, topic, burst):
        count, pause = (1500, 0.001) if burst == 1 else (8000, 0.001)
        with Listeners(listener) as there:
            there.join(1, f"/history/raw?topic={topic}00001")
            if publisher is not listener:
                level(listener, 1)
            before = cpu(publisher), cpu(listener)
            goal = there.bytes + (count + 1) * MESSAGE
            send(publisher, topic, count, burst=burst, pause=pause)
            there.until(goal)
            spent = [(cpu(s) - b) / (count + 1) for s, b in zip((publisher, listener), before)]
        runs.setdefault(key, []).append(spent)
        if publisher is not listener:
            level(listener, 0)

    for turn in range(rounds):
        for burst in 1, BURST:
            run(("far", burst), one, two, f"far{turn}-", burst)
            # Without a subscriber: what publishing costs by itself.
            for name, topic in ("home", "home:"), ("out", "out"):
                before = cpu(one)
                count = 1500 if burst == 1 else 8000
                send(one, f"{topic}{turn}-", count, burst=burst, pause=0.001)
                runs.setdefault((name, burst), []).append([(cpu(one) - before) / (count + 1)])
            run(("local", burst), one, one, f"home:l{turn}-", burst)
            run(("local with a broker", burst), two, two, f"both{turn}-", burst)
    middle = {key: [statistics.median(column) for column in zip(*found)] for key, found in runs.items()}
    found = {}
    for burst in 1, BURST:
        home, local = middle["home", burst][0], middle["local", burst][0]
        found[str(burst)] = {
            "out_us": middle["out", burst][0] - home,
            # What its one subscriber costs is none of the gateway's.
            "in_us": middle["far", burst][1] - (local - home),
            "local_us": local - home,
            "local_with_us": middle["local with a broker", burst][0] - middle["out", burst][0],
        }
    return found


def server_cost(redis, one, two, rounds):
    """CPU of Redis for a message that one machine hears: PUBLISH, and the script for one and for ten."""
    rows = {"PUBLISH": ("plain:", 60, 60), "script, one message": ("kept:", 60, 60),
            "script, ten messages": ("kept:t", 1, 10)}
    runs = {name: [] for name in rows}
    with Listeners(two) as there:
        for n in range(1, 61):
            for prefix in "plain:", "kept:":
                there.join(1, f"/history/raw?topic={prefix}{n:05d}")
        there.join(1, "/history/raw?topic=kept:t00001")
        level(two, 121)
        for _ in range(rounds):
            for name, (prefix, topics, burst) in rows.items():
                count = 6000
                before, goal = cpu(redis), there.bytes + (count + 1) * MESSAGE
                send(one, prefix, count, topics, burst)
                there.until(goal)
                runs[name].append((cpu(redis) - before) / (count + 1))
    level(two, 0)
    return {name: statistics.median(found) for name, found in runs.items()}


class Talker:
    """A WebSocket client that publishes by what it sends."""

    def __init__(self, server, path):
        self.sock = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.sendall(request(path))
        shaken(self.sock)

    def send(self, count=1, size=100):
        # A mask of zeros leaves the payload as it is.
        self.sock.sendall((bytes([0x81, 0x80 | size]) + bytes(4) + b"x" * size) * count)

    def drop_answers(self):
        """Nchan's publisher is answered."""
        self.sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while self.sock.recv(65536):
                pass
        self.sock.setblocking(True)


def latency(redis, one, two, rounds):
    """Microseconds from publishing to delivery, idle: over both machines, and by Redis alone."""
    far, bare = [], []
    with contextlib.ExitStack() as stack:
        hears = stack.enter_context(socket.create_connection(("127.0.0.1", two.port), timeout=PATIENCE))
        hears.sendall(request("/history/raw?topic=plainbench"))
        shaken(hears)
        level(two, 1)
        talker = Talker(one, "/hub/pub?topic=plainbench")
        stack.enter_context(talker.sock)
        subscriber, publisher = (stack.enter_context(redis.connect()) for _ in range(2))
        subscriber.sendall(command("SUBSCRIBE", "bare"))
        subscriber.recv(4096)
        publish = command("PUBLISH", "bare", b"x" * 100)
        for turn in range(rounds + 1):
            for _ in range(300):
                began = time.perf_counter()
                talker.send()
                hears.recv(4096)
                if turn:
                    far.append(time.perf_counter() - began)
            for _ in range(300):
                began = time.perf_counter()
                publisher.sendall(publish)
                subscriber.recv(4096)
                if turn:
                    bare.append(time.perf_counter() - began)
                publisher.recv(4096)
    level(two, 0)
    return {"far_us": statistics.median(far) * 1e6, "bare_us": statistics.median(bare) * 1e6}


def resident(server):
    return sum(int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in server.pids) \
        * os.sysconf("SC_PAGE_SIZE")


def wanted(redis, http):
    """Many topics of one connection: seconds until all are subscribed after a lost connection, and
    bytes that the gateway has for one beyond what the topic takes without a broker, name included."""
    grown = {}
    for prefix in "home:", "far:x":
        # 32 bytes of name.
        with Nginx(http=http) as server:
            level(server, 0)
            before = resident(server)
            with Talker(server, f"/broker/many?prefix={prefix}&topics={WANTED}").sock:
                far = prefix != "home:"
                until(lambda: numbers(server)["subscriptions"] == WANTED, "all to be subscribed here")
                if far:
                    level(server, WANTED)
                grown[prefix] = resident(server) - before
                if far:
                    reconnects = numbers(server)["broker_reconnects"]
                    redis.ask("CLIENT", "KILL", "TYPE", "pubsub")
                    began = time.monotonic()
                    until(lambda: numbers(server)["broker_reconnects"] > reconnects, "a new connection")
                    level(server, WANTED)
                    seconds = time.monotonic() - began
    return {"topics": WANTED, "seconds": seconds, "bytes": (grown["far:x"] - grown["home:"]) / WANTED - 32}


def beside_nchan(stack, rounds):
    """CPU of a delivery in broker and workers together, and whether messages go on without the broker."""
    subscribers, found = 20, {}
    redis = {name: stack.enter_context(Redis()) for name in ("plain", "kept", "nchan")}
    make = {"plain": lambda r: Nginx(http=HTTP % r.port), "kept": lambda r: Nginx(http=HTTP % r.port),
            "nchan": lambda r: Nginx("nchan.conf", http=f"nchan_redis_url redis://127.0.0.1:{r.port}; nchan_use_redis on;")}
    pairs = {name: [stack.enter_context(make[name](redis[name])) for _ in range(2)] for name in redis}
    paths = {"plain": ("/hub/pub?topic=plainbench", "/history/raw?topic=plainbench"),
             "kept": ("/hub/pub", "/history/raw?topic=bench"), "nchan": ("/pub", "/sub")}
    sides = {}
    for name, (one, two) in pairs.items():
        listeners = [stack.enter_context(Listeners(server)) for server in (one, two)]
        for there in listeners:
            there.join(subscribers, paths[name][1])
        if name != "nchan":
            level(one, 1)
            level(two, 1)
        talker = Talker(one, paths[name][0])
        stack.enter_context(talker.sock)
        sides[name] = (talker, listeners, [redis[name], one, two])
    for burst in 1, BURST:
        runs = {name: [] for name in sides}
        for turn in range(rounds + 1):
            for name, (talker, listeners, servers) in sides.items():
                times = 300 if burst == 1 else 60
                before = cpu(*servers)
                for _ in range(times):
                    goals = [there.bytes + subscribers * burst * MESSAGE for there in listeners]
                    talker.send(burst)
                    for there, goal in zip(listeners, goals):
                        there.until(goal)
                    if name == "nchan":
                        talker.drop_answers()
                if turn:
                    runs[name].append((cpu(*servers) - before) / times / burst / subscribers / 2)
        found[str(burst)] = {name: statistics.median(figures) for name, figures in runs.items()}
    goes_on = {}
    for name, (talker, listeners, servers) in sides.items():
        servers[0].child.kill()
        servers[0].child.wait()
        time.sleep(0.5)
        before = listeners[0].bytes
        with contextlib.suppress(OSError):
            talker.send()
        time.sleep(1)
        goes_on[name] = listeners[0].bytes - before >= subscribers * MESSAGE
    return {"cpu_us": found, "goes_on": goes_on}
