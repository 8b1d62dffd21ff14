BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# wss: the same session with TLS underneath. Large frames both ways, frames that come together with
# the end of the TLS handshake, records that cut frames anywhere, output pending when the handler
# ends, and peers that leave without TLS's goodbye.
import os
import re
import select
import socket
import ssl
import subprocess
import time

from lib.live import BINARY, EVENT_TYPE, PATIENCE, VALGRIND, Cases, await_, equal, run
from lib.peer import BINARY_FRAME, CLOSE, TEXT, Peer, context, frame, head

case = Cases()
MIB = 1 << 20
SLOW = 5 if VALGRIND else 1
VERSIONS = {"TLS 1.3": ssl.TLSVersion.TLSv1_3, "TLS 1.2": ssl.TLSVersion.TLSv1_2}


def tls(version="TLS 1.3"):
    made = context()
    made.minimum_version = made.maximum_version = VERSIONS[version]
    return made


def connect(ng, path, version="TLS 1.3", **more):
    return Peer(ng, path, tls=tls(version), port=ng.port + 1, **more)


ECHO = f"""
    live.report(live.echo(live.open{{ max_payload_len = 2 * {MIB}, timeout = 60000 }}))
"""
case.handler("/echo", ECHO)
case.handler("/watched", ECHO, "error_log logs/watched.log debug;")


@case("every length class and 1 MiB both ways")
def _(ng):
    for version in VERSIONS:
        peer = connect(ng, "/echo", version)
        for size in 0, 1, 125, 126, 127, 16383, 16384, 65535, 65536, MIB:
            data = os.urandom(size)
            peer.send(frame(BINARY_FRAME, data))
            equal(peer.frame(), (BINARY_FRAME, data), f"{version}, {size} bytes")
        peer.send(frame(CLOSE, b"\x03\xe8bye"))
        equal(peer.frame(), (CLOSE, b"\x03\xe8bye"))
        equal(peer.rest(), b"")
        equal(peer.report(), "nil")
        peer.close()


@case("many small frames in one record, and one frame in many records")
def _(ng):
    peer = connect(ng, "/echo")
    peer.send(b"".join(frame(TEXT, f"{n}") for n in range(500)))
    for n in range(500):
        equal(peer.frame(), (TEXT, b"%d" % n))
    for byte in frame(TEXT, "byte by byte") + frame(BINARY_FRAME, b"x" * 130):
        peer.send(bytes([byte]))  # a record each
    equal(peer.frame(), (TEXT, b"byte by byte"))
    equal(peer.frame(), (BINARY_FRAME, b"x" * 130))
    peer.close()
    equal(peer.report(), "failed to receive the first 2 bytes: closed")


def logs_debug():
    done = subprocess.run([BINARY, "-V"], check=True, stderr=subprocess.PIPE, text=True)
    return "--with-debug" in done.stderr


@case("nothing is asked for behind a record that is all there is")
def _(ng):
    peer = connect(ng, "/watched")
    for n in range(50):
        peer.send(frame(TEXT, f"{n}"))
        equal(peer.frame(), (TEXT, b"%d" % n))
    if EVENT_TYPE in (None, "epoll") and logs_debug():
        with open(f"{ng.root}/logs/watched.log") as log:
            reads = re.findall(r"SSL_read: (-?\d+)", log.read())
        assert len(reads) >= 50, reads
        # A connection that waits has learned so once or twice.
        assert reads.count("-1") < 10, reads
    peer.close()
    equal(peer.report(), "failed to receive the first 2 bytes: closed")


class ByHand:
    """A TLS client whose records are sent when the test says so."""

    def __init__(self, ng, version):
        self.sock = socket.create_connection(("127.0.0.1", ng.port + 1), PATIENCE)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = tls(version).wrap_bio(self.incoming, self.outgoing,
                                         server_hostname="localhost")

    def handshake(self):
        """Up to the last flight, which stays in `outgoing`."""
        while True:
            try:
                self.tls.do_handshake()
                return
            except ssl.SSLWantReadError:
                self.flush()
                self.incoming.write(self.sock.recv(65536))

    def flush(self):
        self.sock.sendall(self.outgoing.read())

    def recv(self, size):
        while True:
            try:
                return self.tls.read(size)
            except ssl.SSLWantReadError:
                data = self.sock.recv(65536)
                if not data:
                    return b""
                self.incoming.write(data)

    def sendall(self, data):
        self.tls.write(data)
        self.flush()

    def close(self):
        self.sock.close()


@case("a request and frames in the packet that ends the TLS handshake")
def _(ng):
    # In TLS 1.3 the client speaks last and may go on at once. A long payload does not fit into
    # nginx's buffer for the request head: the rest waits inside TLS.
    for size in 5, 3000, 40000:
        hand = ByHand(ng, "TLS 1.3")
        hand.handshake()
        peer = Peer(ng, request=b"")
        peer.close()
        peer.sock = hand
        request = head(peer.url("/echo"))
        hand.tls.write(request + frame(TEXT, "at once") + frame(BINARY_FRAME, b"l" * size))
        hand.flush()
        assert peer.until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
        equal(peer.frame(), (TEXT, b"at once"))
        equal(peer.frame(), (BINARY_FRAME, b"l" * size))
        peer.send(frame(TEXT, "later"))
        equal(peer.frame(), (TEXT, b"later"))
        peer.close()
        equal(peer.report(), "failed to receive the first 2 bytes: closed")


def by_hand(ng):
    """An upgraded one; what its `tls` writes leaves with `flush`."""
    hand = ByHand(ng, "TLS 1.3")
    hand.handshake()
    peer = Peer(ng, request=b"")
    peer.close()
    peer.sock = hand
    peer.send(head(peer.url("/echo")))
    assert peer.until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
    return peer, hand


@case("records in pieces, cut anywhere")
def _(ng):
    peer, hand = by_hand(ng)
    for cut in range(1, 200, 7):
        for n in range(3):
            hand.tls.write(frame(TEXT, f"{cut}, {n}"))
        records = hand.outgoing.read()
        for piece in records[:cut], records[cut:]:
            hand.sock.sendall(piece)
            time.sleep(0.002)  # most come as pieces
        for n in range(3):
            equal(peer.frame(), (TEXT, f"{cut}, {n}".encode()))
    peer.close()
    equal(peer.report(), "failed to receive the first 2 bytes: closed")


case.handler("/slowly", f"""
    local wb = live.open{{ max_payload_len = 4 * {MIB} }}
    live.report((wb:send_binary(("s"):rep(3 * {MIB}))))
    for n = 1, 200 do
        wb:send_text(("%03d"):format(n) .. ("t"):rep(997))
    end
    live.report("returning")
""")


@case("a slow reader: sends wait, what is pending at the end arrives")
def _(ng):
    for version in VERSIONS:
        peer = connect(ng, "/slowly", version, window=16384)
        time.sleep(0.1)
        equal(peer.frame(), (BINARY_FRAME, b"s" * (3 * MIB)), version)
        equal(peer.report(), str(3 * MIB + 10))
        equal(peer.report(), "returning")
        for n in range(1, 201):
            equal(peer.frame(), (TEXT, b"%03d" % n + b"t" * 997))
        equal(peer.rest(), b"")
        peer.close()


LIMIT = 400 * SLOW
ENDINGS = {"return": "return", "444": "ngx.exit(444)", "ok": "ngx.exit(ngx.OK)",
           "error": 'error("on purpose")'}
for name, code in ENDINGS.items():
    case.handler(f"/end-{name}", f"""
        local wb = live.open{{ max_payload_len = 4 * {MIB} }}
        ngx.timer.at(0, function() wb:send_binary(("p"):rep(3 * {MIB})) end)
        live.take_signal()
        {code}
    """, f"send_timeout {LIMIT}ms; lua_socket_send_timeout {LIMIT}ms;")


@case("3 MiB pending at the end, however the handler ends",
      logs="lua entry thread aborted: runtime error: .*: on purpose")
def _(ng):
    for name in ENDINGS:
        peer = connect(ng, f"/end-{name}", window=16384)
        equal(peer.peek(2), b"\x82\x7f")
        peer.signal()
        time.sleep(0.05)
        equal(peer.frame(), (BINARY_FRAME, b"p" * (3 * MIB)), name)
        try:
            equal(peer.rest(), b"", name)
        except ssl.SSLEOFError:
            # nginx says no goodbye on a connection it terminates.
            assert name in ("444", "error"), name
        peer.close()


@case("a peer that never reads is dropped after the send time-out",
      logs="lua entry thread aborted: runtime error: .*: on purpose")
def _(ng):
    for name in ENDINGS:
        peer = connect(ng, f"/end-{name}", window=16384)
        await_(lambda: ng.sessions() == 1, "the session")
        began = time.monotonic()
        peer.signal()
        await_(lambda: ng.connections() == 0, f"{name}: the connection is dropped")
        assert time.monotonic() - began > LIMIT / 1000 * 0.9, name
        peer.close()


case.handler("/reset", f"""
    local wb = live.open{{ max_payload_len = 4 * {MIB} }}
    ngx.timer.at(0, function() wb:send_binary(("p"):rep(3 * {MIB})) end)
    if ngx.var.arg_when == "draining" then
        live.take_signal()
        if ngx.var.arg_how == "exit" then
            ngx.exit(444)
        end
        return
    end
    live.report("open")
    live.report(wb:recv_frame())
    live.report((wb:send_text("x")))
""", "send_timeout 60s; lua_socket_send_timeout 60s;")


@case("a peer that resets with output pending is gone at once, not after the send time-out")
def _(ng):
    for how in "return", "exit":
        peer = connect(ng, f"/reset?when=draining&how={how}", window=16384)
        equal(peer.peek(2), b"\x82\x7f")
        peer.signal()
        peer.rst()
        await_(lambda: ng.connections() == 0, f"the connection is gone ({how})", PATIENCE)
    peer = connect(ng, "/reset?when=reading", window=16384)
    equal(peer.report(), "open")
    equal(peer.peek(2), b"\x82\x7f")
    peer.rst()
    # nginx takes a reset that OpenSSL has no error for as an end of the stream.
    equal(peer.report(), "nil | nil | failed to receive the first 2 bytes: closed")
    equal(peer.report(), "nil")
    await_(lambda: ng.connections() == 0, "the connection is gone (while reading)", PATIENCE)


@case("a peer that ends TCP without ending TLS")
def _(ng):
    for version in VERSIONS:
        peer = connect(ng, "/echo", version)
        peer.send(frame(TEXT, "hello"))
        equal(peer.frame(), (TEXT, b"hello"))
        peer.sock.shutdown(socket.SHUT_WR)
        equal(peer.report(), "failed to receive the first 2 bytes: closed")
        peer.close()


@case("a peer that ends TLS in the middle of a frame")
def _(ng):
    peer = connect(ng, "/echo")
    peer.send(frame(TEXT, "half a frame")[:-3])
    try:
        peer.sock.unwrap()
    except ssl.SSLEOFError:
        pass  # it says no goodbye to a peer that said so first
    equal(peer.report(), "failed to read masking-len and payload: closed")
    peer.close()


# nginx with OpenSSL 3 logs a forged record as "crit" on any TLS connection: the error in OpenSSL's
# queue that it looks at (1.22 the provider's; 1.26 with OpenSSL 3.5 the record layer's) is none that
# it knows to be a peer's doing.
@case("a record that is not TLS",
      logs=r"\[crit\].*SSL_read\(\) failed .*(?:bad record mac|record layer failure)")
def _(ng):
    for version in VERSIONS:
        for garbage in b"GET / HTTP/1.1\r\n\r\n", b"\x17\x03\x03\x00\x20" + b"g" * 32:
            peer = connect(ng, "/echo", version)
            peer.send(frame(TEXT, "hello"))
            equal(peer.frame(), (TEXT, b"hello"))
            raw = socket.socket(fileno=peer.sock.detach())
            raw.sendall(garbage)
            equal(peer.report(), "failed to receive the first 2 bytes: closed", garbage)
            raw.close()


case.handler("/duplex", f"""
    local wb = live.open{{ max_payload_len = 4 * {MIB}, timeout = 60000 }}
    local writer = ngx.thread.spawn(function()
        for _ = 1, 20 do
            assert(wb:send_binary(("w"):rep(200000)))
        end
    end)
    local size = 0
    for _ = 1, 20 do
        size = size + #assert(wb:recv_frame())
    end
    assert(ngx.thread.wait(writer))
    live.report(size)
""")


@case("both ways at once")
def _(ng):
    # By one thread: an SSL object is not made for two at a time.
    peer = connect(ng, "/duplex")
    out = memoryview(frame(BINARY_FRAME, b"r" * 200000) * 20)
    expected = b"".join(frame(BINARY_FRAME, b"w" * 200000, key=None) for _ in range(20))
    got = bytearray()
    peer.sock.setblocking(False)
    while out or len(got) < len(expected):
        wants = [peer.sock] if out else []
        readable, writable, _ = select.select([peer.sock], wants, [], PATIENCE)
        assert readable or writable, f"{len(out)} bytes to send, {len(got)} received"
        try:
            out = out[peer.sock.send(out[:65536]):] if writable else out
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass
        try:
            while len(got) < len(expected):
                data = peer.sock.recv(262144)
                assert data, f"the stream ended after {len(got)} bytes"
                got += data
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass
    peer.sock.settimeout(PATIENCE)
    assert got == expected, "what came is not what was sent"
    equal(peer.report(), str(20 * 200000))
    equal(peer.rest(), b"")
    peer.close()


def secured(ng):
    return dict(prelude=f"listen 127.0.0.1:{ng.port + 1} ssl sndbuf=32k; {ng.certificate()}"
                        "ssl_protocols TLSv1.2 TLSv1.3;")


run(case, prepare=secured)
