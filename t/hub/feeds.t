BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Topics that remember, from configuration alone: a browser's WebSocket that resumes by its URL, in raw
# and in JSON, chosen by the location or by a subprotocol; and a topic by HTTP: published, read, closed.
import http.client
import json
import subprocess

from lib.crowd import Line
from lib.live import PATIENCE, Cases, Nginx, await_, equal, run
from lib.peer import BINARY_FRAME, CLOSE, PONG, TEXT, Peer, frame, head

case = Cases()
case.server += """
    location = /raw { websocket_subscribe $arg_topic since=$arg_since; }
    location = /json { websocket_subscribe $arg_topic $arg_more since=$arg_since format=json; }
    location = /auto { websocket_subscribe $arg_topic since=$arg_since format=auto; }
    location = /last { websocket_subscribe kept:$arg_topic since=last; }
    location = /feed {
        websocket_subscribe kept:feed since=$arg_since format=auto;
        websocket_publish kept:feed get delete;
        websocket_resume_limit 5;
    }
    location = /topic { websocket_publish $arg_topic get; }
    location = /closed { websocket_publish $arg_topic; }
    location = /two { websocket_subscribe a b $arg_more; websocket_max_subscriptions 2; }
    location = /lua-two { websocket_max_subscriptions 2; content_by_lua_block {
        local ws = require("resty.websocket").accept()
        local function say(ok, err) ws:send(tostring(ok) .. " " .. (ok and "nil" or tostring(err))) end
        say(ws:subscribe("a")) say(ws:subscribe("b")) say(ws:subscribe("a")) say(ws:subscribe("c"))
        ws:unsubscribe("a")
        say(ws:subscribe("c"))
    } }
    location = /count { content_by_lua_block {
        ngx.print(require("resty.websocket").count(ngx.var.arg_topic)) } }
"""
HTTP = "websocket_topic kept:* history=10;"
OFFER = ["Sec-WebSocket-Protocol: chat, cursor.json"]


class Http(Line):
    """A line that looks at the status."""

    def __init__(self, ng):
        self.http = http.client.HTTPConnection("127.0.0.1", ng.port, timeout=PATIENCE)

    def call(self, method, path, body=None, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.http.request(method, path, body, headers)
        answer = self.http.getresponse()
        text = answer.read().decode()
        is_json = answer.getheader("Content-Type") == "application/json"
        return answer.status, json.loads(text) if is_json else text

    def post(self, topic, *datas, path="/topic", **headers):
        """Publishes; the last cursor."""
        for data in datas:
            status, answer = self.call("POST", f"{path}?topic={topic}", data, **headers)
            equal(status, 202)
        return answer["cursor"]


def line(peer):
    first, payload = peer.frame()
    equal(first, TEXT)
    return json.loads(payload)


@case("raw: what was missed, then what comes")
def _(ng):
    web = Http(ng)
    one, two = web.post("kept:r", "m1"), web.post("kept:r", "m2")
    web.post("kept:r", b"\0\xff", Content_Type="application/octet-stream")
    for since, expected in [(one, ["m2", "bin"]), ("last", ["bin"]), ("-2", ["m2", "bin"]), ("", []),
                            ("-100", ["m1", "m2", "bin"]), ("nonsense", []), (two, ["bin"])]:
        peer = Peer(ng, f"/raw?topic=kept:r&since={since}")
        for text in expected:
            equal(peer.frame(), (BINARY_FRAME, b"\0\xff") if text == "bin" else (TEXT, text.encode()))
        web.post("kept:live", "x")
        peer.send(frame(0x89, b"?"))
        equal(peer.frame(), (PONG, b"?"), f"nothing more for {since}")
        peer.close()
    peer = Peer(ng, "/last?topic=r")
    equal(peer.frame(), (BINARY_FRAME, b"\0\xff"))
    peer.close()
    web.close()


@case("json: several topics, each with its cursor, in any way that a URL joins them")
def _(ng):
    web = Http(ng)
    cursors = [web.post("kept:a", "a1"), web.post("kept:b", "b1")]
    web.post("kept:a", "a2")
    web.post("kept:b", "b2")
    for join in ".", ",", "%2C", "%2c":
        peer = Peer(ng, f"/json?topic=kept:a&more=kept:b&since={join.join(reversed(cursors))}")
        seen = {}
        for _ in range(4):
            told = line(peer)
            seen.setdefault(told["topic"], []).append(told)
        for topic, cursor, data in ("kept:a", cursors[0], "a2"), ("kept:b", cursors[1], "b2"):
            equal(seen[topic][0], {"topic": topic, "cursor": cursor, "resumed": True, "count": 1})
            equal(seen[topic][1]["data"], data)
        peer.close()
    # One that fits nothing: told, and live begins.
    peer = Peer(ng, f"/json?topic=kept:a&more=plain&since=cNO.{cursors[0]}")
    told = {t["topic"]: t for t in (line(peer), line(peer), line(peer)) if "data" not in t}
    equal((told["kept:a"]["resumed"], told["plain"]),
          (True, {"topic": "plain", "resumed": False, "count": 0, "reason": "epoch"}))
    web.call("POST", "/topic?topic=plain", "live")
    equal(line(peer), {"topic": "plain", "data": "live"})
    peer.close()
    web.close()


@case("auto: the subprotocol chooses; raw is not overruled")
def _(ng):
    web = Http(ng)
    cursor = web.post("kept:auto", "m1")
    offered = Peer(ng, "/auto?topic=kept:auto&since=last", lines=OFFER)
    assert b"sec-websocket-protocol: cursor.json\r\n" in offered.answer.lower(), offered.answer
    equal(line(offered)["resumed"], True)
    equal(line(offered), {"topic": "kept:auto", "cursor": cursor, "data": "m1"})
    plain = Peer(ng, "/auto?topic=kept:auto&since=last")
    equal(plain.frame(), (TEXT, b"m1"))
    raw = Peer(ng, "/raw?topic=kept:auto&since=last", lines=OFFER)
    assert b"sec-websocket-protocol" not in raw.answer.lower(), raw.answer
    equal(raw.frame(), (TEXT, b"m1"))
    always = Peer(ng, "/json?topic=kept:auto&more=x&since=last")
    assert b"sec-websocket-protocol" not in always.answer.lower(), always.answer
    [peer.close() for peer in (offered, plain, raw, always)]
    web.close()


@case("a topic's name must fit the format")
def _(ng):
    web = Http(ng)
    upgrade = dict(Upgrade="websocket", Connection="Upgrade", Sec_WebSocket_Version="13",
                   Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==")
    equal(web.call("GET", "/json?topic=a\xff&more=b".encode("latin-1").decode("latin-1")
                   .replace("\xff", "%FF"), **upgrade)[0], 101)
    web.close()


@case("by HTTP: published, read, closed; the same location takes browsers")
def _(ng):
    web = Http(ng)
    peer = Peer(ng, "/feed", lines=OFFER)
    start = line(peer)["cursor"]
    status, first = web.call("POST", "/feed", "m1", Idempotency_Key="k")
    equal((status, first["subscribers"], sorted(first)), (202, 1, ["cursor", "sequence", "subscribers"]))
    equal(web.call("POST", "/feed", "again", Idempotency_Key="k"),
          (202, {"subscribers": 0, "cursor": first["cursor"]}))
    equal(line(peer)["data"], "m1")
    web.post("", "m2", "m3", path="/feed")
    status, answer = web.call("GET", "/feed")
    equal((status, [m["data"] for m in answer["messages"]]), (200, ["m1", "m2", "m3"]))
    message = answer["messages"][0]
    equal((message["offset"], message["type"], message["cursor"]), (1, "text", first["cursor"]))
    assert message["time"] > 1.6e12
    equal(answer["cursor"], answer["messages"][-1]["cursor"])
    data = lambda query: [m["data"] for m in web.call("GET", f"/feed?{query}")[1]["messages"]]
    equal(data(f"since={first['cursor']}"), ["m2", "m3"])
    equal(data(f"since={start}&limit=2"), ["m1", "m2"])
    equal(data("limit=2&reverse=1"), ["m3", "m2"])
    equal(data("limit=0"), [])
    equal(web.call("GET", "/feed?limit=x")[0], 400)
    equal(web.call("GET", "/feed?since=nonsense"), (400, {"error": "cursor"}))
    equal(web.call("GET", "/topic?topic=plain"), (404, {"error": "no history for this topic"}))
    web.post("", *(f"n{n}" for n in range(12)), path="/feed")
    equal(web.call("GET", f"/feed?since={start}"), (410, {"error": "trimmed"}))
    equal(web.call("GET", f"/feed?since={start[:12]}{'A' * 21}"), (410, {"error": "epoch"}))
    equal(web.call("POST", "/topic?topic=plain", "x", Idempotency_Key="k"),
          (400, {"error": "an idempotency key needs a topic with a history"}))
    equal(web.call("POST", "/feed", "x", Idempotency_Key="k" * 65)[0], 400)
    for _ in range(14):
        line(peer)
    equal(web.call("DELETE", "/feed"), (200, {"subscribers": 1}))
    equal(peer.frame(), (CLOSE, b"\x03\xe9topic closed"))
    peer.close()
    equal(web.call("DELETE", "/topic?topic=x")[0], 405)
    equal(web.call("GET", "/closed?topic=x")[0], 405)
    equal(web.call("PATCH", "/feed")[0], 405)
    web.close()


@case("so many subscriptions a connection, and no more")
def _(ng):
    web = Http(ng)
    upgrade = dict(Upgrade="websocket", Connection="Upgrade", Sec_WebSocket_Version="13",
                   Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==")
    equal(web.call("GET", "/two?more=c", **upgrade)[0], 403)
    web.close()
    web = Http(ng)
    Peer(ng, "/two?more=a").close()
    await_(lambda: web.call("GET", "/count?topic=a")[1] == "0", "nobody is left subscribed")
    peer = Peer(ng, "/lua-two")
    equal([peer.frame()[1] for _ in range(5)],
          [b"true nil", b"true nil", b"true nil", b"nil too many subscriptions", b"true nil"])
    peer.close()
    web.close()


@case("too many to resume: told, and live begins")
def _(ng):
    web = Http(ng)
    web.call("DELETE", "/feed")
    first = web.post("", *(f"m{n}" for n in range(7)), path="/feed")
    since = web.call("GET", "/feed?limit=7")[1]["messages"][0]["cursor"]
    peer = Peer(ng, f"/feed?since={since}", lines=OFFER)
    equal(line(peer), {"topic": "kept:feed", "cursor": first, "resumed": False, "count": 0,
                       "reason": "too many"})
    peer.close()
    web.close()


run(case, http=HTTP)
