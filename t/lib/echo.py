"""One message there and back, for scripts: echo.py HOST PORT PATH TEXT prints what the server's echo
made of TEXT. Exits with an error if the handshake or the answer is not what it should be.
"""

import os
import socket
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lib.peer import CLOSE, TEXT, frame, head

host, port, path, text = sys.argv[1:]
with socket.create_connection((host, int(port)), 10) as sock:
    sock.sendall(head(path) + frame(TEXT, text))
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(4096)
    answer, _, data = data.partition(b"\r\n\r\n")
    if not answer.startswith(b"HTTP/1.1 101 "):
        sys.exit(answer.decode("latin-1"))
    expected = frame(TEXT, text, key=None)
    while len(data) < len(expected):
        more = sock.recv(4096)
        if not more:
            sys.exit(f"the server ended after {data!r}")
        data += more
    if data != expected:
        sys.exit(f"got {data!r}")
    sock.sendall(frame(CLOSE))
print(text)
