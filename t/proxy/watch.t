BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# What websocket_proxy and websocket.proxy do by themselves: heartbeats towards each side, idle_timeout,
# counting, waiting for an upstream that is slow over its answer; where nobody looks, no message
# becomes a Lua string.
import json
import threading

from lib.live import Cases, Tap, equal, run
from lib.peer import CLOSE, PING, PONG, TEXT, Peer, frame, head
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
    "/idle": ("", "idle_timeout=50ms", "idle_timeout = 50"),
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


def pair(ng, path):
    made = []
    thread = threading.Thread(target=lambda: made.append(upstream.accept().upgrade()))
    thread.start()
    peer = Peer(ng, path)
    thread.join()
    return peer, made[0]


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


@case("idle_timeout closes both")
def _(ng):
    peer, up = pair(ng, "/idle")
    equal(peer.frame(), (CLOSE, b"\x03\xe9idle"))
    equal(up.frame(), (CLOSE, b"\x03\xe9idle"))
    peer.send(frame(CLOSE, b"\x03\xe9"))
    up.send(CLOSE, b"\x03\xe9")
    equal(peer.rest(), b"")
    assert up.ended()
    peer.close()
    up.close()


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
