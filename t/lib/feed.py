"""A subscriber of topics that remember, in JSON lines, for tests that ask it one thing at a time."""

import base64
import json
import socket
import struct

from lib.live import PATIENCE
from lib.peer import head


def position(cursor):
    """Epoch and offset of a cursor, which is opaque to all but tests."""
    return struct.unpack(">QQ", base64.urlsafe_b64decode(cursor[1:])[8:])


class Feed:
    """Subscribes by the location /feed, or another one, and reads lines."""

    def __init__(self, ng, topic, since="", path="/feed"):
        self.sock = socket.create_connection(("127.0.0.1", ng.port), PATIENCE)
        self.sock.sendall(head(f"{path}?t={topic}&since={since}"))
        self.file = self.sock.makefile("rb")
        self.answer = self.file.readline().decode().strip()
        while self.file.readline().strip():
            pass
        self.cursor = None

    def line(self):
        line = json.loads(self.message())
        self.cursor = line.get("cursor", self.cursor)
        return line

    def message(self):
        """A message as it came."""
        kind, size = self.file.read(2)
        if size == 126:
            size = struct.unpack(">H", self.file.read(2))[0]
        elif size == 127:
            size = struct.unpack(">Q", self.file.read(8))[0]
        data = self.file.read(size)
        if kind != 0x81:
            raise EOFError(f"closed: {data!r}")
        return data.decode()

    def data(self, n):
        return [self.line()["data"] for _ in range(n)]

    def close(self):
        self.file.close()
        self.sock.close()
