BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# A client without a master process, over a reload: nginx's new cycle has no connections of its own,
# those that are open stay in the old one's.
import hashlib
import os
import re
import socket

from lib.live import PATIENCE, PORT, ROOT, Cases, Nginx, Tap, await_, equal
from lib.peer import BINARY_FRAME, frame
from lib.upstream import accept_of

SIZE = 100000
UPSTREAM = PORT + 7

tap = Tap()
case = Cases()

case.handler("/client", """
    local wb = require("resty.websocket.client"):new{ max_payload_len = 2^24, timeout = 60000 }
    assert(wb:connect("ws://127.0.0.1:%d/"))
    ngx.say("connected")
    ngx.flush(true)
    while true do
        local data, typ = wb:recv_frame()
        if typ ~= "binary" then
            break
        end
        assert(wb:send_text(ngx.md5(data)))
    end
    ngx.say("over")
""" % UPSTREAM)


class Single(Nginx):
    """nginx as its own worker."""

    def workers(self):
        return [self.child.pid] if os.path.exists(f"{ROOT}/logs/nginx.pid") else []


def until(sock, mark, have=b""):
    while mark not in have:
        data = sock.recv(65536)
        assert data, f"the stream ended after {have!r}"
        have += data
    return have


def shake_hands(sock):
    head = until(sock, b"\r\n\r\n")
    key = re.search(rb"Sec-WebSocket-Key: (\S+)", head, re.I)[1]
    accept = accept_of(key)
    sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")


def reloaded():
    ng = Single(server=case.server, main="master_process off;")
    with socket.create_server(("127.0.0.1", UPSTREAM)) as listener:
        try:
            ng.start()
            browser = socket.create_connection(("127.0.0.1", ng.port), PATIENCE)
            browser.sendall(b"GET /client HTTP/1.1\r\nHost: t\r\n\r\n")
            listener.settimeout(PATIENCE)
            upstream, _ = listener.accept()
            upstream.settimeout(PATIENCE)
            shake_hands(upstream)
            until(browser, b"connected")
            for number in range(6):
                if number == 2:
                    ng.signal("HUP")
                    await_(lambda: "reconfiguring" in ng.read_log(), "the reload")
                data = bytes([number]) * SIZE
                upstream.sendall(frame(BINARY_FRAME, data, key=None))
                # Masked, 32 bytes: two bytes of header, four of key.
                answer = b""
                while len(answer) < 38:
                    more = upstream.recv(65536)
                    assert more, "nginx has gone"
                    answer += more
                text = bytes(byte ^ answer[2 + i % 4] for i, byte in enumerate(answer[6:]))
                equal(text.decode(), hashlib.md5(data).hexdigest(), f"frame {number}")
            upstream.close()
            until(browser, b"over")
            equal(ng.child.poll(), None, "nginx lives")
            ng.stop("TERM")
        finally:
            ng.kill()


tap.attempt("a client's large frames before and after a reload", reloaded)
tap.done()
