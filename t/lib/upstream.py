"""An upstream of which every byte is the test's own: a listening socket on this machine, and what has
connected to it. The other end of peer.py."""

import base64
import hashlib
import socket
import struct
import threading

from lib.live import PATIENCE
from lib.peer import frame


def accept_of(key):
    """The answer to a client's key (RFC 6455 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())


class Upstream:
    """Listens on a port that is free."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(PATIENCE)
        self.port = self.listener.getsockname()[1]

    def narrow(self, window):
        """A small receive window for what connects from now on; None: as it is."""
        if window:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)

    def accept(self, tls=None):
        """The next connection, whose request head has come; `tls` is a server's context."""
        sock = self.listener.accept()[0]
        return Accepted(tls.wrap_socket(sock, server_side=True) if tls else sock)

    def close(self):
        self.listener.close()


class Accepted:
    """One connection. `head` is the request's."""

    def __init__(self, sock):
        self.sock, self.buffer = sock, b""
        sock.settimeout(PATIENCE)
        while b"\r\n\r\n" not in self.buffer:
            data = sock.recv(65536)
            if not data:
                raise AssertionError(f"the stream ended after {self.buffer!r}")
            self.buffer += data
        self.head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")

    def upgrade(self, first=b""):
        """Answers with a 101; `first` follows in the same packet."""
        key = self.head.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r")[0]
        self.sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                          b"Connection: upgrade\r\nSec-WebSocket-Accept: " + accept_of(key) + b"\r\n\r\n" + first)
        return self

    def send(self, first, payload=b""):
        """A server's frame."""
        self.sock.sendall(frame(first, payload, key=b""))

    def exactly(self, count):
        data = bytearray(self.buffer[:count])
        self.buffer = self.buffer[count:]
        while len(data) < count:
            more = self.sock.recv(min(count - len(data), 1 << 20))
            if not more:
                raise AssertionError(f"the stream ended {count - len(data)} bytes too early")
            data += more
        return bytes(data)

    def frame(self):
        """The next frame of the client, unmasked: first byte and payload."""
        first, size = self.exactly(2)
        assert size & 0x80, "a client's frame without a masking key"
        size &= 0x7f
        if size == 126:
            size, = struct.unpack(">H", self.exactly(2))
        elif size == 127:
            size, = struct.unpack(">Q", self.exactly(8))
        key, body = self.exactly(4), self.exactly(size)
        pad = (key * (size // 4 + 1))[:size]
        plain = int.from_bytes(body, "big") ^ int.from_bytes(pad, "big")
        return first, plain.to_bytes(size, "big")

    def ended(self):
        """Whether nothing but the end of the stream, or a reset, comes."""
        try:
            return self.buffer + self.sock.recv(65536) == b""
        except ConnectionResetError:
            return True

    def rst(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self):
        self.sock.close()


class Asked:
    """A request to nginx that waits for its answer, and the upstream's end of the connection that its handler
    makes, upgraded. The handler has the request's path as `id`, and the upstream's port as `port`."""

    def __init__(self, ng, path, window=None, tls=None):
        self.ng, self.id, self.body = ng, path, None
        self.upstream = Upstream()
        self.upstream.narrow(window)
        url = f"{path}?id={path}&port={self.upstream.port}"
        self.thread = threading.Thread(target=self.ask, args=(url,))
        self.thread.start()
        self.conn = self.upstream.accept(tls).upgrade()

    def ask(self, url):
        try:
            self.body = self.ng.get(url)
        except (AssertionError, OSError) as error:
            self.body = repr(error)

    def report(self):
        """What the handler has reported so far, once there is something."""
        return self.ng.get(f"/live/take?id={self.id}&wait=60")

    def signal(self):
        """Lets a handler go on that waits for it."""
        self.ng.get(f"/live/signal?id={self.id}")

    def done(self):
        """What the handler has printed."""
        self.conn.sock.close()
        self.upstream.close()
        self.thread.join()
        return self.body
