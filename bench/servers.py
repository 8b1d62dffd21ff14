"""The servers that are measured: how each is started, found and ended.

A server runs as a child, pinned to the server's core, in a folder of its own under the target
folder; `pids` are the processes whose CPU time and memory count.
"""
import dataclasses
import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.request

BENCH = pathlib.Path(__file__).resolve().parent
REPOSITORY = BENCH.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", BENCH / "target"))
MODULE = pathlib.Path(os.environ.get("MODULE", REPOSITORY / "build/ngx_http_lua_websocket_module.so"))
SERVER_CORE, CLIENT_CORE = "0", "1"
FIRST_PORT = 29000


def pinned(core, *command):
    """A command that runs on one core, where the machine has two and taskset."""
    return ["taskset", "-c", core, *map(str, command)] if os.cpu_count() > 1 else [*map(str, command)]


class Server:
    """A running server."""
    ports = iter(range(FIRST_PORT, FIRST_PORT + 900))

    def __init__(self, name):
        self.name = name
        self.port = next(self.ports)
        self.child = None
        self.pids = []

    def spawn(self, *command, core=SERVER_CORE, **options):
        self.child = subprocess.Popen(pinned(core, *command), stdin=subprocess.DEVNULL, **options)
        limit = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                break
            except OSError:
                if self.child.poll() is not None or time.monotonic() > limit:
                    raise RuntimeError(f"{self.name} did not start") from None
                time.sleep(0.02)
        self.pids = [self.child.pid]

    def stop(self):
        if self.child and self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(10)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Peer(Server):
    """One of bench/peers: a program that takes a port."""

    def __init__(self, program, core=SERVER_CORE):
        super().__init__(program)
        self.spawn(TARGET / "release" / program, self.port, core=core)


class Nginx(Server):
    """nginx with one of our configurations."""

    def __init__(self, conf="nginx.conf", workers=1, listen="", http="", values=None):
        super().__init__(conf)
        self.tls_port = next(self.ports)
        self.folder = TARGET / "run" / f"{self.port}"
        self.folder.mkdir(parents=True, exist_ok=True)
        certificate(self.folder)
        text = (BENCH / conf).read_text()
        values = {"HTTP": http, "MODULE": MODULE, "WORKERS": workers, "BENCH": BENCH, "PORT": self.port,
                  "TLS_PORT": self.tls_port, "LISTEN": listen, **(values or {})}
        for key, value in values.items():
            text = text.replace(f"@{key}@", str(value))
        (self.folder / "nginx.conf").write_text(text)
        self.spawn("nginx", "-e", self.folder / "error.log", "-p", f"{self.folder}/", "-c", "nginx.conf")
        self.find_workers(workers)

    def find_workers(self, workers):
        """Waits until the master has all its workers."""
        path = pathlib.Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children")
        limit = time.monotonic() + 10
        while time.monotonic() < limit:
            self.pids = [int(pid) for pid in path.read_text().split()]
            if len(self.pids) == workers:
                return
            time.sleep(0.02)
        raise RuntimeError(f"{self.name}: workers did not start")

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            return answer.read().decode()

    def features(self):
        return self.get("/features").split()

    def complaints(self):
        """What nginx had to say, hopefully nothing."""
        return (self.folder / "error.log").read_text().strip()


def certificate(folder):
    """A certificate for an hour's use: P-256, as most servers have today."""
    if not (folder / "cert.pem").exists():
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                        "-nodes", "-subj", "/CN=bench", "-days", "30", "-keyout", folder / "key.pem",
                        "-out", folder / "cert.pem"], check=True, stderr=subprocess.DEVNULL)


@dataclasses.dataclass
class Contender:
    """What a column of a table is: a server, and the path of the API that is meant."""
    name: str
    server: Server
    path: str = "/"
    raw: bool = False


def cpu_ns(pid):
    """CPU time of a process so far: its scheduler clock, exact while it runs."""
    return time.clock_gettime_ns((~pid) << 3 | 2)
