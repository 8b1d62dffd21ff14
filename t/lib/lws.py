"""A client of the ports that `websockets` contexts open, for the t/75x files in Python. A port is
opened by a worker, so that nginx may be up before it is: connecting waits for that."""

import socket

from lib.live import await_, equal
from lib.peer import CLOSE, TEXT, Peer, frame

seen = set()


def is_open(port):
    if port not in seen:
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)):
                return False
        seen.add(port)
    return True


class Ws(Peer):
    """A client that has upgraded to a subprotocol (or several that it offers)."""

    def __init__(self, ng, protocol, port, lines=(), **options):
        await_(lambda: is_open(port), f"port {port} opens")
        super().__init__(ng, "/", port=port, **options,
                         lines=[f"Sec-WebSocket-Protocol: {protocol}", *lines])

    def text(self):
        first, data = self.frame()
        equal(first, TEXT, "frame")
        return data.decode()

    def ask(self, text):
        self.send(frame(TEXT, text))
        return self.text()

    def leave(self, code=b"\x03\xe8"):
        self.send(frame(CLOSE, code))
        equal(self.frame(), (CLOSE, code[:2]))
        equal(self.rest(), b"")
        self.close()
