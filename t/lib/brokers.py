"""What the tests over real brokers share: Redis and NATS as our children, machines (nginx with zones of their own) and
their numbers, a name server, and certificates."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading

from lib.live import PATIENCE, VALGRIND, Nginx, await_

REDIS = shutil.which("redis-server") or shutil.which("valkey-server")
NATS = os.environ.get("NATS_SERVER") or shutil.which("nats-server") or shutil.which("/usr/sbin/nats-server")
CLI = shutil.which("redis-cli") or shutil.which("valkey-cli")


def skip_without(program, name):
    """Ends the file where the program cannot be had."""
    if not program or VALGRIND:
        print("1..0 # SKIP " + ("takes long under valgrind" if VALGRIND else f"no {name} here"))
        raise SystemExit


def one(f):
    """One answer, of those that are no array."""
    answer = f.readline().decode().strip()
    if answer.startswith("$") and answer != "$-1":
        return f.read(int(answer[1:]) + 2).decode(errors="replace")[:-2]
    return answer


class Redis:
    """redis-server as our child, on a port, or in TLS with an Authority's certificate."""

    def __init__(self, port, word="", options=(), tls=None, wait=True):
        self.port, self.word, self.tls = port, word, tls
        self.command = [REDIS, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        if tls:
            self.command += ["--port", "0", "--tls-port", str(port), "--tls-cert-file", tls.certificate,
                             "--tls-key-file", tls.key, "--tls-ca-cert-file", tls.authority,
                             "--tls-auth-clients", "optional"]
        else:
            self.command += ["--port", str(port)]
        self.command += [*(["--requirepass", word] if word else []), *options]
        self.start(wait)

    def start(self, wait=True):
        self.child = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, cwd="/")
        if wait:
            await_(self.answers, "Redis comes up")

    def answers(self):
        try:
            return self.ask("PING") == "+PONG"
        except OSError:
            return False

    def ask(self, *words):
        """The first line of the answer; of a text the text."""
        return self.answer(words, one)

    def list(self, *words):
        """An answer that is an array of texts."""
        return self.answer(words, lambda f: [one(f) for _ in range(int(f.readline()[1:]))])

    def pairs(self, *words):
        """An answer that is an array of names and numbers."""
        def read(f):
            items = [one(f) for _ in range(int(f.readline()[1:]))]
            return dict(zip(items[::2], (int(n.lstrip(":")) for n in items[1::2])))
        return self.answer(words, read)

    def answer(self, words, read):
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as s:
            if self.tls:
                context = ssl.create_default_context(cafile=self.tls.authority)
                s = context.wrap_socket(s, server_hostname=self.tls.name)
            f = s.makefile("rwb")
            commands = ([("AUTH", self.word)] if self.word else []) + [words]
            for n, command in enumerate(commands, 1):
                f.write(b"*%d\r\n" % len(command))
                for word in command:
                    word = word if isinstance(word, bytes) else str(word).encode()
                    f.write(b"$%d\r\n%s\r\n" % (len(word), word))
                f.flush()
                answer = read(f) if n == len(commands) else f.readline()
            s.close()
        return answer

    def kill(self, how=signal.SIGKILL):
        self.child.send_signal(how)
        self.child.wait()


class RedisCluster:
    """Masters and as many replicas, on ports from `port` on; their bus is 10 000 above. A server that
    fails is found within seconds, and its replica takes its place: not sooner, or on a busy machine one that
    only had no turn would be taken for gone."""

    SLOTS = 16384

    def __init__(self, port, folder, masters=3, replicas=3, word="", options=()):
        self.folder, self.word = folder, word
        shutil.rmtree(folder, ignore_errors=True)
        self.options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "3000",
                        "--cluster-replica-validity-factor", "0", *options,
                        *(["--masterauth", word] if word else [])]
        self.servers = [self.server(port + n) for n in range(masters + replicas)]
        self.masters, self.replicas = self.servers[:masters], self.servers[masters:]
        share = -(-self.SLOTS // masters)
        for n, server in enumerate(self.masters):
            last = min((n + 1) * share, self.SLOTS) - 1
            server.ask("CLUSTER", "ADDSLOTSRANGE", n * share, last)
            server.ask("CLUSTER", "SET-CONFIG-EPOCH", n + 1)
        for server in self.servers:
            self.meet(server)
        await_(lambda: all(self.known(server) == len(self.servers) for server in self.servers), "all know all")
        for replica, master in zip(self.replicas, self.masters):
            await_(lambda: replica.ask("CLUSTER", "REPLICATE", self.name(master)) == "+OK", "replicated")
        self.whole()

    def server(self, port, wait=True):
        folder = f"{self.folder}/{port}"
        os.makedirs(folder, exist_ok=True)
        return Redis(port, self.word, ["--dir", folder, *self.options], wait=wait)

    def meet(self, server):
        server.ask("CLUSTER", "MEET", "127.0.0.1", self.masters[0].port)

    def known(self, server):
        return int(server.ask("CLUSTER", "INFO").split("cluster_known_nodes:")[1].split()[0])

    @staticmethod
    def name(server):
        return server.ask("CLUSTER", "MYID")

    @staticmethod
    def role(server):
        """Its role, or nothing while it is away."""
        try:
            return server.ask("INFO", "replication").split("role:")[1].split()[0]
        except (OSError, IndexError):
            return None

    def whole(self):
        """All slots are served, in the eyes of all who live, and each replica has its master's data."""
        def is_whole():
            alive = [server for server in self.servers if self.role(server)]
            return all("cluster_state:ok" in server.ask("CLUSTER", "INFO")
                       and (self.role(server) == "master" or "master_link_status:up" in
                            server.ask("INFO", "replication")) for server in alive)
        await_(is_whole, "the cluster is whole")

    def nodes(self, server):
        return [line.split() for line in server.ask("CLUSTER", "NODES").splitlines()]

    def owner_of(self, slot):
        alive = next(server for server in self.servers if self.role(server))
        for fields in self.nodes(alive):
            for part in fields[8:]:
                first, _, last = part.partition("-")
                if not part.startswith("[") and int(first) <= slot <= int(last or first):
                    port = int(fields[1].split(":")[1].split("@")[0])
                    return next(server for server in self.servers if server.port == port)
        return None

    def move(self, slot, to, pause=lambda: None, whole=True):
        """Moves a slot with its keys, as redis-cli does; `pause` is called while it is on its way."""
        source, number = self.owner_of(slot), str(slot)
        if source is to:
            return
        to.ask("CLUSTER", "SETSLOT", number, "IMPORTING", self.name(source))
        source.ask("CLUSTER", "SETSLOT", number, "MIGRATING", self.name(to))
        pause()
        while keys := source.list("CLUSTER", "GETKEYSINSLOT", number, 100):
            auth = ["AUTH", self.word] if self.word else []
            for key in keys:
                answer = source.ask("MIGRATE", "127.0.0.1", to.port, key, 0, 5000, *auth)
                assert answer in ("+OK", "+NOKEY"), answer
        pause()
        for server in (to, source):
            answer = server.ask("CLUSTER", "SETSLOT", number, "NODE", self.name(to))
            # Who has given its last slot away becomes a replica.
            assert answer == "+OK" or server is source and "only with masters" in answer, answer
        if whole:
            for server in self.servers:
                if self.role(server) == "master":
                    server.ask("CLUSTER", "SETSLOT", number, "NODE", self.name(to))

    def replica_of(self, master):
        """A server that follows this one."""
        name = self.name(master)
        for server in self.servers:
            if self.role(server) == "slave" and any(
                    fields[3] == name for fields in self.nodes(server) if "myself" in fields[2]):
                return server
        return None

    def kill(self):
        for server in self.servers:
            server.child.kill()
            server.child.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Nats:
    """nats-server as our child, on a port: with a JetStream in a folder, in TLS with an Authority's
    certificate, as one of a cluster, with lines of configuration, and whoever it lets in."""

    def __init__(self, port, folder, name="a", jetstream=True, tls=None, cluster=None, lines="", login=None, wait=True):
        self.port, self.folder, self.name, self.tls, self.login = port, folder, name, tls, login or {}
        os.makedirs(folder, exist_ok=True)
        lines += f'\nlisten: 127.0.0.1:{port}\nserver_name: {name}\nlame_duck_grace_period: "5s"\nlame_duck_duration: "30s"\n'
        if jetstream:
            lines += f'jetstream {{ store_dir: "{folder}/{name}" }}\n'
        if cluster:
            routes = ", ".join(f"nats-route://127.0.0.1:{route}" for route in cluster[1])
            lines += f"cluster {{ name: c, listen: 127.0.0.1:{cluster[0]}, routes: [{routes}] }}\n"
        if tls:
            lines += (f'tls {{ cert_file: "{tls.certificate}", key_file: "{tls.key}", timeout: 5 }}\n')
        self.configuration = f"{folder}/{name}.conf"
        with open(self.configuration, "w") as out:
            out.write(lines)
        self.start(wait)

    def start(self, wait=True):
        with open(f"{self.folder}/{self.name}.log", "a") as log:
            self.child = subprocess.Popen([NATS, "-c", self.configuration], stdout=log, stderr=log, cwd="/")
        if wait:
            await_(self.answers, "NATS comes up")

    def answers(self):
        try:
            self.talk()[0].close()
            return True
        except (OSError, AssertionError):
            return False

    def talk(self):
        """A connection of our own, which has been let in."""
        s = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        f = s.makefile("rwb")
        f.readline()
        if self.tls:
            f.close()
            context = ssl.create_default_context(cafile=self.tls.authority)
            s = context.wrap_socket(s, server_hostname=self.tls.name)
            f = s.makefile("rwb")
        options = {"verbose": False, "headers": True, "no_responders": True, **self.login}
        f.write(b"CONNECT " + json.dumps(options).encode() + b"\r\nPING\r\n")
        f.flush()
        while (line := f.readline()).startswith(b"INFO"):
            pass
        assert line == b"PONG\r\n", line
        return f, s

    def ask(self, subject, body=b"", patience=PATIENCE):
        """The answer's data, as JSON; None: nobody answers."""
        f, s = self.talk()
        s.settimeout(patience)
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        f.write(b"SUB answer.here 1\r\nPUB %s answer.here %d\r\n%s\r\n" % (subject.encode(), len(body), body))
        f.flush()
        try:
            while True:
                words = f.readline().split()
                if words[0] == b"PING":
                    f.write(b"PONG\r\n")
                    f.flush()
                elif words[0] in (b"MSG", b"HMSG"):
                    data = f.read(int(words[-1]) + 2)
                    return json.loads(data) if words[0] == b"MSG" else None
                elif words[0] == b"-ERR":
                    raise AssertionError(words)
        except TimeoutError:
            return None
        finally:
            f.close()
            s.close()

    def publish(self, subject, body, headers=b""):
        f, s = self.talk()
        head = b"NATS/1.0\r\n" + headers + b"\r\n"
        f.write(b"HPUB %s %d %d\r\n%s%s\r\nPING\r\n" % (subject.encode(), len(head), len(head) + len(body), head, body))
        f.flush()
        while not f.readline().startswith(b"PONG"):
            pass
        f.close()
        s.close()

    def kill(self, how=signal.SIGKILL):
        self.child.send_signal(how)
        self.child.wait()


def machine(number, http, server, workers=2, files=None):
    """A machine that is not started yet; files lie beside its nginx.conf."""
    ng = Nginx(http=http, server=server, workers=workers, listen="reuseport", number=number)
    for name, text in (files or {}).items():
        with open(f"{ng.root}/conf/{name}", "w") as out:
            out.write(text + "\n")
        os.chmod(f"{ng.root}/conf/{name}", 0o600)
    return ng


class Fleet:
    """Machines of one configuration after another, and the servers that they talk to, for tests of how
    the ones get to the others. `lost`: what the log says of a connection, and in brackets why."""

    def __init__(self, lost):
        self.lost, self.ngs, self.servers = lost, [], []

    def start(self, http, server, count=2, files=None):
        del self.ngs[:]
        for number in range(count):
            self.ngs.append(machine(number, http, server, 1, files))
            self.ngs[-1].start()

    def stop_machines(self, allowed=None):
        for ng in self.ngs:
            assert ng.stop() == 0
            loud = ng.loud(allowed or self.lost)
            assert not loud, loud

    def stop(self, allowed=None):
        self.stop_machines(allowed)
        for server in self.servers:
            server.kill()
        del self.servers[:]

    def kill(self):
        """What a test that has failed has left."""
        for one in self.ngs + self.servers:
            one.kill()
        del self.servers[:]

    def why(self, ng):
        """What the log says of lost connections."""
        return "\n".join(re.findall(self.lost, ng.read_log()))

    def said(self, text):
        """The first machine says this of one."""
        await_(lambda: text in self.why(self.ngs[0]), f"{text!r} is said, beside {self.why(self.ngs[0])!r}")


def ask(ng, path, method="GET", body=None, **headers):
    """Status and body of an answer."""
    web = http.client.HTTPConnection("127.0.0.1", ng.port, timeout=PATIENCE)
    web.request(method, path, body, headers)
    answer = web.getresponse()
    text = answer.read().decode()
    web.close()
    return answer.status, text


def metric(ng, name):
    """A number of /metrics; without labels the sum over all."""
    found = [line for line in ng.get("/metrics").splitlines() if line.startswith(f"websocket_{name} ")
             or line.startswith(f"websocket_{name}{{")]
    return sum(int(line.rsplit(" ", 1)[1]) for line in found)


def level(ng, topics, brokers=1):
    """The brokers have acknowledged as many topics."""
    await_(lambda: metric(ng, "broker_connected") == brokers
           and metric(ng, 'broker_topics{state="subscribed"}') == topics, "subscribed at the broker")


class NameServer(threading.Thread):
    """Answers questions for A by what `names` says now; a name that is not there does not exist."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.names, self.asked = {}, 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", port))
        self.start()

    def run(self):
        while True:
            question, who = self.socket.recvfrom(512)
            at, labels = 12, []
            while question[at]:
                labels.append(question[at + 1:at + 1 + question[at]].decode())
                at += 1 + question[at]
            kind, name = question[at + 1:at + 3], ".".join(labels)
            address = self.names.get(name)
            self.asked += kind == b"\0\1"
            answers = []
            if address and kind == b"\0\1":
                answers = [b"\xc0\x0c\0\1\0\1" + (1).to_bytes(4, "big") + b"\0\4" + socket.inet_aton(address)]
            code = b"\x81\x80" if name in self.names else b"\x81\x83"
            head = question[:2] + code + b"\0\1" + len(answers).to_bytes(2, "big") + b"\0\0\0\0"
            self.socket.sendto(head + question[12:at + 5] + b"".join(answers), who)


class Authority:
    """A certificate for `name` and the authority that signed it, as files in a folder."""

    def __init__(self, folder, name, days=2):
        os.makedirs(folder, exist_ok=True)
        self.name, self.folder = name, folder
        self.authority, self.key, self.certificate = (
            f"{folder}/{file}" for file in ("ca.pem", "key.pem", "cert.pem"))

        def openssl(*words):
            subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=folder)
        kind = "IP" if name[0].isdigit() else "DNS"
        new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ours",
                "-days", "2")
        openssl("req", *new, "-keyout", "key.pem", "-out", "csr.pem", "-subj", "/CN=server")
        with open(f"{folder}/ext", "w") as out:
            out.write(f"subjectAltName={kind}:{name}\n")
        openssl("x509", "-req", "-in", "csr.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-out", "cert.pem",
                "-days", str(days), "-extfile", "ext")
