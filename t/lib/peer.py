"""A raw WebSocket client whose every byte, TLS record and TCP flag is the test's own. Used by the
.t files in Python together with live.py, whose nginx it talks to and whose handlers' reports it
fetches.
"""

import os
import socket
import ssl
import struct

from lib.live import PATIENCE


def frame(first, payload=b"", key=b"\x9a\x03\xf7\x51"):
    """A frame as a client sends it (RFC 6455 5.2); without a key it stays plain."""
    if isinstance(payload, str):
        payload = payload.encode()
    size, bit = len(payload), 0x80 if key else 0
    if size < 126:
        head = struct.pack(">BB", first, bit | size)
    elif size < 65536:
        head = struct.pack(">BBH", first, bit | 126, size)
    else:
        head = struct.pack(">BBQ", first, bit | 127, size)
    if not key:
        return head + payload
    pad = (key * (size // 4 + 1))[:size]
    body = (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(size, "big")
    return head + key + body


TEXT, BINARY_FRAME, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8a


def head(path, lines=()):
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: t", "Upgrade: websocket",
                        "Connection: Upgrade", "Sec-WebSocket-Version: 13",
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", *lines, "", ""]).encode()


class Peer:
    """A client that has upgraded. `first` is sent in one packet with the request; `window` limits
    what the kernel takes on its behalf; `tls` is an ssl.SSLContext. With `request` that is all it
    sends, and no answer is awaited."""

    ids = 0

    def __init__(self, ng, path="", first=b"", window=None, tls=None, port=None, lines=(),
                 request=None):
        Peer.ids += 1
        self.ng, self.id, self.buffer = ng, f"{os.getpid()}-{Peer.ids}", b""
        self.sock = socket.socket()
        self.sock.settimeout(PATIENCE)
        if window:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self.sock.connect(("127.0.0.1", port or ng.port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.sock = tls.wrap_socket(self.sock, server_hostname="localhost",
                                        suppress_ragged_eofs=False)
        if request is not None:
            self.send(request)
            return
        self.send(head(self.url(path), lines) + first)
        self.answer = self.until(b"\r\n\r\n")
        if not self.answer.startswith(b"HTTP/1.1 101 "):
            raise AssertionError(f"{path}: {self.answer!r}")

    def url(self, path):
        return f"{path}{'&' if '?' in path else '?'}id={self.id}"

    def send(self, data):
        self.sock.sendall(data)

    def more(self):
        data = self.sock.recv(262144)
        self.buffer += data
        return data

    def until(self, mark):
        while mark not in self.buffer:
            if not self.more():
                raise AssertionError(f"the stream ended after {self.buffer!r}")
        data, _, self.buffer = self.buffer.partition(mark)
        return data + mark

    def exactly(self, count):
        parts, have = [self.buffer], len(self.buffer)
        while have < count:
            data = self.sock.recv(262144)
            if not data:
                raise AssertionError(f"the stream ended {count - have} bytes too early")
            parts.append(data)
            have += len(data)
        data = b"".join(parts)
        self.buffer = data[count:]
        return data[:count]

    def peek(self, count):
        """The next bytes, which stay to be read."""
        data = self.exactly(count)
        self.buffer = data + self.buffer
        return data

    def frame(self):
        """The next frame: first byte and payload."""
        first, size = self.exactly(2)
        if size == 126:
            size, = struct.unpack(">H", self.exactly(2))
        elif size == 127:
            size, = struct.unpack(">Q", self.exactly(8))
        assert size < 1 << 40, "the server masked a frame or lost its place"
        return first, self.exactly(size)

    def rest(self):
        """Everything up to the end of the stream."""
        while self.more():
            pass
        data, self.buffer = self.buffer, b""
        return data

    def report(self, patience=PATIENCE):
        """The next thing the handler of this connection reported."""
        return self.ng.get(f"/live/take?id={self.id}&wait={patience}", patience=patience + 5)

    def fin(self):
        self.sock.shutdown(socket.SHUT_WR)

    def rst(self):
        """Ends the connection by a reset."""
        fd = self.sock.detach()  # past TLS, which would say goodbye
        raw = socket.socket(fileno=fd)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.close()

    def signal(self):
        """Lets the handler go on that waits in live.take_signal()."""
        self.ng.get(f"/live/signal?id={self.id}")

    def close(self):
        self.sock.close()


def context():
    tls = ssl.create_default_context()
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE
    return tls
