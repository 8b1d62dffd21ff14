BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# From a request to a session: the body before it, a 101 that has to wait, a client that is gone by
# then, origins, refusals, and what a connection hears that was subscribed before its 101 left.
import socket

from lib.live import PATIENCE, Cases, Tap, await_, equal, run
from lib.peer import CLOSE, PING, TEXT, Peer, frame, head

tap = Tap()
case = Cases()
ECHO = """
    local ws = assert(require("resty.websocket").accept())
    ws:send(ws:recv() or "")
    ws:close()
"""
case.server = """
    location = /publish { websocket_publish room; }
    location = /ws { websocket_subscribe room; websocket_publish_from_client on; }
    location = /rate { limit_rate 100; websocket_subscribe room; websocket_publish_from_client on; }
    location = /set { set $limit_rate 100; websocket_subscribe room; }
    location = /large {
        set_by_lua_block $padding { return ("x"):rep(4 * 1024 * 1024) }
        add_header X-Padding $padding always;
        websocket_subscribe room;
    }
    location = /discards { error_page 405 = @ws; websocket_publish room; }
    location @ws { websocket_subscribe room; }
    location = /topic { websocket_subscribe $arg_topic; }
    location = /publish-topic { websocket_publish $arg_topic; }

    location /origin/ {
        websocket_origin https://good.org *.example.com;
        location = /origin/ws { websocket_subscribe room; websocket_publish room; }
        location = /origin/required { websocket_subscribe room; websocket_publish room;
                                      websocket_origin https://good.org required; }
        location = /origin/off { websocket_subscribe room; websocket_origin off; }
        location = /origin/accept { content_by_lua_block {
            local ws, err, status = require("resty.websocket").accept()
            if not ws then return ngx.exit(status) end
        } }
        location = /origin/own { content_by_lua_block {
            local ws, err, status = require("resty.websocket").accept { origins = "https://own.org" }
            if not ws then return ngx.exit(status) end
        } }
        location = /origin/drop-in { content_by_lua_block {
            assert(require("resty.websocket.server"):new())
        } }
    }
"""
case.handler("/accept", ECHO)
case.handler("/accept-rate", ECHO, "limit_rate 100;")
case.handler("/drop-in-rate", """
    local wb = assert(require("resty.websocket.server"):new())
    wb:send_text((wb:recv_frame()))
""", "limit_rate 100;")
case.handler("/refused", """
    local ws, err, status = require("resty.websocket").accept()
    if not ws then return ngx.exit(status) end
""")
case.handler("/falls-back", """
    local wb, err = require("resty.websocket.server"):new()
    ngx.say(err)
""")
case.handler("/gone", """
    live.take_signal()
    local ws, err, status = require("resty.websocket").accept()
    live.report(err, status)
    return ngx.exit(status)
""")


def say(ng, target="/publish", method="POST", body=b"hello", lines=()):
    """Status and whole answer of one request."""
    with socket.create_connection(("127.0.0.1", ng.port), PATIENCE) as s:
        more = "".join(f"{line}\r\n" for line in lines)
        s.sendall(f"{method} {target} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n"
                  f"{more}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = b"".join(iter(lambda: s.recv(65536), b""))
    return int(answer.split()[1]), answer


def upgraded(peer):
    answer = peer.until(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 101 "), answer[:200]


def hears(ng, peer, what=b"hello"):
    equal(say(ng, body=what)[0], 202)
    equal(peer.frame(), (TEXT, what))
    peer.send(frame(CLOSE, b"\x03\xe8"))
    equal(peer.frame()[0], CLOSE)
    peer.close()


@case("limit_rate: the 101 waits, and nothing fails")
def _(ng):
    for path in "/rate", "/set":
        peer = Peer(ng, request=head(path))
        upgraded(peer)
        hears(ng, peer)
    for path in "/accept-rate", "/drop-in-rate":
        peer = Peer(ng, request=head(path) + frame(TEXT, b"early"))
        upgraded(peer)
        equal(peer.frame(), (TEXT, b"early"), path)
        peer.close()


@case("a message that comes while the 101 waits is heard behind it")
def _(ng):
    peer = Peer(ng, request=head("/rate") + frame(TEXT, b"mine"))
    peer.until(b"HTTP/1.1 101")
    assert b'"subscribers":1' in say(ng, body=b"early")[1]
    peer.until(b"\r\n\r\n")
    equal(peer.frame(), (TEXT, b"early"))
    equal(peer.frame(), (TEXT, b"mine"))
    hears(ng, peer)


@case("a full socket buffer: the 101 leaves in parts")
def _(ng):
    peer = Peer(ng, request=head("/large"), window=8192)
    peer.until(b"X-Padding: x")
    assert b'"subscribers":1' in say(ng, body=b"early")[1]
    upgraded_at = peer.until(b"\r\n\r\n")
    equal(upgraded_at[:1], b"x")
    equal(peer.frame(), (TEXT, b"early"))
    hears(ng, peer)


@case("a client that leaves while its 101 waits leaves nothing behind")
def _(ng):
    for leave in Peer.rst, Peer.close:
        peer = Peer(ng, request=head("/rate"))
        peer.until(b"HTTP/1.1 101")
        leave(peer)
        await_(lambda: b'"subscribers":0' in say(ng)[1], "the subscription ends")


@case("a request that brings a body: it is read, and is no frame")
def _(ng):
    listener = Peer(ng, "/ws")
    body = frame(TEXT, b"body")
    length = [f"Content-Length: {len(body)}"]
    chunked = b"%x\r\n%s\r\n3\r\nabc\r\n0\r\n\r\n" % (len(body), body)
    for lines, data in (length, body), (["Transfer-Encoding: chunked"], chunked):
        for path in "/ws", "/accept":
            for expect in False, True:
                for pause in False, True:
                    more = lines + (["Expect: 100-continue"] if expect else [])
                    first = head(path, more)
                    peer = Peer(ng, request=first if pause or expect else first + data +
                                frame(TEXT, b"real"))
                    if expect:
                        equal(peer.until(b"\r\n\r\n"), b"HTTP/1.1 100 Continue\r\n\r\n")
                    if pause and not expect:
                        peer.send(data[:3])
                        ng.get("/live/open")
                        peer.send(data[3:])
                        upgraded(peer)
                        peer.send(frame(TEXT, b"real"))
                    elif pause or expect:
                        peer.send(data + frame(TEXT, b"real"))
                        upgraded(peer)
                    else:
                        upgraded(peer)
                    equal(peer.frame(), (TEXT, b"real"), f"{path} {more} {pause}")
                    if path == "/ws":
                        equal(listener.frame(), (TEXT, b"real"))
                        peer.send(frame(CLOSE, b"\x03\xe8"))
                    peer.close()
    listener.close()


@case("a body that nginx is still throwing away would be taken for frames: no upgrade")
def _(ng):
    peer = Peer(ng, request=head("/discards", ["Content-Length: 10"]) + b"12345")
    equal(peer.until(b"\r\n").split()[1], b"400")
    peer.close()
    peer = Peer(ng, request=head("/discards", ["Content-Length: 5"]) + b"12345")
    upgraded(peer)
    hears(ng, peer)


@case("websocket_origin")
def _(ng):
    def upgrade(path, *origins):
        peer = Peer(ng, request=head(path, [f"Origin: {origin}" for origin in origins]))
        status = int(peer.until(b"\r\n").split()[1])
        peer.close()
        return status

    for path in "/origin/ws", "/origin/accept":
        for origin, status in [("https://good.org", 101), ("HTTPS://Good.org", 101),
                               ("https://a.example.com:8080", 101), ("https://evil.net", 403),
                               ("https://evil.net .example.com", 403), ("null", 403),
                               ("https://evil.net\x01.example.com", 403)]:
            equal(upgrade(path, origin), status, f"{path} {origin}")
        equal(upgrade(path), 101, path)
        equal(upgrade(path, "https://good.org", "https://evil.net"), 403, path)
    equal(upgrade("/origin/required"), 403)
    equal(upgrade("/origin/required", "https://good.org"), 101)
    equal(upgrade("/origin/required", "https://a.example.com"), 403)
    equal(upgrade("/origin/off", "https://evil.net"), 101)
    equal(upgrade("/origin/own", "https://own.org"), 101)
    equal(upgrade("/origin/own", "https://good.org"), 403)
    equal(upgrade("/origin/drop-in", "https://evil.net"), 101)

    for method, allowed in ("POST", 202), ("PUT", 202), ("DELETE", 405), ("OPTIONS", 405):
        for path in "/origin/ws", "/origin/required":
            equal(say(ng, path, method)[0], allowed, method)
            equal(say(ng, path, method, lines=["Origin: https://good.org"])[0], allowed, method)
            equal(say(ng, path, method, lines=["Origin: https://evil.net"])[0], 403, method)


@case("an upgrade that is refused ends the connection; a request for something else does not")
def _(ng):
    plain = b"GET /live/open HTTP/1.1\r\nHost: t\r\n\r\n"
    other = head("/X").replace(b"Version: 13", b"Version: 12")
    evil = head("/origin/ws", ["Origin: https://evil.net"])
    malformed = head("/ws", ["Sec-WebSocket-Extensions: permessage-deflate; ="])
    for request, status in [(other.replace(b"/X", b"/ws"), b"426"), (evil, b"403"),
                            (other.replace(b"/X", b"/refused"), b"426"),
                            (evil.replace(b"/ws", b"/accept"), b"403"), (malformed, b"400"),
                            (malformed.replace(b"/ws", b"/refused"), b"400")]:
        peer = Peer(ng, request=request + plain)
        answer = peer.rest()
        equal(answer.split()[1], status)
        assert b"\r\nConnection: close\r\n" in answer and answer.count(b"HTTP/1.1 ") == 1, answer
        if status == b"426":
            assert b"\r\nSec-WebSocket-Version: 13\r\n" in answer, answer
            assert b"\r\nUpgrade: websocket\r\n" in answer, answer
        peer.close()
    close = plain.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    for request in [other.replace(b"/X", b"/falls-back"), plain.replace(b"/live/open", b"/falls-back")]:
        peer = Peer(ng, request=request + close)
        answer = peer.rest()
        equal(answer.count(b"HTTP/1.1 200 "), 2, request)
        peer.close()


@case("a client that is gone before its 101: accept() says so in a way that logs nothing")
def _(ng):
    for _ in range(20):
        peer = Peer(ng, request=head("/gone?id=gone"))
        peer.id = "gone"
        await_(lambda: ng.connections() == 1, "the request is there")
        peer.rst()
        peer.signal()
        equal(peer.report(), "failed to flush response header: nginx output filter error | 499")
        await_(lambda: ng.connections() == 0, "the request ends")


@case("a topic that cannot be: its cause is logged, not loudly")
def _(ng):
    for target, text in [("topic=", "empty"), ("topic=" + "x" * 300, "long")]:
        ng.loud()
        before = len(ng.read_log())
        peer = Peer(ng, request=head(f"/topic?{target}"))
        answer = peer.until(b"\r\n")
        equal(answer.split()[1], b"400")
        peer.close()
        equal(say(ng, f"/publish-topic?{target}")[0], 400)
        log = ng.read_log()[before:]
        for directive in "websocket_subscribe", "websocket_publish":
            lines = [line for line in log.splitlines() if f"{directive} refused: " in line]
            assert len(lines) == 1 and "[info]" in lines[0] and text in lines[0], log


run(case, tap, listen="sndbuf=16k")

quiet = Cases()
quiet.server = "location = /ws { websocket_subscribe room; }"
quiet.handler("/accept", ECHO)
quiet.handler("/drop-in", """
    local wb = assert(require("resty.websocket.server"):new())
    live.report(wb:recv_frame())
""")


@quiet("the default heartbeat: the first pings are spread over its 30 seconds")
def _(ng):
    import select
    for path in "/ws", "/accept":
        peers = [Peer(ng, path) for _ in range(150)]
        by_sock = {peer.sock: peer for peer in peers}
        # Each is pinged within 30 seconds; that none of 150 is in the first five has a chance of 1e-12.
        ready, _, _ = select.select(by_sock, [], [], 5 + PATIENCE)
        equal(by_sock[ready[0]].frame(), (PING, b""), path)
        assert len(ready) < 75, f"{len(ready)} at once"
        for peer in peers:
            peer.close()


run(quiet, tap, http="# websocket_ping_interval is left at its default")
tap.done()
