BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# TLS whose peer asks for other keys and reads nothing: OpenSSL wants to write before it reads then, and
# nginx puts its own handler on the write event, and ours aside.
import ctypes
import ctypes.util
import socket
import struct
import sys

from lib.live import PATIENCE, Cases, await_, equal, run
from lib.peer import CLOSE, PING, PONG, TEXT, Peer, frame

NAME = ctypes.util.find_library("ssl")
SSL = ctypes.CDLL(NAME) if NAME else None
if not hasattr(SSL, "SSL_key_update"):
    print("1..0 # SKIP no libssl whose keys can be updated")
    sys.exit()
for name in "TLS_client_method", "SSL_CTX_new", "SSL_new":
    getattr(SSL, name).restype = ctypes.c_void_p
REQUESTED = 1


class Keys:
    """What Peer takes for an ssl.SSLContext: OpenSSL as it is, for Python's cannot update keys. Over a Unix
    socket, into which a record fits or does not: what follows the one that filled it waits."""

    def __init__(self, path):
        self.path = path

    def wrap_socket(self, sock, **_):
        sock.close()
        return Updating(self.path)


class Updating:
    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        for option in socket.SO_RCVTIMEO, socket.SO_SNDTIMEO:
            self.sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", PATIENCE, 0))
        self.ctx = ctypes.c_void_p(SSL.SSL_CTX_new(ctypes.c_void_p(SSL.TLS_client_method())))
        self.ssl = ctypes.c_void_p(SSL.SSL_new(self.ctx))
        SSL.SSL_set_fd(self.ssl, self.sock.fileno())
        equal(SSL.SSL_connect(self.ssl), 1, "handshake")

    def sendall(self, data):
        equal(SSL.SSL_write(self.ssl, data, len(data)), len(data), "SSL_write")

    def recv(self, size):
        room = ctypes.create_string_buffer(size)  # which gets one record at most
        got = SSL.SSL_read(self.ssl, room, size)
        return room.raw[:got] if got > 0 else b""

    def update(self):
        """Changes its keys, and asks for others of the server."""
        equal(SSL.SSL_key_update(self.ssl, REQUESTED), 1, "key update")
        equal(SSL.SSL_do_handshake(self.ssl), 1, "its message")

    def close(self):
        self.sock.close()


RECORD = 1024
RECORDS = 300
case = Cases()
case.server = """
    location = /publish { content_by_lua_block { require("resty.websocket").publish("a", "pushed") } }
    } server { listen unix:SOCKET ssl; ssl_protocols TLSv1.3; ssl_buffer_size 1k; CERTIFICATE
    error_log logs/debug.log debug;
    location = /serve { content_by_lua_block {
        local live, id = require "live", ngx.var.arg_id
        assert(require("resty.websocket").serve{
            on_open = function(ws)
                ws:subscribe("a")
                ws:send(("x"):rep(SIZE))
                live.report_as(id, "sent")
            end,
            on_message = function(ws, data) ws:send(data) end })
        live.take_signal()
        live.report("returns") } }
    location = /accept { send_timeout 300ms; content_by_lua_block {
        local live = require "live"
        local ws = require("resty.websocket").accept()
        ws:send(("x"):rep(SIZE))
        live.report("sent")
        live.take_signal() } }
"""


def count(ng, text):
    with open(f"{ng.root}/logs/debug.log") as log:
        return log.read().count(text)


def message(peer):
    while (got := peer.frame()) == (PONG, b"p"):
        pass
    return got


def ping(ng, peer, reads):
    """The server reads and writes once, when one record has left, or none."""
    if reads:
        peer.more()
    peer.send(frame(PING, "p"))
    equal(ng.sessions(), 1)


def crossed(ng, path, left):
    """A peer whose server can neither read nor write, with so many records left to be written."""
    before = count(ng, "SSL_read: want write")
    all_written = count(ng, f"SSL_write: {RECORD}") + RECORDS
    peer = Peer(ng, path, tls=Keys(f"{ng.root}/tls.sock"))
    equal(peer.report(), "sent")
    while count(ng, f"SSL_write: {RECORD}") < all_written - left:
        ping(ng, peer, reads=True)
    peer.sock.update()
    # The record that waited leaves, and the new key does not.
    ping(ng, peer, reads=True)
    ping(ng, peer, reads=False)
    assert count(ng, "SSL_read: want write") > before, "TLS goes on"
    return peer


@case("a peer that takes nothing is given up in time")
def _(ng):
    peer = crossed(ng, "/accept", 100)
    peer.signal()
    await_(lambda: ng.connections() == 0, "it is gone")
    equal(count(ng, "client timed out while output was pending"), 1)
    peer.close()


@case("all leaves without a read, and the request is freed")
def _(ng):
    peer = crossed(ng, "/serve", 4)
    peer.signal()
    equal(peer.report(), "returns")
    # There is room for all, but not so much that the kernel says so.
    for _ in range(8):
        peer.more()
    ng.get("/publish")
    await_(lambda: "Writing: 1" in ng.get("/live/status"), "the request is freed")
    equal(peer.frame(), (TEXT, b"x" * RECORDS * RECORD))
    equal(message(peer), (TEXT, b"pushed"))
    peer.send(frame(TEXT, "hello"))
    equal(message(peer), (TEXT, b"hello"))
    peer.send(frame(CLOSE, b"\x03\xe8"))
    equal(peer.frame(), (CLOSE, b"\x03\xe8"))
    equal(peer.rest(), b"")
    peer.close()


def prepare(ng):
    server = case.server.replace("SOCKET", f"{ng.root}/tls.sock").replace("CERTIFICATE", ng.certificate())
    return dict(server=server.replace("SIZE", str(RECORDS * RECORD)),
                http="websocket_send_buffer 1k;")


run(case, prepare=prepare)
