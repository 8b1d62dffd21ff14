BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# The proxies of nginx-conf/proxy.conf before an echo.
import json

from lib.live import REPO, Cases, await_, equal, run
from lib.peer import CLOSE, TEXT, Peer, frame

case = Cases()
case.handler("/echo", """
    local ws = require("resty.websocket").accept()
    for data, typ in ws:messages() do
        ws:send(data, typ)
    end
""")
case.handler("/count", 'ngx.print(require("resty.websocket").count("record"))')
# lua-cjson is not everywhere where these tests run.
CJSON = """
    init_by_lua_block {
        local ok = pcall(require, "cjson.safe")
        if not ok then
            package.preload["cjson.safe"] = function () return require "json" end
        end
    }
"""


def said(peer, text, first=TEXT):
    peer.send(frame(first, text))
    return peer.frame()


def ended(peer, code, reason):
    equal(peer.frame(), (CLOSE, code.to_bytes(2, "big") + reason))
    peer.send(frame(CLOSE, code.to_bytes(2, "big")))
    equal(peer.rest(), b"")
    peer.close()


def bye(peer):
    peer.send(frame(CLOSE, b"\x03\xe8"))
    ended(peer, 1000, b"")


@case("a firewall lets messages through, and closes with 1008", logs=r"\[notice\]")
def _(ng):
    peer = Peer(ng, "/proxy/firewall")
    equal(said(peer, "fine"), (TEXT, b"fine"))
    peer.send(frame(TEXT, "1 UNION  SELECT 2"))
    ended(peer, 1008, b"blocked")
    assert "blocked: a message matches" in ng.read_log()


@case("a gateway lets in by the first message")
def _(ng):
    peer = Peer(ng, "/proxy/gateway")
    equal(said(peer, '{"token":"ann-s-secret"}'), (TEXT, b'{"user":"ann"}'))
    equal(said(peer, "free"), (TEXT, b"free"))
    bye(peer)
    for wrong in ('{"token":"x"}', "no json", "[]", '"ann-s-secret"'):
        peer = Peer(ng, "/proxy/gateway")
        peer.send(frame(TEXT, wrong))
        ended(peer, 4401, b"who are you?")


@case("a recorder copies both sides to a topic")
def _(ng):
    listener = Peer(ng, "/record")
    await_(lambda: ng.get("/count") == "1", "the listener")
    peer = Peer(ng, "/proxy/recorder")
    equal(said(peer, "hello"), (TEXT, b"hello"))
    heard = [json.loads(listener.frame()[1]) for _ in range(2)]
    equal([(h["from"], h["data"]) for h in heard], [("client", "hello"), ("upstream", "hello")])
    equal(len({h["conversation"] for h in heard}), 1)
    bye(peer)
    listener.rst()


@case("a schema: bad messages are answered and go nowhere")
def _(ng):
    peer = Peer(ng, "/proxy/schema")
    good = '{"room":"a","text":"b"}'
    equal(said(peer, good), (TEXT, good.encode()))
    for bad, why in (("x", "no object"), ('{"room":"a"}', "bad: text"),
                     ('{"room":"a","text":"b","more":1}', "unknown: more")):
        equal(json.loads(said(peer, bad)[1]), {"error": why})
    equal(said(peer, good), (TEXT, good.encode()))
    bye(peer)


@case("limits hold for a client over its connections")
def _(ng):
    for _ in range(10):
        peer = Peer(ng, "/proxy/limits")
        for _ in range(10):
            equal(said(peer, "x"), (TEXT, b"x"))
        bye(peer)
    peer = Peer(ng, "/proxy/limits")
    peer.send(frame(TEXT, "x"))
    ended(peer, 1008, b"too many messages")


run(case, http=f'lua_shared_dict proxy_limits 1m; {CJSON} lua_socket_log_errors off;',
    server=f"""
    set $ws_upstream ws://127.0.0.1:$server_port/echo;
    location = /record {{ websocket_subscribe record; }}
    include {REPO}/nginx-conf/proxy.conf;
""")
