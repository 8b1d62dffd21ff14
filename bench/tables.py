"""What is measured: the rows of each table, on which servers, in which order.

Servers take turns row by row and round by round, so that whatever else happens on the machine
happens to all of them; the figure of a row is the median of its rounds.
"""
import contextlib
import dataclasses
import json
import re
import shutil
import signal
import statistics
import subprocess
import time
import urllib.parse

import brokered
import history
import proxied
from servers import CLIENT_CORE, SERVER_CORE, TARGET, Contender, Nginx, Peer, cpu_ns, pinned

KIB, MIB = 1024, 1024 * 1024


@dataclasses.dataclass(frozen=True)
class Pace:
    """How long is measured, and how often."""
    rounds: int
    seconds: float
    warmup: float
    idle: int
    crowd: int
    reload_seconds: float


FULL = Pace(rounds=5, seconds=0.5, warmup=0.15, idle=5000, crowd=10000, reload_seconds=8)
QUICK = Pace(rounds=1, seconds=0.2, warmup=0.05, idle=500, crowd=1000, reload_seconds=2)

# Payload, connections, messages in flight on each.
ECHO = [(32, 100, 1), (32, 10, 16), (KIB, 100, 1), (KIB, 10, 16),
        (16 * KIB, 100, 1), (16 * KIB, 10, 16), (MIB, 1, 1), (MIB, 100, 1)]
TLS = [(32, 100, 1), (32, 10, 16), (KIB, 100, 1), (KIB, 10, 16), (16 * KIB, 100, 1), (16 * KIB, 10, 16)]


def load(mode, contender, pace, *options, tls=False, seconds=None):
    """Runs the load generator; its line of JSON."""
    server = contender.server
    port = server.tls_port if tls else server.port
    command = [TARGET / "release/load", mode, "--target", f"127.0.0.1:{port}", "--path", contender.path,
               "--seconds", seconds or pace.seconds, "--warmup", pace.warmup, *options]
    for pid in server.pids:
        command += ["--pid", pid]
    if tls:
        command += ["--tls"]
    if contender.raw:
        command += ["--raw"]
    done = subprocess.run(pinned(CLIENT_CORE, *command), capture_output=True, text=True)
    if done.returncode != 0:
        reason = " ".join(done.stderr.partition("Stack backtrace")[0].split())
        raise RuntimeError(f"{contender.name}: {reason or 'no reason given'}")
    return json.loads(done.stdout)


def interleaved(pace, rows, contenders, measure):
    """Measures every row on every contender, `rounds` times; medians by row and name."""
    runs = {}
    for _ in range(pace.rounds):
        for row in rows:
            for contender in contenders:
                runs.setdefault((row, contender.name), []).append(measure(row, contender))
    return [{"row": row, "servers": {c.name: median(runs[row, c.name]) for c in contenders}} for row in rows]


def median(lines):
    """The median of each figure of some runs."""
    return {key: statistics.median(line[key] for line in lines)
            for key, value in lines[0].items() if isinstance(value, (int, float))}


def ours(server):
    """The module's APIs, as far as they are built."""
    found = [Contender("drop-in", server, "/dropin")]
    if "accept" in server.features():
        found.append(Contender("messages", server, "/messages"))
    if "serve" in server.features():
        found.append(Contender("callbacks", server, "/callbacks"))
    return found


def apart(stack):
    """The pure library and the module's APIs, each in an nginx of its own: they share one Lua heap otherwise, and
    each would collect the others' garbage."""
    first = stack.enter_context(Nginx())
    own = [dataclasses.replace(c, server=stack.enter_context(Nginx())) for c in ours(first)]
    return [Contender("stock", first, "/stock"), *own]


def echo_options(row):
    size, connections, depth = row
    return "--size", size, "--connections", connections, "--depth", depth


def echo(pace):
    with contextlib.ExitStack() as stack:
        contenders = [
            Contender("floor", stack.enter_context(Peer("floor")), raw=True),
            Contender("fastwebsockets", stack.enter_context(Peer("fastwebsockets"))),
            Contender("tungstenite", stack.enter_context(Peer("tungstenite"))),
            *apart(stack)]
        if contenders[-1].name == "callbacks":
            contenders.append(Contender("callbacks, raw", stack.enter_context(Nginx()), "/callbacks/raw"))
        return interleaved(pace, ECHO, contenders, lambda row, c: load("echo", c, pace, *echo_options(row)))


def tls(pace):
    pace = dataclasses.replace(pace, rounds=min(pace.rounds, 3))
    with contextlib.ExitStack() as stack:
        contenders = apart(stack)
        rows = interleaved(pace, TLS, contenders,
                           lambda row, c: load("echo", c, pace, *echo_options(row), tls=True))
        for row in rows:
            for contender in contenders[1:]:
                own = outside(contender, pace, row["row"])
                if own is not None:
                    row["servers"][contender.name]["outside"] = own
        return rows


def outside(contender, pace, row):
    """Share of the server's time spent neither in the kernel nor in OpenSSL, by sampling. What
    OpenSSL calls is OpenSSL's: libc's memcpy, above all."""
    if not shutil.which("perf"):
        return None
    data = TARGET / "perf.data"
    data.unlink(missing_ok=True)
    perf = subprocess.Popen(["perf", "record", "-q", "-e", "cpu-clock", "-F", "2000", "--call-graph", "dwarf,4096",
                             "-o", data, "-p", str(contender.server.pids[0])], stderr=subprocess.DEVNULL)
    while perf.poll() is None and not (data.exists() and data.stat().st_size):
        time.sleep(0.05)
    load("echo", contender, pace, *echo_options(row), tls=True)
    perf.send_signal(signal.SIGINT)
    perf.wait()
    text = subprocess.run(["perf", "script", "-i", data, "-F", "ip,dso", "--no-inline"],
                          capture_output=True, text=True).stdout
    # A sample is a paragraph, with a line for each frame, the innermost first.
    samples = [re.findall(r"\((.*)\)$", stack, re.M) for stack in text.split("\n\n")]
    samples = [stack for stack in samples if stack]
    own = [stack for stack in samples if not re.match(r"\[kernel|\[vdso|\[guest", stack[0])
           and not any(re.search(r"/lib(ssl|crypto)\.so", frame) for frame in stack)]
    return len(own) / len(samples) if samples else None


def curve(pace):
    pace = dataclasses.replace(pace, rounds=min(pace.rounds, 3))
    counts = [n for n in (10, 100, 1000, 10000) if n <= pace.crowd]
    with contextlib.ExitStack() as stack:
        contenders = [Contender("floor", stack.enter_context(Peer("floor")), raw=True), *apart(stack)]
        return interleaved(pace, counts, contenders,
                           lambda n, c: load("echo", c, pace, "--connections", n, "--size", 32))


PATTERNS = {"next message when all have the last": ["--pattern", "lockstep"],
            "100 messages a second, open loop": ["--pattern", "rate", "--rate", "100"],
            "16 messages in a burst": ["--pattern", "burst", "--burst", "16"]}


def broadcast(pace):
    pace = dataclasses.replace(pace, rounds=min(pace.rounds, 3), seconds=pace.seconds * 2)

    def measure(pattern, contender, *more):
        publish = contender.path.partition("?")[0].replace("sub", "pub")
        return load("broadcast", contender, pace, "--publish", publish, *PATTERNS[pattern], *more)

    with Nginx() as nginx, Nginx("nchan.conf") as nchan:
        contenders = [Contender("nchan", nchan, "/sub"), Contender("stock", nginx, "/threads/sub")]
        hub = "publish" in nginx.features()
        if hub:
            contenders.append(Contender("hub", nginx, "/hub/sub"))
        found = {"rows": interleaved(pace, list(PATTERNS), contenders, measure)}
        if hub:
            with Nginx(workers=2, listen="reuseport") as two:
                pair = Contender("hub, 2 workers", two, "/hub/sub")
                found["two"] = {name: measure(name, pair) for name in PATTERNS}
            found["topics"] = {n: measure("16 messages in a burst",
                                          Contender("hub", nginx, f"/hub/sub?topics={n}")) for n in (1, 10, 100)}
        return found


# What an operator can do for small handshakes: nginx's own memory of a request is most of it.
SMALL_POOLS = "request_pool_size 6k; connection_pool_size 256; client_header_buffer_size 512;"


def memory(pace):
    def measure(make, name, path="/", messages=()):
        sizes = [option for size in messages for option in ("--message", size)]
        with make() as server:
            return load("idle", Contender(name, server, path), pace, "--connections", pace.idle,
                        *sizes, seconds=0.5)

    # Of the others some keep a megabyte and more for each connection: not asked of them.
    found = {"stock": measure(Nginx, "stock", "/stock", [16 * KIB])}
    with Nginx() as nginx:
        names = [(c.name, c.path) for c in ours(nginx)]
    for name, path in names:
        found[name] = measure(Nginx, name, path, [16 * KIB, MIB])
        lean = f"{name}, small pools"
        found[lean] = measure(lambda: Nginx(http=SMALL_POOLS), lean, path)
    if names[1:]:
        # Compressors are large: fewer connections tell as much.
        some = dataclasses.replace(pace, idle=pace.idle // 10)
        for name in ("takeover", "fresh"):
            kept = {"takeover": "deflate, contexts kept", "fresh": "deflate, no context takeover"}[name]
            with Nginx() as server:
                found[kept] = load("idle", Contender(kept, server, f"/deflate/{name}"), some, "--deflate",
                                   "--connections", some.idle, "--message", 16 * KIB, seconds=0.5)
    found["fastwebsockets"] = measure(lambda: Peer("fastwebsockets"), "fastwebsockets", "/", [16 * KIB])
    found["tungstenite"] = measure(lambda: Peer("tungstenite"), "tungstenite", "/", [16 * KIB])
    found["nchan"] = measure(lambda: Nginx("nchan.conf"), "nchan", "/sub")
    return found


# What an idle connection without a request takes, by what it is, and whether by TLS.
LIGHT = {"subscriber": ("/light/subscriber", False), "subscriber, access log": ("/light/logged", False),
         "subscriber, access log, TLS": ("/light/logged", True), "subscriber, TLS": ("/light/subscriber", True),
         "callbacks, access log": ("/light/callbacks", False), "callbacks, access log, TLS": ("/light/callbacks", True),
         "subscriber that keeps its request": ("/light/kept", False)}


def light(pace):
    counts = [n for n in (1000, 10000) if n <= pace.crowd]
    found = {}
    for name, (path, tls) in LIGHT.items():
        found[name] = {}
        for count in counts:
            with Nginx() as server:
                line = load("idle", Contender(name, server, path), pace, "--connections", count, tls=tls, seconds=0.5)
                found[name][count] = line["fresh_kb"]
    return found


def connect(pace):
    pace = dataclasses.replace(pace, rounds=min(pace.rounds, 3))
    with contextlib.ExitStack() as stack:
        contenders = [*apart(stack),
                      Contender("subscriber", stack.enter_context(Nginx()), "/light/subscriber"),
                      Contender("tungstenite", stack.enter_context(Peer("tungstenite")))]
        return interleaved(pace, ["open and close"], contenders, lambda _, c: load("connect", c, pace))


CLIENTS = {"stock": "nginx.websocket.client", "drop-in": "resty.websocket.client",
           "messages": "resty.websocket"}


def client(pace):
    """nginx as the client of an echo server on the other core."""
    connections, count = 32, 200 if pace is FULL else 20
    with Nginx() as nginx, Peer("fastwebsockets", core=CLIENT_CORE) as peer:
        def talk(size, contender, count):
            query = {"module": CLIENTS[contender.name], "size": size, "count": count,
                     "connections": connections, "uri": f"ws://127.0.0.1:{peer.port}/"}
            nginx.get("/client?" + urllib.parse.urlencode(query))

        def measure(size, contender):
            talk(size, contender, 5)
            before = cpu_ns(nginx.pids[0])
            talk(size, contender, count)
            return {"cpu_us": (cpu_ns(nginx.pids[0]) - before) / 1e3 / count / connections}
        contenders = [Contender(name, nginx) for name in CLIENTS]
        return interleaved(dataclasses.replace(pace, rounds=min(pace.rounds, 3)), [32, KIB, 16 * KIB],
                           contenders, measure)


def reload(pace):
    with Nginx() as nginx:
        contender = ours(nginx)[-1]
        line = load("reload", contender, pace, "--connections", pace.crowd,
                    "--master", nginx.child.pid, seconds=pace.reload_seconds)
        return {"api": contender.name, **line}


def syscalls(pace):
    """System calls per message, by strace. Slow, and so apart from every other figure."""
    if not shutil.which("strace"):
        return []
    rows = [(32, 10, 16), (MIB, 1, 1)]
    with Nginx() as nginx:
        contenders = [Contender("stock", nginx, "/stock"), *ours(nginx)]
        return [{"row": row, "servers": {c.name: calls(c, pace, row) for c in contenders}} for row in rows]


def calls(contender, pace, row):
    out = TARGET / "strace.out"
    command = ["strace", "-c", "-o", str(out), "-p", str(contender.server.pids[0])]
    strace = subprocess.Popen(pinned(SERVER_CORE, *command), stderr=subprocess.DEVNULL)
    time.sleep(0.3)
    quiet = dataclasses.replace(pace, warmup=0)
    messages = load("echo", contender, quiet, *echo_options(row), seconds=pace.seconds * 2)["messages"]
    strace.send_signal(signal.SIGINT)
    strace.wait()
    found = {}
    for line in out.read_text().splitlines():
        words = line.split()
        if len(words) >= 5 and words[3].isdigit() and words[-1] != "total":
            found[words[-1]] = int(words[3]) / max(messages, 1)
    return {name: value for name, value in found.items() if value >= 0.02}


TABLES = {"echo": echo, "tls": tls, "curve": curve, "broadcast": broadcast, "memory": memory, "light": light,
          "connect": connect, "client": client, "reload": reload, "syscalls": syscalls,
          "history": history.history, "presence": history.presence,
          "proxy": lambda pace: proxied.proxy(pace, load, interleaved),
          "broker": lambda pace: brokered.broker(pace, load)}
