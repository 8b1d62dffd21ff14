"""What the .t files in Python share: a real nginx as a child process, cases and TAP output; the
client is in peer.py. For the topics that Test::Nginx blocks cannot express: many connections,
half-closed and reset ones, slow readers, reloads, signals.

The files stay .t files for prove: their first line is Perl, which hands over before it reads on.
A file calls run(cases, http=...) or uses Nginx itself. After each case of run() no session may be
left and nginx must have logged nothing above notice, save what the case declares as `logs`.
Ports, server root, modules and valgrind come from t/prove.sh's TEST_NGINX_* variables.
"""

import glob
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback

from .memory import CHECKED, SKIPPED

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PORT = int(os.environ.get("TEST_NGINX_PORT", 1984))
ROOT = os.environ.get("TEST_NGINX_SERVROOT", f"{REPO}/t/servroot_{PORT}")
VALGRIND = os.environ.get("TEST_NGINX_USE_VALGRIND")
# Seconds in which what is awaited has to come: a test that passes does not wait for them, so they are
# many, for a machine that does much else.
PATIENCE = 180 if VALGRIND else 60
BINARY = os.environ.get("TEST_NGINX_BINARY") or shutil.which(
    "nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
EVENT_TYPE = os.environ.get("TEST_NGINX_EVENT_TYPE")
# "off": connections keep their requests, whatever a test says nothing of.
DETACH = os.environ.get("TEST_NGINX_DETACH")
LOUD = re.compile(r"\[(?:warn|error|crit|alert|emerg)\]")
KILLED = re.compile(r"exited on signal 9")


def modules():
    listed = os.environ.get("TEST_NGINX_LOAD_MODULES")
    if listed is None:
        listed = " ".join(["/usr/lib/nginx/modules/ndk_http_module.so",
                           "/usr/lib/nginx/modules/ngx_http_lua_module.so",
                           f"{REPO}/build/ngx_http_lua_websocket_module.so"])
    return listed.split()


def await_(condition, what, patience=PATIENCE):
    """Until condition() is true; it is returned."""
    limit = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > limit:
            raise AssertionError(f"waited in vain: {what}")
        time.sleep(0.005)


def equal(got, expected, what=""):
    def short(value):
        text = repr(value)
        return text if len(text) <= 300 else f"{text[:280]}... ({len(text)} characters)"
    if got != expected:
        raise AssertionError(f"{what}: got {short(got)}, expected {short(expected)}")


class Nginx:
    """nginx with the given http section, in the foreground as our child, in its own root. Others beside
    the first have a number."""

    def __init__(self, http="", server="", main="", events="", workers=1, load=None, prelude="",
                 listen="", number=0):
        self.port, self.position = PORT + number, 0
        self.root = f"{ROOT}/{number}" if number else ROOT
        self.sections = dict(http=http, server=server, main=main, events=events, workers=workers,
                             load=modules() if load is None else load, prelude=prelude,
                             listen=listen)
        self.log = f"{self.root}/logs/error.log"
        self.conf = f"{self.root}/conf/nginx.conf"
        shutil.rmtree(self.root, ignore_errors=True)
        for name in "conf", "logs", "html":
            os.makedirs(f"{self.root}/{name}")
        self.write()
        self.child = None

    def write(self, **changes):
        self.sections.update(changes)
        s = self.sections
        load = "".join(f"load_module {module};\n" for module in s["load"])
        user = "user root;\n" if os.getuid() == 0 else ""
        # The default heartbeat would ping at random: no case waits for that without saying so.
        quiet = "" if s["load"] != modules() or "websocket_ping_interval" in s["http"] else (
            "websocket_ping_interval 0;")
        if DETACH and s["load"] == modules() and "websocket_detach" not in s["http"]:
            quiet += f" websocket_detach {DETACH};"
        connections = "" if "worker_connections" in s["events"] else "worker_connections 1024;"
        use = f"use {EVENT_TYPE};" if EVENT_TYPE and "use " not in s["events"] else ""
        with open(self.conf, "w") as out:
            out.write(f"""{load}{user}
daemon off;
worker_processes {s["workers"]};
pid {self.root}/logs/nginx.pid;
error_log {self.log} info;
{s["main"]}
events {{ {use} {connections} accept_mutex off; {s["events"]} }}
http {{
    access_log off;
    lua_package_path "{REPO}/t/lib/?.lua;;";
    lua_shared_dict live 4m;
    {quiet}
    {s["http"]}
    server {{
        listen 127.0.0.1:{self.port} {s["listen"]};
        {s["prelude"]}
        root {self.root}/html;
        location = /live/take {{ content_by_lua_block {{ require("live").take() }} }}
        location = /live/signal {{ content_by_lua_block {{ require("live").signal() }} }}
        location = /live/open {{ content_by_lua_block {{ require("live").info() }} }}
        location = /live/status {{ stub_status; }}
        {s["server"]}
    }}
}}
""")

    def command(self, *more):
        return [BINARY, "-p", f"{self.root}/", "-e", self.log, "-c", self.conf, *more]

    def start(self):
        command = self.command()
        if VALGRIND:
            options = shlex.split(VALGRIND) if not VALGRIND.isdigit() else [
                "--leak-check=full", "--show-possibly-lost=no", "--num-callers=60",
                "--gen-suppressions=all", "--keep-debuginfo=yes",
                f"--suppressions={REPO}/t/valgrind.suppress"]
            command = ["valgrind", "-q", f"--log-file={self.root}/logs/valgrind.%p", *options, *command]
        self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        # The pid file is written once nginx listens.
        pid = f"{self.root}/logs/nginx.pid"
        await_(lambda: self.child.poll() is not None or os.path.exists(pid), "nginx comes up", 120)
        if self.child.poll() is not None:
            raise AssertionError("nginx did not start:\n" + self.read_log())
        await_(lambda: len(self.workers()) == self.sections["workers"], "workers come up", 120)
        return self

    def workers(self):
        """Process ids of the workers that have not been told to quit. By the log, because under
        valgrind a process cannot change its title."""
        leaving = {int(pid) for pid in re.findall(r" (\d+)#\d+: gracefully shutting down",
                                                  self.read_log())}
        return [pid for pid in self.children() if pid not in leaving]

    def children(self):
        with open(f"/proc/{self.child.pid}/task/{self.child.pid}/children") as f:
            return [int(pid) for pid in f.read().split()]

    def signal(self, name):
        os.kill(self.child.pid, getattr(signal, "SIG" + name))

    def stop(self, name="QUIT"):
        """Ends nginx; returns its exit code."""
        if self.child.poll() is None:
            self.signal(name)
            try:
                self.child.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                for pid in self.children():
                    os.kill(pid, signal.SIGKILL)
                self.child.kill()
                self.child.wait()
                raise AssertionError(f"nginx did not end within {PATIENCE} s of SIG{name}")
        return self.child.returncode

    def kill(self):
        """For a test that failed: no nginx is left behind."""
        if self.child and self.child.poll() is None:
            # Stopped, so that it does not replace the workers that are killed.
            self.child.send_signal(signal.SIGSTOP)
            for pid in self.children():
                os.kill(pid, signal.SIGKILL)
            self.child.kill()
            self.child.wait()

    def read_log(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def loud(self, allowed=None):
        """Lines above notice since the last call, without those `allowed` matches. An alert is
        always one too many, but for nginx's complaint about our own configuration."""
        text = self.read_log()
        lines, self.position = text[self.position:].splitlines(), len(text)
        return [line for line in lines if LOUD.search(line)
                and "lua_code_cache is off" not in line
                and ("[alert]" in line or not (allowed and re.search(allowed, line)))]

    def valgrind_findings(self):
        found = []
        for name in glob.glob(f"{self.root}/logs/valgrind.*"):
            with open(name) as f:
                found += [line for line in f.read().splitlines()
                          if not re.match(r"==\d+== *(?:$|Warning:|  +to suppress)", line)]
        return found

    def get(self, path, port=None, patience=PATIENCE):
        """Body of a plain request; AssertionError if the status is not 200."""
        with socket.create_connection(("127.0.0.1", port or self.port), patience) as s:
            s.sendall(f"GET {path} HTTP/1.0\r\nHost: t\r\n\r\n".encode())
            answer = b""
            try:
                while data := s.recv(65536):
                    answer += data
            except ConnectionResetError:  # at the end; what has come says whether it was one
                pass
        head, _, body = answer.partition(b"\r\n\r\n")
        status = head.split(b"\r\n")[0]
        if b" 200 " not in status:
            raise AssertionError(f"GET {path}: {status}")
        return body.decode()

    def sessions(self):
        return int(self.get("/live/open"))

    def connections(self):
        """nginx's own count of connections, without the one that asks."""
        return int(self.get("/live/status").split("\n")[0].split(":")[1]) - 1

    def certificate(self):
        """Makes a self-signed certificate; returns the directives that use it."""
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3", "-subj",
                        "/CN=localhost", "-keyout", f"{self.root}/conf/key.pem", "-out",
                        f"{self.root}/conf/cert.pem"], check=True, stderr=subprocess.DEVNULL)
        return (f"ssl_certificate {self.root}/conf/cert.pem;"
                f"ssl_certificate_key {self.root}/conf/key.pem;")


class Tap:
    """Counts and prints results. A case that raises has failed."""

    def __init__(self):
        self.count = self.failed = 0

    def result(self, name, error=None):
        self.count += 1
        self.failed += error is not None
        print(f"{'not ok' if error else 'ok'} {self.count} - {name}", flush=True)
        if error:
            print("".join(f"#   {line}\n" for line in str(error).splitlines()), end="",
                  file=sys.stderr, flush=True)

    def skip(self, name, why):
        self.count += 1
        print(f"ok {self.count} - {name} # SKIP {why}", flush=True)

    def attempt(self, name, body):
        try:
            body()
            self.result(name)
        except Exception as error:  # any failure is this case's failure
            where = traceback.extract_tb(error.__traceback__)
            own = os.path.abspath(sys.argv[0])
            lines = [str(f.lineno) for f in where if os.path.abspath(f.filename) == own]
            at = f"\nat line {', '.join(lines)}" if lines else ""
            self.result(name, f"{type(error).__name__}: {error or '(no text)'}{at}")

    def done(self):
        print(f"1..{self.count}")
        if not self.failed:  # Test::Nginx wants no foreign files in the next file's server root
            shutil.rmtree(ROOT, ignore_errors=True)
        sys.exit(1 if self.failed else 0)


class Cases:
    """The cases of a file, in order, and the locations they talk to."""

    def __init__(self):
        self.list, self.skipped, self.server = [], {}, ""

    def handler(self, path, body, directives="", phase="content"):
        """A location whose Lua code finds t/lib/live.lua as `live`."""
        self.server += f"""
        location = {path} {{
            {directives}
            {phase}_by_lua_block {{
                local live = require "live"
                {body}
            }}
        }}
"""

    def __call__(self, name, logs=None, skip_valgrind=False, memory=False):
        """Decorator: a case by name; `logs` matches lines above notice that it causes itself. `memory`
        says that it is about how much memory there is."""
        def add(body):
            self.list.append((name, body, logs))
            if VALGRIND and skip_valgrind:
                self.skipped[name] = "too slow under valgrind"
            elif CHECKED and memory:
                self.skipped[name] = SKIPPED
            return body
        return add


def settled(ng, logs):
    await_(lambda: ng.sessions() == 0, "all sessions end")
    await_(lambda: ng.connections() == 0, "all connections end")
    loud = ng.loud(logs)
    assert not loud, "nginx logged:\n" + "\n".join(loud[:10])


def ended(ng):
    equal(ng.stop(), 0, "exit code of nginx")
    loud = ng.loud()
    assert not loud, "nginx logged:\n" + "\n".join(loud[:10])
    found = ng.valgrind_findings()
    assert not found, "valgrind:\n" + "\n".join(found[:200])


def run_on(ng, tap, bodies, idle=False):
    """Starts `ng`, calls each of `bodies` with it and ends it; the file ends here. nginx logs nothing
    but the end of workers that were killed. `idle`: each body leaves no session."""
    try:
        ng.start()
        for body in bodies:
            def attempt(body=body):
                body(ng)
                if idle:
                    await_(lambda: ng.sessions() == 0, "all sessions end")
                loud = [line for line in ng.loud() if not KILLED.search(line)]
                assert not loud, "nginx logged:\n" + "\n".join(loud[:10])
            tap.attempt(body.__name__.replace("_", " "), attempt)
        tap.attempt("nginx ends without a word", lambda: ended(ng))
    finally:
        ng.kill()
    tap.done()


def run(cases, tap=None, prepare=None, **sections):
    """Starts one nginx, runs the cases against it and ends it. With `tap` given there is more to
    come; otherwise the file ends here. `prepare` may change the sections once there is a root."""
    last, tap = tap is None, tap or Tap()
    sections["server"] = cases.server + sections.get("server", "")
    only = os.environ.get("ONLY")
    ng = Nginx(**sections)
    try:
        if prepare:
            ng.write(**prepare(ng))
        ng.start()
        for name, body, logs in cases.list:
            if only and only not in name:
                continue
            if name in cases.skipped:
                tap.skip(name, cases.skipped[name])
                continue

            def attempt():
                body(ng)
                settled(ng, logs)
            tap.attempt(name, attempt)

        tap.attempt("nginx ends without a word", lambda: ended(ng))
    finally:
        ng.kill()
    if last:
        tap.done()
