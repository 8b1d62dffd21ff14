"""What the tests over real brokers share: Redis as our child, machines (nginx with zones of their own) and
their numbers, a name server, and certificates."""

import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading

from lib.live import PATIENCE, VALGRIND, Nginx, await_

REDIS = shutil.which("redis-server") or shutil.which("valkey-server")


def skip_without(program, name):
    """Ends the file where the program cannot be had."""
    if not program or VALGRIND:
        print("1..0 # SKIP " + ("takes long under valgrind" if VALGRIND else f"no {name} here"))
        raise SystemExit


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
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as s:
            if self.tls:
                context = ssl.create_default_context(cafile=self.tls.authority)
                s = context.wrap_socket(s, server_hostname=self.tls.name)
            f = s.makefile("rwb")
            for command in ([("AUTH", self.word)] if self.word else []) + [words]:
                f.write(b"*%d\r\n" % len(command))
                for word in command:
                    word = word if isinstance(word, bytes) else str(word).encode()
                    f.write(b"$%d\r\n%s\r\n" % (len(word), word))
                f.flush()
                answer = f.readline().decode().strip()
            if answer.startswith("$") and answer != "$-1":
                answer = f.read(int(answer[1:])).decode(errors="replace")
            s.close()
        return answer

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
