"""Hostile traffic for the sweep (t/operations/hostile.t) and for `make soak`: one nginx that serves
every way a connection comes to the module, and peers that leave in every way there is. Whatever
they do, nginx may log it at info at most, and in the end nothing of them is left.
"""

import random
import socket
import struct
import threading

from lib.live import PATIENCE, PORT, ROOT, Cases
from lib.peer import CLOSE, PING, TEXT, context, frame, head

SECURE, LWS, LWS_TLS, TARANTOOL, FAKE = (PORT + n for n in range(2, 7))
EXTENSION = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
# (port, path, lines of the request); TLS where the port is one of SECRET.
PLACES = [
    *((port, path, ()) for port in (PORT, SECURE) for path in
      ("/frames", "/messages", "/push", "/feed", "/large")),
    (PORT, "/messages", (EXTENSION,)), (SECURE, "/messages", (EXTENSION,)),
    (LWS, "/", ("Sec-WebSocket-Protocol: echo",)),
    (LWS_TLS, "/", ("Sec-WebSocket-Protocol: echo",)),
    (TARANTOOL, "/", ()),
]
SECRET = {SECURE, LWS_TLS}
# What others say: nginx's TLS port before any module sees the connection, and ngx_lua's cosockets of
# the peers that a client has chosen.
OTHERS = (r"while SSL handshaking, client"
          r"|((recv|send)\(\) failed|SSL_do_handshake\(\) failed|peer closed connection in SSL handshake)"
          r".* request: \"GET /client")

case = Cases()
case.handler("/frames", """
    local wb = require("resty.websocket.server"):new{ timeout = 10000, max_payload_len = 2^20 }
    if not wb then return end
    live.echo(wb)
""")
case.handler("/messages", """
    local ws = require("resty.websocket").accept()
    if not ws then return end
    for data, typ in ws:messages() do ws:send(data, typ) end
""", "websocket_compression on;")
case.handler("/push", """
    local ws = require("resty.websocket").accept()
    if not ws then return end
    ws:subscribe("storm")
    while ws:send("tick") do ngx.sleep(0.01) end
""", "lua_check_client_abort on;")
case.handler("/large", """
    local ws = require("resty.websocket").accept{ send_timeout = 2000 }
    if not ws then return end
    local big = ("x"):rep(300000)
    while ws:send(big) do end
""")
# A client of ours, whose peer is the one of the test that breaks everything off (FAKE).
case.handler("/client", f"""
    local args = ngx.req.get_uri_args()
    local c = require("resty.websocket").connect(args.scheme .. "://127.0.0.1:{FAKE}/",
        {{ ssl_verify = false, timeout = 2000 }})
    if type(c) == "table" then
        for _ = 1, 3 do
            if not c:send("hello") or not c:recv(500) then break end
        end
        c:shutdown()
    end
    ngx.print("done")
""", "lua_socket_log_errors off;")
case.handler("/heap", "collectgarbage() collectgarbage() ngx.print(collectgarbage('count'))")
case.server += """
    location = /feed { websocket_subscribe storm; websocket_publish_from_client on; }
    location = /publish { websocket_publish storm; }
"""

PROGRAM = f"""
    local websockets = require "websockets"
    local protocols = {{ echo = function(ws)
        ws:on_receive(function(ws, data) ws:write(data) end)
    end }}
    for port, secure in pairs{{ [{LWS}] = false, [{LWS_TLS}] = true }} do
        websockets.context{{ port = port, protocols = protocols,
            ssl_cert_filepath = secure and "{ROOT}/conf/cert.pem" or nil,
            ssl_private_key_filepath = secure and "{ROOT}/conf/key.pem" or nil,
        }}:fork_service_loop()
    end
    assert(require("websocket").server("ws://127.0.0.1:{TARANTOOL}", function(ws)
        while true do
            local m = ws:read()
            if not m or m.opcode == nil then return end
            ws:write(m)
        end
    end, {{ ping_frequency = 3600 }}))
"""


def sections(ng):
    """What live.run() or Nginx.write() needs."""
    secure = ng.certificate()
    return dict(
        http=f"websocket_zone 8m; init_worker_by_lua_block {{ {PROGRAM} }}",
        prelude=f"listen 127.0.0.1:{SECURE} ssl; {secure}",
        listen="backlog=4096", server=case.server)


def reset(sock):
    """Breaks a connection off, past TLS, which would say goodbye."""
    raw = socket.socket(fileno=sock.detach())
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.close()


class Storm:
    """Peers that come and go badly, as `dice` has it: the same seed, the same storm."""

    def __init__(self, seed):
        self.dice, self.tls = random.Random(seed), context()
        self.count = 0

    def dial(self, port):
        sock = socket.socket()
        sock.settimeout(PATIENCE)
        if self.dice.random() < 0.2:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", port))
        return sock

    def leave(self, sock):
        """Every way out."""
        way = self.dice.randrange(4)
        try:
            if way == 0:
                reset(sock)
            elif way == 1:
                sock.shutdown(socket.SHUT_WR)
            elif way == 2:
                sock.sendall(frame(CLOSE, b"\x03\xe8"))
                sock.settimeout(1)
                sock.recv(65536)
        except OSError:
            pass
        sock.close()

    def traffic(self):
        """What a peer that has upgraded, or has not, says next."""
        dice = self.dice
        return dice.choice((
            lambda: frame(TEXT, "x" * dice.choice((0, 1, 125, 126, 5000))),
            lambda: frame(PING, b"p"),
            lambda: frame(TEXT, "half a frame" * 50)[:dice.randrange(1, 500)],
            lambda: frame(0x01, "first") + frame(0x80, "last"),
            lambda: frame(0xc1, b"\xf2\x48\xcd\xc9\xc9\x07\x00"),     # compressed "Hello"
            lambda: frame(TEXT, "not masked", key=None),
            lambda: frame(0x83, "reserved"),
            lambda: frame(TEXT, b"\xff\xfe"),
            lambda: bytes(dice.randrange(256) for _ in range(dice.randrange(1, 60))),
            lambda: b"",
        ))()

    def visit(self):
        """One connection."""
        self.count += 1
        dice = self.dice
        port, path, lines = dice.choice(PLACES)
        sock = self.dial(port)
        try:
            if port in SECRET:
                part = dice.random()
                if part < 0.1:      # nothing of a handshake, or half of one, or none
                    sock.sendall(dice.choice((b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n",
                                              b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00")))
                    return self.leave(sock)
                if part < 0.2:
                    out = self.hello()
                    sock.sendall(out[:dice.randrange(1, len(out) + 1)])
                    return self.leave(sock)
                sock = self.tls.wrap_socket(sock, server_hostname="localhost",
                                            suppress_ragged_eofs=False)
            request = head(path, lines)
            if dice.random() < 0.1:
                sock.sendall(request[:dice.randrange(1, len(request))])
                return self.leave(sock)
            sock.sendall(request + (self.traffic() if dice.random() < 0.3 else b""))
            if dice.random() < 0.8:
                sock.recv(65536)
            for _ in range(dice.randrange(6)):
                sock.sendall(self.traffic())
                if dice.random() < 0.3:
                    sock.settimeout(0.02)
                    try:
                        sock.recv(65536)
                    except TimeoutError:
                        pass
                    sock.settimeout(PATIENCE)
        except OSError:
            pass
        return self.leave(sock)

    def hello(self):
        """The first record of a TLS client."""
        import ssl
        to, from_ = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            self.tls.wrap_bio(to, from_, server_hostname="localhost").do_handshake()
        except ssl.SSLWantReadError:
            pass
        return from_.read()


class Fake:
    """A server for our clients which gets as far as it likes and then breaks off."""

    def __init__(self, seed):
        self.dice = random.Random(seed)
        self.sock = socket.create_server(("127.0.0.1", FAKE), backlog=128)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        answer = (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                  b"Connection: Upgrade\r\nSec-WebSocket-Accept: bad\r\n\r\n")
        while True:
            try:
                peer, _ = self.sock.accept()
            except OSError:
                return
            try:
                peer.settimeout(0.05)
                if self.dice.random() < 0.8:
                    peer.recv(4096)
                    peer.sendall(answer[:self.dice.randrange(len(answer) + 1)])
            except OSError:
                pass
            if self.dice.random() < 0.5:
                reset(peer)
            else:
                peer.close()

    def close(self):
        self.sock.close()
