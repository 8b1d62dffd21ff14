BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# No memory for what a peer sends or is sent: while nothing of 16 KiB or more can be had (t/lib/poor.c),
# that connection ends with 1011, is logged at info and counted, and its neighbours go on.
import base64
import json
import os
import re
import socket
import sys
import zlib

from lib.live import PORT, Cases, Tap, await_, equal
from lib.memory import CHECKED, SKIPPED
from lib.peer import CLOSE, TEXT, Peer, frame
from lib.preload import Library, Preloaded
from lib.upstream import accept_of

KIB, BINARY = 1024, 0x82
case = Cases()
case.handler("/frames", """
    live.report(live.echo(live.open{ max_payload_len = 1048576 }))
""")
case.handler("/messages", """
    local ws = assert(require("resty.websocket").accept())
    for data, typ in ws:messages() do ws:send(data, typ) end
    live.report(ws:close_info())
""")
case.handler("/sends", """
    local ws = assert(require("resty.websocket").accept())
    local data, ok, err = ws:recv():rep(1000)
    repeat ok, err = ws:send(data) until not ok
    live.report(err, ws:state())
""", "websocket_send_buffer 64m;")
case.handler("/publishes", """
    local websocket = require "resty.websocket"
    local ws = assert(websocket.accept())
    local data = ws:recv():rep(1000)
    live.report(websocket.publish("room", data, { scope = ngx.var.arg_scope }))
    ws:close()
""")
case.handler("/connects", """
    local websocket = require "resty.websocket"
    local ws = assert(websocket.accept())
    local client = assert(websocket.connect("ws://127.0.0.1:" .. ws:recv()))
    live.report(client:recv())
    ws:close()
""", "lua_socket_log_errors off;")
case.handler("/packed", """
    local ws = assert(require("resty.websocket").accept{ compression = true })
    for data, typ in ws:messages() do ws:send(#data .. "") end
    live.report(ws:close_info())
""")
case.handler("/repacks", """
    local ws = assert(require("resty.websocket").accept{ compression = { threshold = 1 } })
    local data = ws:recv()
    ws:send("first")
    live.take_signal()
    live.report(ws:send(data))
    live.take_signal()
    ws:send(data)
    ws:close()
""")
case.handler("/reads", r"""
    local ws = assert(require("resty.websocket").accept())
    ws:recv()
    local pieces = { "\x82\xfe", "\x4e\x20", "\0\0\0\0" .. ("x"):rep(20000) }
    local sock = { receive = function () return table.remove(pieces, 1) end }
    live.report(require("resty.websocket.protocol").recv_frame(sock, 65535, true))
    ws:close()
""")
case.handler("/keeps", """
    ngx.print((assert(require("resty.websocket").publish("kept", ("x"):rep(102400)))))
""")
case.handler("/fills", """
    for _ = 1, 200 do assert(require("resty.websocket").publish("many", "x")) end
""")
case.handler("/remembers", """
    local websocket = require "resty.websocket"
    local ws = assert(websocket.accept())
    ws:recv()
    live.report(websocket.history("kept"))
    ws:close()
""")
case.handler("/looks", """
    local url = "ws://127.0.0.1:" .. ngx.var.server_port .. "/messages?" .. ngx.var.args
    require("resty.websocket").proxy{ url = url, on_message = function () end }
""")
case.server += f"location = /passes {{ websocket_proxy ws://127.0.0.1:{PORT}/messages?$args; }}"
case.server += """
    location = /feed { websocket_subscribe room; websocket_publish_from_client on; }
    location = /lines { websocket_subscribe room format=json; }
    location = /many { websocket_publish many get; }
    location = /status { websocket_status; }
    location = /here { websocket_subscribe here info=$arg_info; }
    location = /who { websocket_subscribe here format=json; }
"""
GONE = "1011 | no memory | false"


def deflated(data):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)[:-4]


def numbers(ng):
    answer = json.loads(ng.get("/status"))
    return answer["protocol_errors"].get("memory", 0), answer["connections_closed"].get("1011", 0)


def echo(neighbours):
    for peer in neighbours:
        peer.send(frame(TEXT, "still here"))
        equal(peer.frame(), (TEXT, b"still here"))


def starved(ng, path, data, says, **more):
    """One connection sends what there is no memory for, among others."""
    neighbours = [Peer(ng, "/messages"), Peer(ng, "/frames")]
    echo(neighbours)
    worker, before = ng.children(), numbers(ng)
    peer = Peer(ng, path, **more)
    poor[1] = 0
    poor[0] = 1
    try:
        peer.send(data)
        says(peer)
        echo(neighbours)
        equal(poor[1], 1, "whether an allocation has failed")
    finally:
        poor[0] = 0
    peer.close()
    echo(neighbours)
    for neighbour in neighbours:
        neighbour.close()
    await_(lambda: ng.connections() == 0, "all connections end")
    equal(ng.children(), worker, "the worker")
    return [now - was for now, was in zip(numbers(ng), before)]


def closed_alone(peer):
    equal(peer.frame(), (CLOSE, b"\x03\xf3no memory"))
    equal(peer.rest(), b"")


def closed(peer):
    closed_alone(peer)
    equal(peer.report(), GONE)


def dropped(peer):
    """In frame style the handler says what happens."""
    equal(peer.report(), "no memory")
    equal(peer.rest(), b"")


def unread(peer):
    equal(peer.report(), "nil | nil | failed to read masking-len and payload: no memory")


def refused(peer):
    """What a handler sends is not sent; its connection goes on."""
    equal(peer.report(), "no memory | open")


def published(peer, feed="/feed"):
    poor[0] = 0
    subscriber = Peer(ng, feed)
    if feed == "/lines":
        equal(subscriber.frame()[0], TEXT, "where it stands")
    poor[0] = 1
    peer.send(WORD)
    closed_alone(subscriber)
    assert peer.report().startswith("1 | ")
    subscriber.close()


def published_as_a_line(peer):
    published(peer, "/lines")


def remembered(peer):
    """What there is no memory to read is told as what is gone, and the history goes on."""
    poor[0] = 0
    ng.get("/keeps")
    poor[0] = 1
    peer.send(WORD)
    equal(peer.report(), "nil | trimmed")


def listed(peer):
    """Members for whose list there is no memory are counted."""
    poor[0] = 0
    members = [peer] + [Peer(ng, f"/here?info={'i' * 1000}") for _ in range(30)]
    await_(lambda: ng.sessions() == len(members) + 2, "all are in")
    poor[0] = 1
    watcher = Peer(ng, "/who")
    equal(watcher.frame()[0], TEXT, "where it stands")
    equal(json.loads(watcher.frame()[1]), {"topic": "here", "members": len(members) + 1})
    for one in [*members[1:], watcher]:
        one.close()
    await_(lambda: ng.sessions() == 3, "they have left")


def connected(peer):
    """A client's own connection: `peer` tells it where to connect to."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer.send(frame(TEXT, str(listener.getsockname()[1])))
        server, _ = listener.accept()
    with server:
        request = b""
        while b"\r\n\r\n" not in request:
            request += server.recv(4096)
        key = re.search(rb"(?i)sec-websocket-key: (.*)\r", request)[1]
        accept = accept_of(key)
        server.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                       b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n" +
                       b"\x82\x7f" + (KIB * 200).to_bytes(8, "big") + bytes(KIB * 200))
        equal(peer.report(), "nil | no memory | 1011 | no memory")


def passed(peer):
    """A message that a proxy has no memory to pass on, nor to show: neither side goes on without it."""
    poor[0] = 0
    echo([peer])
    poor[0] = 1
    peer.send(frame(BINARY, bytes(20 * KIB)))
    equal(peer.frame(), (CLOSE, b"\x03\xf3"))
    equal(peer.rest(), b"")
    equal(peer.report(), "1011 |  | true")


LARGE = frame(BINARY, bytes(KIB * 200))
WORD = frame(TEXT, "y" * 100)
# Name, location, what is sent, what must come, what is counted: faults, connections closed with 1011.
CASES = [
    ("a message that inflates", "/packed", frame(0xC1, deflated(bytes(900 * KIB))), closed, [1, 1],
     {"lines": ["Sec-WebSocket-Extensions: permessage-deflate"]}),
    ("a compressed fragment", "/packed", frame(0x41, deflated(bytes(900 * KIB))), closed, [1, 1],
     {"lines": ["Sec-WebSocket-Extensions: permessage-deflate"]}),
    ("a large message", "/messages", LARGE, closed, [1, 1], {}),
    ("a large message in fragments", "/messages",
     frame(0x02, bytes(9000)) + frame(0x00, bytes(9000)) * 20, closed, [1, 1], {}),
    ("a message for a proxy's upstream", "/passes", b"", passed, [0, 1], {}),
    ("a message for a proxy's handler", "/looks", b"", passed, [0, 1], {}),
    ("a large message to a connection without a handler", "/feed", LARGE, closed_alone, [1, 1],
     {}),
    ("a large frame", "/frames", LARGE, dropped, [1, 1], {}),
    ("a large frame of another socket's", "/reads", WORD, unread, [0, 0], {}),
    ("a large message of ours", "/sends", WORD, refused, [0, 0], {}),
    ("a message for a subscriber", "/publishes", b"", published, [1, 1], {}),
    ("a message for a subscriber of the same worker", "/publishes?scope=worker", b"", published,
     [1, 1], {}),
    ("a line in JSON for a subscriber", "/publishes?scope=worker", b"", published_as_a_line, [1, 1], {}),
    ("a list of who is there", "/here", b"", listed, [0, 0], {}),
    ("a message that a history remembers", "/remembers", b"", remembered, [0, 0], {}),
    ("a large message to a client", "/connects", b"", connected, [1, 0], {}),
]

if CHECKED:
    print(f"1..0 # SKIP {SKIPPED}")
    sys.exit()
tap = Tap()
poor = Library("poor", 2)
ng = Preloaded(poor, server=case.server, http="websocket_history_zone 1m; websocket_topic kept history=10; "
                               "websocket_topic many history=200; "
                               "websocket_topic here presence;")
with ng.running(tap):
    for name, path, data, says, counted, more in CASES:
        def one(path=path, data=data, says=says, counted=counted, more=more):
            equal(starved(ng, path, data, says, **more), counted, "counted")
            lines = re.findall(r"\[(\w+)\].*websocket connection closed: no memory", ng.read_log())
            assert lines and set(lines) == {"info"}, lines
            loud = ng.loud()
            assert not loud, "nginx logged:\n" + "\n".join(loud[:10])
        tap.attempt(name, one)

    def listed_by_http():
        worker = ng.children()
        ng.get("/fills")
        equal(len(json.loads(ng.get("/many?limit=200"))["messages"]), 200)
        poor[0] = 1
        try:
            ng.get("/many?limit=200")
        except AssertionError as refused:
            assert " 503 " in str(refused), refused
        finally:
            poor[0] = 0
        equal(ng.children(), worker, "the worker")
    tap.attempt("many messages of a history, by HTTP", listed_by_http)

    def repacked():
        peer = Peer(ng, "/repacks", lines=["Sec-WebSocket-Extensions: permessage-deflate"])
        text = base64.b64encode(os.urandom(9000))
        peer.send(frame(TEXT, text))
        window = zlib.decompressobj(-15)
        equal(window.decompress(peer.frame()[1] + b"\0\0\xff\xff"), b"first")
        poor[0] = 1
        try:
            peer.signal()
            equal(peer.report(), "nil | no memory")
        finally:
            poor[0] = 0
        peer.signal()
        equal(window.decompress(peer.frame()[1] + b"\0\0\xff\xff"), text)
        peer.close()
    tap.attempt("a compressed message that was not queued is none that a later one refers to", repacked)
