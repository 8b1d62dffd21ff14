BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Access control of push without Lua is nginx's own: the example of nginx-conf/access.conf, and what
# websocket_subscribe and websocket_publish answer to requests they cannot serve.
import http.client
import json

from lib.crowd import WORKERS, Line, room
from lib.live import REPO, Cases, await_, equal, run
from lib.peer import CLOSE, TEXT, Peer, frame, head

case = Cases()
room(case)
case.server += f"""
    include {REPO}/nginx-conf/access.conf;
    location = /open {{ websocket_subscribe $arg_topic; }}
    location /publish/ {{
        websocket_publish $arg_topic;
        client_max_body_size 100k;
        client_body_buffer_size 1k;
    }}
    location = /variable-missing {{ websocket_subscribe "a$arg_none" $arg_none; }}
"""


def ask(ng, path, method="GET", body=None, source="127.0.0.1", headers={}):
    """Status and body of a request from an address of this machine."""
    line = http.client.HTTPConnection("127.0.0.1", ng.port, timeout=10, source_address=(source, 0))
    line.request(method, path, body, headers)
    answer = line.getresponse()
    body = answer.read()
    line.close()
    return answer.status, body


def cookie(token):
    return [f"Cookie: token={token}"]


ANN, BOB = cookie("ann-s-secret"), cookie("bob-s-secret")


def listening(ng, topic, count=1):
    """Until a topic has so many subscribers: they are that a moment after their 101."""
    await_(lambda: ng.get(f"/count?topic={topic}") == str(count), f"subscribers of {topic}")


def refused(ng, path, lines=()):
    """Status of an upgrade that is refused."""
    peer = Peer(ng, request=head(path, lines))
    status = int(peer.until(b"\r\n")[9:12])
    peer.close()
    return status


@case("the cookie alone lets no page of somebody else's in")
def _(ng):
    def origin(value):
        return ANN + [f"Origin: {value}"]

    for other in "https://evil.example", "http://localhost:8080.evil.example", "null":
        equal(refused(ng, "/private/feed", origin(other)), 403, other)
    for own in "http://localhost:8080", "http://127.0.0.1:8080":
        equal(refused(ng, "/private/feed", origin(own)), 101, own)


@case("auth_request: no token, a wrong one, a right one")
def _(ng):
    equal(refused(ng, "/private/feed"), 401)
    equal(refused(ng, "/private/feed", cookie("guess")), 403)
    ann = Peer(ng, "/private/feed", lines=ANN)
    bob = Peer(ng, "/private/feed", lines=BOB)
    listening(ng, "everybody", 2)
    status, body = ask(ng, "/private/publish?user=ann", "POST", "for Ann")
    equal((status, json.loads(body)["subscribers"]), (202, 1))
    equal(ann.frame(), (TEXT, b"for Ann"))
    status, body = ask(ng, "/publish/?topic=everybody", "POST", "for all")
    equal((status, json.loads(body)["subscribers"]), (202, 2))
    for peer in ann, bob:
        equal(peer.frame(), (TEXT, b"for all"))
        peer.send(frame(TEXT, "is dropped") + frame(CLOSE, b"\x03\xe8"))
        equal(peer.frame(), (CLOSE, b"\x03\xe8"))
        peer.close()
    equal(refused(ng, "/private/auth", ANN), 404)


@case("allow and deny: who may publish", logs="access forbidden by rule|too large body")
def _(ng):
    ann = Peer(ng, "/private/feed", lines=ANN)
    listening(ng, "everybody")
    equal(ask(ng, "/private/publish?user=ann", "POST", "x", "127.0.0.2")[0], 403)
    equal(ask(ng, "/private/publish?user=ann", "POST", "x" * 5000)[0], 413)
    equal(ask(ng, "/private/publish?user=ann", "POST", "from here")[0], 202)
    equal(ann.frame(), (TEXT, b"from here"))
    ann.close()


@case("limit_conn: five listeners from one address, and a place for every one that has gone",
      logs="limiting connections by zone")
def _(ng):
    path = "/private/feed"
    peers = [Peer(ng, path, lines=ANN) for _ in range(5)]
    equal(refused(ng, path, BOB), 503)
    peers.pop().close()
    await_(lambda: ng.sessions() == 4, "the fifth is gone")
    peers.append(Peer(ng, path, lines=BOB))
    equal(refused(ng, path, BOB), 503)
    for peer in peers:
        peer.close()


@case("publishing: every method, no body, a huge one, a topic that is none",
      logs="too large body|buffered to a temporary file")
def _(ng):
    line = Line(ng)
    published = line.info()["published"]
    for method in "GET", "HEAD", "DELETE", "PATCH", "OPTIONS":
        equal(ask(ng, "/publish/?topic=t", method, "x" if method != "HEAD" else None)[0], 405, method)
    line.start("/publish/?topic=t")
    answer = line.http.getresponse()
    answer.read()
    equal(answer.getheader("Allow"), "POST, PUT")
    for headers in {}, {"Transfer-Encoding": "chunked"}:
        body = b"0\r\n\r\n" if headers else b""
        status, answer = ask(ng, "/publish/?topic=t", "POST", body, headers=headers)
        equal((status, json.loads(answer)),
              (400, {"error": "no message: the request has no body"}))
    equal(ask(ng, "/publish/?topic=t", "POST", "x" * 200_000)[0], 413)
    equal(ask(ng, "/publish/", "POST", "x"), (400, b'{"error":"topic is empty"}\n'))
    equal(ask(ng, "/publish/?topic=" + "t" * 256, "POST", "x"),
          (400, b'{"error":"topic is too long"}\n'))
    equal(ask(ng, "/publish/?topic=t", "POST", b"\xc3"), (400, b'{"error":"invalid utf-8"}\n'))
    equal(line.info()["published"], published, "none of these was published")

    peer = Peer(ng, "/open?topic=" + "t" * 255)
    path = "/publish/?topic=" + "t" * 255
    listening(ng, "t" * 255)
    # In memory, in nginx's temporary file, in chunks.
    for body in b"short", b"y" * 90_000:
        equal(ask(ng, path, "POST", body)[0], 202)
        equal(peer.frame(), (TEXT, body))
    equal(ask(ng, path, "PUT", iter([b"in ", b"pieces"]))[0], 202)
    equal(peer.frame(), (TEXT, b"in pieces"))
    equal(ask(ng, path, "POST", b"\0\xff", headers={"Content-Type": "Application/Octet-Stream; x=y"})[0], 202)
    equal(peer.frame(), (0x82, b"\0\xff"))
    peer.close()
    line.close()


@case("subscribing: no upgrade, a topic that is none")
def _(ng):
    equal(ask(ng, "/open?topic=t")[0], 400)
    equal(ask(ng, "/open?topic=t", "POST", "x")[0], 400)
    equal(refused(ng, "/open"), 400)
    equal(refused(ng, "/open?topic=" + "t" * 256), 400)
    equal(refused(ng, "/variable-missing"), 400)
    peer = Peer(ng, request=head("/open?topic=t").replace(b"Version: 13", b"Version: 7"))
    answer = peer.until(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 426 ") and b"Sec-WebSocket-Version: 13\r\n" in answer, answer
    peer.close()
    for _ in range(3):
        Peer(ng, "/open?topic=t").rst()


run(case, workers=WORKERS, listen="reuseport", http="""
    limit_conn_zone $binary_remote_addr zone=listeners:1m;
    client_body_temp_path client_body_temp;
""")
