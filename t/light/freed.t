BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Connections whose request is freed after the upgrade: when it is and when it is not, what comes before
# and behind it, how they end, what is counted, and that memory stays. CONNECTS=200000 is for a long run.
import os
import re

from lib.live import PORT, VALGRIND, Cases, Nginx, Tap, await_, equal, run
from lib.peer import CLOSE, TEXT, Peer, context, frame, head

# What finds faults in memory keeps what was freed.
MEASURES = not VALGRIND and "asan" not in os.environ.get("TEST_NGINX_LOAD_MODULES", "")
case = Cases()
BYE = frame(CLOSE, b"\x03\xe8")
ECHO = """content_by_lua_block {
    require("resty.websocket").serve{ on_message = function(ws, data, typ) ws:send(data, typ) end }
}"""
case.server = """
    location = /sub { websocket_subscribe a; }
    location = /push { content_by_lua_block {
        require("resty.websocket").publish("a", "pushed") } }
    location = /status { websocket_status; }
    location = /echo { ECHO }
    location = /off { websocket_detach off; ECHO }
    location = /counted { limit_conn seats 1; websocket_subscribe a; }
    location = /after { post_action /posted; websocket_subscribe a; }
    location = /posted { internal; content_by_lua_block {
        require("live").report_as(ngx.var.request_uri:match("id=(.*)"), "posted") } }
    location = /told { auth_request /auth; websocket_subscribe a; }
    location = /auth { internal; if ($request_uri ~ pass) { return 204; } return 401; }
    location = /mirrored { mirror /mirror; websocket_subscribe a; }
    location = /mirror { internal; content_by_lua_block {
        ngx.req.set_uri_args(ngx.var.request_uri:match("id=.*"))
        local live = require "live"
        live.report("mirrored")
        live.take_signal() } }
    location = /elsewhere { error_page 403 = @instead; return 403; }
    location @instead { websocket_subscribe a; }
    location = /if { if ($arg_x) { websocket_subscribe a; } }
    location /old { rewrite ^ /sub?id=$arg_id last; }
    location = /real { set_real_ip_from 127.0.0.1; real_ip_header X-Real; websocket_subscribe a; }
    location = /big { websocket_send_buffer 4m; content_by_lua_block {
        require("resty.websocket").serve{
            on_open = function(ws) ws:send(("x"):rep(3000000)) ws:close(1000, "", 0) end } } }
    location = /logged { error_log logs/own.log info; websocket_subscribe a; }
    location = /stuck { error_log logs/own.log info; websocket_send_timeout 300ms; websocket_send_buffer 8m; content_by_lua_block {
        local live, id = require "live", ngx.var.arg_id
        require("resty.websocket").serve{
            on_open = function(ws) ws:send(("x"):rep(6000000)) ws:close(1000, "", 0) end,
            on_close = function(ws, code) live.report_as(id, code) end } } }
    location = /pinged { websocket_ping_interval 50ms; websocket_ping_timeout 100ms;
        websocket_subscribe a; }
    location = /beaten { websocket_ping_interval 50ms; websocket_ping_timeout 100ms; ECHO }
    location = /many { ECHO }
    location = /brief { keepalive_timeout 0; lingering_close off; ECHO }
""".replace("ECHO", ECHO)


def number(ng, name):
    return int(re.search(rf"{name}: (\d+)", ng.get("/live/status")).group(1))


def requests(ng):
    return int(ng.get("/live/status").split("\n")[2].split()[2])


def is_freed(ng):
    """Whether no connection but the one that asks has a request."""
    return number(ng, "Writing") == 1


def freed(ng, count=1):
    await_(lambda: ng.sessions() == count, "sessions")
    await_(lambda: is_freed(ng), "their requests are freed")


def kept(ng):
    """Of a connection that has had its turns."""
    equal(is_freed(ng), False, "the request is freed")


def resident(worker):
    """KiB that are a process' own."""
    with open(f"/proc/{worker}/smaps_rollup") as f:
        return int(re.search(r"Pss:\s+(\d+)", f.read()).group(1))


def leave(peer):
    peer.send(BYE)
    equal(peer.frame(), (CLOSE, b"\x03\xe8"))
    equal(peer.rest(), b"")
    peer.close()


def echoed(peer, data=b"hello"):
    peer.send(frame(TEXT, data))
    equal(peer.frame(), (TEXT, data))


@case("a subscriber: pushes, fragments, its end")
def _(ng):
    before = requests(ng)
    peer = Peer(ng, "/sub", first=frame(0x01, "a"))
    freed(ng)
    asked = requests(ng) - before
    ng.get("/push")
    equal(peer.frame(), (TEXT, b"pushed"))
    peer.send(frame(0x80, "b") + frame(0x89, "ping"))
    equal(peer.frame(), (0x8a, b"ping"))
    equal(ng.connections(), 1)
    leave(peer)
    await_(lambda: ng.connections() == 0, "it is closed")
    # It is one request, and its end none.
    asks = requests(ng)
    equal(requests(ng) - asks, 1)
    assert asked >= 2, asked


@case("websocket_status counts it as ever")
def _(ng):
    peer = Peer(ng, "/sub")
    freed(ng)
    equal('"open":1' in ng.get("/status").replace(" ", ""), True, "open")
    leave(peer)
    await_(lambda: '"open":0' in ng.get("/status").replace(" ", ""), "it is counted no more")


@case("callbacks, and large messages both ways")
def _(ng):
    peer = Peer(ng, "/echo", first=frame(TEXT, "first"))
    equal(peer.frame(), (TEXT, b"first"))
    freed(ng)
    for size in 0, 10, 100_000, 900_000:
        echoed(peer, b"y" * size)
    leave(peer)


@case("off")
def _(ng):
    peer = Peer(ng, "/off")
    echoed(peer)
    echoed(peer)
    kept(ng)
    leave(peer)


@case("limit_conn counts it to its end, by keeping its request", logs="limiting connections")
def _(ng):
    peer = Peer(ng, "/counted")
    await_(lambda: ng.sessions() == 1, "the session")
    second = Peer(ng, request=head("/counted"))
    equal(second.until(b"\r\n")[9:12], b"503")
    second.close()
    kept(ng)
    leave(peer)
    await_(lambda: ng.connections() == 0, "the end")
    leave(Peer(ng, "/counted"))
    assert "limit_conn counts them" in ng.read_log()


@case("post_action comes with the end")
def _(ng):
    peer = Peer(ng, "/after")
    await_(lambda: ng.sessions() == 1, "the session")
    kept(ng)
    leave(peer)
    equal(peer.report(), "posted")


@case("auth_request")
def _(ng):
    refused = Peer(ng, request=head("/told"))
    equal(refused.until(b"\r\n")[9:12], b"401")
    refused.close()
    peer = Peer(ng, "/told?pass=1")
    freed(ng)
    leave(peer)


@case("a mirrored request is kept until its mirror has ended")
def _(ng):
    peer = Peer(ng, "/mirrored")
    equal(peer.report(), "mirrored")
    peer.send(frame(0x89, "a"))
    equal(peer.frame(), (0x8a, b"a"))
    kept(ng)
    peer.signal()

    def turned():
        peer.send(frame(0x89, "b"))
        equal(peer.frame(), (0x8a, b"b"))
        return is_freed(ng)
    await_(turned, "it is freed")
    leave(peer)


@case("an error page, an if, a rewrite")
def _(ng):
    for path in "/elsewhere", "/if?x=1", "/old":
        peer = Peer(ng, path)
        freed(ng)
        leave(peer)


@case("a body with the upgrade")
def _(ng):
    peer = Peer(ng, "/sub", lines=["Content-Length: 5"], first=b"hello" + frame(0x89, "x"))
    equal(peer.frame(), (0x8a, b"x"))
    freed(ng)
    leave(peer)


@case("a long request head, and a request before it on the same connection")
def _(ng):
    peer = Peer(ng, request=b"GET /live/open HTTP/1.1\r\nHost: t\r\n\r\n")
    peer.until(b"\r\n\r\n")
    peer.send(head("/many", [f"X-{n}: {'v' * 500}" for n in range(12)]))
    peer.until(b"101 Switching")
    peer.until(b"\r\n\r\n")
    echoed(peer)
    freed(ng)
    leave(peer)


@case("keepalive_timeout 0 and lingering_close off")
def _(ng):
    peer = Peer(ng, "/brief")
    echoed(peer)
    freed(ng)
    leave(peer)


@case("the log says whom realip has made of the client")
def _(ng):
    peer = Peer(ng, "/real", lines=["X-Real: 192.0.2.77"])
    freed(ng)
    peer.send(b"\xff\xff")
    equal(peer.frame()[0], CLOSE)
    peer.close()
    await_(lambda: re.search(r"broke a rule.*client: 192\.0\.2\.77", ng.read_log()), "the line")


def own_log(ng):
    with open(f"{ng.root}/logs/own.log") as log:
        return log.read()


@case("what it logs is in the error log of its location")
def _(ng):
    broken = ng.read_log().count("broke a rule")
    peer = Peer(ng, "/logged")
    freed(ng)
    peer.send(b"\xff\xff")
    equal(peer.frame()[0], CLOSE)
    peer.close()
    await_(lambda: re.search(r"broke a rule.*client: 127\.0\.0\.1", own_log(ng)), "the line")
    equal(ng.read_log().count("broke a rule"), broken)


@case("what was sent before the end arrives, however slowly")
def _(ng):
    peer = Peer(ng, "/big", window=8192)
    await_(lambda: ng.sessions() >= 0, "a turn")
    first, data = peer.frame()
    equal((first, len(data)), (TEXT, 3_000_000))
    equal(peer.frame(), (CLOSE, b"\x03\xe8"))
    peer.send(BYE)
    equal(peer.rest(), b"")
    peer.close()


@case("a peer that takes nothing is given up")
def _(ng):
    peer = Peer(ng, "/stuck", window=8192)
    equal(peer.report() in ("1000", "1006"), True)
    await_(lambda: ng.connections() == 0, "it is gone")
    peer.close()
    # That is known when it has a request again.
    assert "client timed out while output was pending" in own_log(ng), own_log(ng)


@case("a heartbeat without an answer, which is due when the request is freed")
def _(ng):
    for path in "/pinged", "/beaten":
        peer = Peer(ng, path)
        await_(lambda: ng.connections() == 0, "it is gone")
        peer.close()


@case("reset, and cut in a message")
def _(ng):
    for path in "/sub", "/echo":
        peer = Peer(ng, path)
        freed(ng)
        peer.rst()
        await_(lambda: ng.sessions() == 0, "it is gone")
        peer = Peer(ng, path)
        freed(ng)
        peer.send(frame(TEXT, b"z" * 1000)[:500])
        peer.close()
        await_(lambda: ng.sessions() == 0, "it is gone")


def come_and_go(ng):
    worker = ng.workers()[0]

    def round_of(count):
        for n in range(count):
            peer = Peer(ng, "/echo" if n % 2 else "/sub", first=BYE)
            equal(peer.frame(), (CLOSE, b"\x03\xe8"))
            peer.close()
        await_(lambda: ng.sessions() == 0, "all are gone")
        ng.get("/collect")
    connects = int(os.environ.get("CONNECTS", 2000))
    round_of(1000)
    before = resident(worker)
    round_of(connects)
    after = resident(worker)
    print(f"# {connects} connects: {before} KiB, {after} KiB")
    assert after < before + 1200, f"{before} KiB before, {after} KiB after {connects} connects"


if MEASURES:
    case("memory stays where it is, however many come and go")(come_and_go)


case.server += "location = /collect { content_by_lua_block { collectgarbage() collectgarbage() } }"
tap = Tap()
run(case, tap, http="limit_conn_zone $server_addr zone=seats:64k; lingering_timeout 500ms;\n"
    "client_header_buffer_size 256; large_client_header_buffers 8 4k;",
    events="worker_connections 4096;")


def alone(name, body, **more):
    """A case with an nginx of its own."""
    def attempt():
        ng = Nginx(server=case.server, **{"http": "limit_conn_zone $server_addr zone=seats:64k;", **more})
        try:
            body(ng)
            equal(ng.stop(), 0, "exit code of nginx")
            loud = ng.loud()
            assert not loud, loud[:10]
            found = ng.valgrind_findings()
            assert not found, "valgrind:\n" + "\n".join(found[:200])
        finally:
            ng.kill()
    tap.attempt(name, attempt)


def both(ng):
    """A subscriber and a connection with callbacks, freed."""
    peers = [Peer(ng, "/sub"), Peer(ng, "/echo")]
    freed(ng, 2)
    return peers


def reload(ng):
    ng.start()
    peers, old = both(ng), ng.workers()[0]
    ng.signal("HUP")
    for peer in peers:
        equal(peer.frame(), (CLOSE, b"\x03\xe9server is shutting down"))
        peer.send(frame(CLOSE, b"\x03\xe9"))
        equal(peer.rest(), b"")
        peer.close()
    await_(lambda: old not in ng.children(), "the old worker ends")
    again = both(ng)
    for peer in again:
        leave(peer)


alone("a reload says goodbye", reload)


def quits(ng):
    ng.start()
    peers = both(ng)
    ng.signal("QUIT")
    for peer in peers:
        equal(peer.frame(), (CLOSE, b"\x03\xe9server is shutting down"))
        peer.send(frame(CLOSE, b"\x03\xe9"))
        equal(peer.rest(), b"")
        peer.close()


alone("QUIT", quits)


def stays(ng):
    ng.start()
    peers = both(ng)
    ng.signal("QUIT")
    await_(lambda: "gracefully shutting down" in ng.read_log(), "it is told")
    echoed(peers[1])
    for peer in peers:
        leave(peer)


alone("without a goodbye a worker that quits waits for them", stays, http=
      "limit_conn_zone $server_addr zone=seats:64k; websocket_shutdown_close off;")


def limited(ng):
    ng.start()
    peers = both(ng)
    ng.signal("QUIT")
    for peer in peers:
        peer.rest()
        peer.close()


alone("worker_shutdown_timeout ends them", limited, main="worker_shutdown_timeout 200ms;", http=
      "limit_conn_zone $server_addr zone=seats:64k; websocket_shutdown_close off;")


def terminated(ng):
    ng.start()
    peers = both(ng)
    ng.stop("TERM")
    for peer in peers:
        equal(peer.rest(), b"")
        peer.close()


alone("TERM", terminated)


def killed(ng):
    ng.start()
    peers = both(ng)
    os.kill(ng.workers()[0], 9)
    for peer in peers:
        peer.close()
    await_(lambda: re.search("exited on signal 9(.|\n)*start worker process", ng.read_log()), "another")
    await_(lambda: ng.get("/live/open") == "0", "the numbers are mended")
    for peer in both(ng):
        leave(peer)
    ng.loud()


alone("SIGKILL", killed)


def idle(path, limit):
    def body(ng):
        ng.start()
        worker, many = ng.workers()[0], [Peer(ng, path) for _ in range(300)]
        freed(ng, 300)
        before = resident(worker)
        many += [Peer(ng, path) for _ in range(600)]
        freed(ng, 900)
        each = (resident(worker) - before) / 600
        for peer in many:
            peer.close()
        await_(lambda: ng.sessions() == 0, "all are gone")
        print(f"# {path}: {each:.2f} KiB")
        assert each < limit, f"{each:.2f} KiB a connection"
    return body


# With a request it is 10 KiB and more.
if MEASURES:
    for path, limit in ("/sub", 3), ("/echo", 4):
        alone(f"{path}: an idle one takes less than half of a request", idle(path, limit),
              events="worker_connections 2048;")


def encrypted(ng):
    ng.write(listen="ssl", prelude=ng.certificate(), server=case.server + """
        } server { listen 127.0.0.1:PORT; location = /open { content_by_lua_block {
            require("live").info() } }
        location = /live/status { stub_status; }
    """.replace("PORT", str(PORT + 1)))
    ng.start()
    tls = context()

    def writing():
        answer = ng.get("/live/status", port=PORT + 1)
        return int(re.search(r"Writing: (\d+)", answer).group(1))
    for path in "/sub", "/echo":
        peer = Peer(ng, path, tls=tls)
        await_(lambda: ng.get("/open", port=PORT + 1) == "1" and writing() == 1, "freed")
        if path == "/echo":
            for size in 10, 100_000:
                echoed(peer, b"y" * size)
        peer.send(BYE)
        equal(peer.frame(), (CLOSE, b"\x03\xe8"))
        equal(peer.rest(), b"")
        peer.close()
        await_(lambda: ng.get("/open", port=PORT + 1) == "0", "the end")


alone("TLS", encrypted)


def proxied(ng):
    ng.write(listen="proxy_protocol", prelude="access_log logs/who.log who;", server=case.server + """
        } server { listen 127.0.0.1:PORT; location = /open { content_by_lua_block {
            require("live").info() } }
    """.replace("PORT", str(PORT + 1)), http="""
        log_format who '$proxy_protocol_addr $remote_addr $status';
        set_real_ip_from 127.0.0.1; real_ip_header proxy_protocol;
        limit_conn_zone $server_addr zone=seats:64k;""")
    ng.start()
    peer = Peer(ng, request=b"PROXY TCP4 192.0.2.9 192.0.2.1 1000 80\r\n" + head("/echo"))
    peer.until(b"\r\n\r\n")
    echoed(peer)
    await_(lambda: ng.get("/open", port=PORT + 1) == "1", "it is there")
    leave(peer)
    await_(lambda: ng.get("/open", port=PORT + 1) == "0", "the end")

    def line():
        with open(f"{ng.root}/logs/who.log") as log:
            return "192.0.2.9 192.0.2.9 101\n" in log.read()
    await_(line, "the log's line")


alone("PROXY protocol", proxied)
tap.done()
