"""What stands between a machine and its broker, and is not always as good as a wire; and a server that
lies."""

import re
import socket
import threading
import time


class Shim(threading.Thread):
    """A port before another one. `mode` says how it treats what comes: "open" passes it on, "drip" passes
    on what the server sends in single bytes, "stuck" nothing, in connections that stay so for ever,
    "stalled" nothing of the server's for now, "loading" answers each command itself, as a server
    that is about to be there. `cut` cuts all connections within the next frame of the server."""

    def __init__(self, port, target):
        super().__init__(daemon=True)
        self.target, self.mode, self.cutting, self.connections = target, "open", False, 0
        self.door = socket.create_server(("127.0.0.1", port))
        self.start()

    def run(self):
        while True:
            client, _ = self.door.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        if self.mode == "loading":
            return self.load(client)
        if self.mode == "stuck":
            return self.hold(client)
        try:
            server = socket.socket()
            # What a stalled connection does not take is not kept for it here.
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
            server.connect(("127.0.0.1", self.target))
        except OSError:
            return client.close()
        threading.Thread(target=self.pump, args=(client, server, False), daemon=True).start()
        self.pump(server, client, True)

    def hold(self, *ends):
        # As long as the test lasts.
        self.held = [*getattr(self, "held", []), *ends]

    def load(self, client):
        try:
            while data := client.recv(65536):
                commands = len(re.findall(rb"^\*\d+\r$", data, re.M))
                client.sendall(b"-LOADING Redis is loading the dataset in memory\r\n" * commands)
        except OSError:
            pass
        client.close()

    def pump(self, source, sink, of_server):
        try:
            while True:
                while of_server and self.mode == "stalled":
                    time.sleep(0.01)
                data = source.recv(65536)
                if self.mode == "stuck":
                    return self.hold(source, sink)
                if not data:
                    break
                if of_server and self.cutting:
                    self.cutting = False
                    sink.sendall(data[:-1])
                    break
                if of_server and self.mode == "drip":
                    for n in range(len(data)):
                        sink.sendall(data[n:n + 1])
                        time.sleep(0)
                else:
                    sink.sendall(data)
        except OSError:
            pass
        for end in source, sink:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Liar(threading.Thread):
    """A Redis with a history that never ends: each read of it says that there is more."""

    def __init__(self, port, epochs=1):
        super().__init__(daemon=True)
        self.reads, self.epochs = 0, epochs
        self.door = socket.create_server(("127.0.0.1", port))
        self.start()

    def run(self):
        while True:
            try:
                client, _ = self.door.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        file = client.makefile("rb")
        try:
            while line := file.readline():
                words = []
                for _ in range(int(line[1:])):
                    size = int(file.readline()[1:])
                    words.append(file.read(size + 2)[:-2])
                client.sendall(self.answer(*words))
        except (OSError, ValueError):
            pass
        client.close()

    def answer(self, verb, *words):
        def bulk(word):
            return b"$%d\r\n%s\r\n" % (len(word), word)
        if verb == b"HELLO":
            return b"%0\r\n"
        if verb == b"ROLE":
            return b"*1\r\n+master\r\n"
        if verb == b"INFO":
            return bulk(b"master_replid:one\r\n")
        if verb == b"SCRIPT":
            return bulk(b"digest")
        if verb == b"SUBSCRIBE":
            return b"".join(b">3\r\n+subscribe\r\n%s:1\r\n" % bulk(name) for name in words)
        if verb == b"PUBLISH":
            return b">3\r\n+message\r\n" + bulk(words[0]) + bulk(words[1]) + b":1\r\n"
        if verb != b"EVALSHA":
            return b"-ERR unknown command\r\n"
        self.reads += 1
        # One message more each time, of a history that grows.
        topic = words[2].partition(b"ws:s:")[2]
        head = bytes([2, 0, 0, len(topic)]) + bytes(18)
        message = bytes(8) + head + topic + b"x"
        epoch = b"%08d" % (self.reads % self.epochs)
        return b"*5\r\n%s:%d\r\n:%d\r\n*1\r\n%s:1\r\n" % (
            bulk(epoch), 1 << 40, self.reads - 1, bulk(message))
