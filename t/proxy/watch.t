BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# What websocket_proxy and websocket.proxy do by themselves: heartbeats towards each side, idle_timeout,
# counting, waiting for an upstream that is slow over its answer; where nobody looks, no message
# becomes a Lua string.
import json
import select
import threading

from lib.live import PATIENCE, Cases, Tap, await_, equal, run
from lib.peer import BINARY_FRAME, CLOSE, PING, PONG, TEXT, Peer, frame, head
from lib.upstream import Upstream

case = Cases()
upstream = Upstream()
URL = f"ws://127.0.0.1:{upstream.port}/x"

# By location: directives for the client's side, words for the upstream's, and both as websocket.proxy has them.
LOCATIONS = {
    "/plain": ("", "", ""),
    "/beats": ("websocket_ping_interval 20ms; websocket_ping_timeout 60s;", "ping_interval=20ms ping_timeout=60s",
               "ping_interval = 20, ping_timeout = 60000, client = { ping_interval = 20, ping_timeout = 60000 }"),
    "/deaf-client": ("websocket_ping_interval 20ms; websocket_ping_timeout 50ms;", "",
                     "client = { ping_interval = 20, ping_timeout = 50 }"),
    "/deaf-upstream": ("", "ping_interval=20ms ping_timeout=50ms", "ping_interval = 20, ping_timeout = 50"),
    # Nothing is read of a side while the other does not read.
    "/full-upstream": ("websocket_send_buffer 4k; websocket_ping_interval 20ms; websocket_ping_timeout 50ms;", "",
                       "client = { ping_interval = 20, ping_timeout = 50 }"),
    "/full-client": ("websocket_send_buffer 4k;", "ping_interval=20ms ping_timeout=50ms", "ping_interval = 20, ping_timeout = 50"),
    "/idle": ("", "idle_timeout=50ms", "idle_timeout = 50"),
    "/idle-shortest": ("", "idle_timeout=1ms", "idle_timeout = 0.5"),
    "/idle-later": ("", "idle_timeout=2s", "idle_timeout = 2000"),
}
COMMON = "location = /status { websocket_status; }\n"
COMMON += "location = /strings { content_by_lua_block { collectgarbage('stop') ngx.print(collectgarbage('count')) } }\n"
directive = COMMON + "".join(f"location = {path} {{ {ours} websocket_proxy {URL} {words}; }}\n"
                             for path, (ours, words, _) in LOCATIONS.items())
lua = COMMON + "".join(f"""
    location = {path} {{
        lua_socket_log_errors off;
        content_by_lua_block {{
            local opts = {{ url = "{URL}", {options} }}
            if LOOKS then
                opts.on_message = function () end
            end
            require("resty.websocket").proxy(opts)
        }}
    }}
""" for path, (_, _, options) in LOCATIONS.items())


def pair(ng, path, window=None):
    made = []
    thread = threading.Thread(target=lambda: made.append(upstream.accept().upgrade()))
    thread.start()
    peer = Peer(ng, path, window=window)
    thread.join()
    return peer, made[0]


def fill(side, data):
    """Sends until nothing is taken any more."""
    side.sock.settimeout(1)
    try:
        while True:
            side.sock.sendall(data)
    except TimeoutError:
        side.sock.settimeout(PATIENCE)


def but_pings(side):
    """The next frame that is no ping."""
    got = side.frame()
    while got[0] == PING:
        got = side.frame()
    return got


@case("a heartbeat goes to each side, and messages go between")
def _(ng):
    peer, up = pair(ng, "/beats")
    for _ in range(3):
        equal(peer.frame(), (PING, b""))
        peer.send(frame(PONG))
        equal(up.frame(), (PING, b""))
        up.send(PONG)
    peer.send(frame(TEXT, "a"))
    equal(but_pings(up), (TEXT, b"a"))
    up.send(TEXT, b"b")
    equal(but_pings(peer), (TEXT, b"b"))
    peer.rst()
    equal(but_pings(up), (CLOSE, b"\x03\xe9"))
    up.close()


@case("an upstream that answers no ping is lost")
def _(ng):
    peer, up = pair(ng, "/deaf-upstream")
    equal(up.frame(), (PING, b""))
    equal(peer.frame(), (CLOSE, b"\x03\xf3upstream connection lost"))
    peer.send(frame(CLOSE, b"\x03\xf3"))
    equal(peer.rest(), b"")
    peer.close()
    up.close()


@case("a client that answers no ping is lost")
def _(ng):
    peer, up = pair(ng, "/deaf-client")
    equal(peer.frame(), (PING, b""))
    equal(up.frame(), (CLOSE, b"\x03\xe9"))
    up.send(CLOSE, b"\x03\xe9")
    assert up.ended()
    peer.close()
    up.close()


def outlived(ng, path):
    """Until two pairs that answer no ping have lived and been lost, one after the other."""
    for _ in range(2):
        peer, up = pair(ng, path)
        equal(but_pings(up if path == "/deaf-client" else peer)[0], CLOSE)
        peer.rst()
        up.rst()


@case("a side that is not read, because the other does not read, is not taken for silent")
def _(ng):
    for full, deaf in (("/full-upstream", "/deaf-client"), ("/full-client", "/deaf-upstream")):
        upstream.narrow(4096)
        peer, up = pair(ng, full, window=4096)
        client = full == "/full-upstream"
        fill(*(peer, frame(BINARY_FRAME, b"x" * 60000)) if client else
             (up, frame(BINARY_FRAME, b"x" * 60000, key=b"")))
        outlived(ng, deaf)
        first = (up if client else peer).frame()
        equal((first[0], len(first[1])), (BINARY_FRAME, 60000))
        await_(lambda: ng.sessions() < 2, "the others end")
        equal(ng.sessions(), 1)
        peer.rst()
        up.rst()
        await_(lambda: ng.sessions() == 0, "the pair ends")


@case("idle_timeout closes both")
def _(ng):
    for path in "/idle", "/idle-shortest":
        peer, up = pair(ng, path)
        equal(peer.frame(), (CLOSE, b"\x03\xe9idle"))
        equal(up.frame(), (CLOSE, b"\x03\xe9idle"))
        peer.send(frame(CLOSE, b"\x03\xe9"))
        up.send(CLOSE, b"\x03\xe9")
        equal(peer.rest(), b"")
        assert up.ended()
        peer.close()
        up.close()


@case("idle_timeout counts from the last message")
def _(ng):
    talks, talks_up = pair(ng, "/idle-later")
    short, short_up = pair(ng, "/idle")
    equal(short.frame(), (CLOSE, b"\x03\xe9idle"))
    talks.send(frame(TEXT, "a"))
    equal(talks_up.frame(), (TEXT, b"a"))
    later, later_up = pair(ng, "/idle-later")
    equal(select.select([talks.sock, later.sock], [], [], PATIENCE)[0][0], talks.sock)
    equal(talks.frame(), (CLOSE, b"\x03\xe9idle"))
    for side in talks, later, short, talks_up, later_up, short_up:
        side.rst()


@case("messages count on both sides")
def _(ng):
    def counts():
        worker, = json.loads(ng.get("/status"))["workers"]
        return [worker[name] for name in ("messages_in", "messages_out")]
    before = counts()
    peer, up = pair(ng, "/plain")
    peer.send(frame(TEXT, "a") * 2)
    equal([up.frame()[1] for _ in range(2)], [b"a", b"a"])
    up.send(TEXT, b"b")
    equal(peer.frame(), (TEXT, b"b"))
    equal([now - then for now, then in zip(counts(), before)], [3, 3])
    peer.rst()
    equal(up.frame(), (CLOSE, b"\x03\xe9"))
    up.close()


@case("an upstream whose 101 comes byte by byte, and its first frames with it")
def _(ng):
    peer = Peer(ng, request=head("/plain") + frame(TEXT, "early"))
    up = upstream.accept()
    sock = up.sock

    class Slow:
        """In the place of its socket."""

        def sendall(self, data):
            for at in range(len(data)):
                sock.sendall(data[at:at + 1])
    up.sock = Slow()
    up.upgrade(frame(TEXT, "first", key=b""))
    up.sock = sock
    peer.until(b"\r\n\r\n")
    equal(peer.frame(), (TEXT, b"first"))
    equal(up.frame(), (TEXT, b"early"))
    peer.rst()
    up.close()


tap = Tap()
run(case, tap=tap, server=directive)
shared = case.list
for looks in "true", "false":
    case.list = [(f"websocket.proxy, looks {looks}: {name}", body, logs) for name, body, logs in shared]
    run(case, tap=tap, server=lua.replace("LOOKS", looks))

case = Cases()


@case("no message becomes a Lua string where nobody looks", memory=True)
def _(ng):
    peer, up = pair(ng, "/plain")
    before = float(ng.get("/strings"))
    for n in range(100):
        text = f"{n:05}" + "x" * 10000
        peer.send(frame(TEXT, text))
        equal(up.frame(), (TEXT, text.encode()))
        up.send(TEXT, text.encode())
        equal(peer.frame(), (TEXT, text.encode()))
    grown = float(ng.get("/strings")) - before
    assert grown < 100, f"{grown} KB of Lua's memory"
    peer.rst()
    up.close()


for server in directive, lua.replace("LOOKS", "false"):
    run(case, tap=tap, server=server)
upstream.close()
tap.done()
