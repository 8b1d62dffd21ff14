BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# The content directives wherever nginx leads a request: `if`, `limit_except`, named and nested
# locations, error_page, try_files, rewrite, subrequests. They behave as proxy_pass does.
import re
import socket

from lib.live import PATIENCE, Cases, equal, run
from lib.peer import CLOSE, TEXT, Peer, frame, head

case = Cases()
case.server = """
    location = /if { if ($arg_key = "secret") { set $x 1; } websocket_publish room; }
    location = /other { if ($arg_key = "secret") { websocket_publish other; } websocket_publish room; }
    location = /only { log_not_found off; if ($arg_key = "secret") { websocket_publish room; } }
    location = /deny { if ($arg_key != "secret") { return 403; } websocket_publish room; }
    location = /twice { if ($args) { set $x 1; } if ($arg_key) { set $y 1; } websocket_publish room; }
    location = /limited { limit_except PUT { deny all; } websocket_publish room; }
    location = /limits { limit_except GET { allow all; } websocket_publish room; }
    location = /within { limit_except GET { websocket_publish other; } websocket_publish room; }
    location /outer/ { location /outer/inner { websocket_publish room; } websocket_publish other; }
    location /nested/ { websocket_publish room; location /nested/none { log_not_found off; } }
    location = /named { try_files /nothing @publish; }
    location = /tried { try_files /nothing /if; }
    location = /status-named { error_page 418 = @status; return 418; }
    location = /redirected { error_page 418 = @publish; return 418; }
    location = /rewritten { rewrite ^ /if?key=secret last; }
    location = /executed { content_by_lua_block { ngx.exec("/if?key=secret") } }
    location @publish { if ($arg_key = "secret") { set $x 1; } websocket_publish room; }
    location @status { if ($arg_key = "secret") { set $x 1; } websocket_status; }

    location = /ws { websocket_subscribe room; }
    location = /ws-if { if ($http_origin = "https://good") { set $x 1; } websocket_subscribe room; }
    location = /ws-limit { limit_except POST { allow all; } websocket_subscribe room; }
    location = /ws-named { try_files /nothing @subscribe; }
    location = /ws-tried { try_files /nothing /ws-if; }
    location = /ws-error { error_page 418 = @subscribe; return 418; }
    location = /ws-redirect { error_page 418 = /ws-if; return 418; }
    location = /ws-rewritten { rewrite ^ /ws-if last; }
    location = /ws-executed { content_by_lua_block { ngx.exec("/ws-if") } }
    location /ws-outer/ { location /ws-outer/inner { websocket_subscribe room; } }
    location @subscribe { if ($http_origin = "https://good") { set $x 1; } websocket_subscribe room; }
    location = /both { if ($arg_key) { set $x 1; } websocket_subscribe room; websocket_publish room; }

    location = /html { if ($arg_key = "secret") { set $x 1; } websocket_status html; }
    location = /prometheus { limit_except POST { allow all; } websocket_status prometheus; }

    location = /capture { content_by_lua_block {
        local answer = ngx.location.capture("/ws", { method = ngx.HTTP_GET })
        ngx.say(answer.status)
        ngx.say(ngx.location.capture("/if", { method = ngx.HTTP_POST, body = "inner" }).body)
    } }
    location = /parts/page { add_before_body /parts/status; add_after_body /parts/status;
                             default_type text/html; }
    location = /parts/status { websocket_status; }
    location = /mirrored { mirror /ws; content_by_lua_block { ngx.exit(204) } }
    location = /asks { auth_request /ws; content_by_lua_block { ngx.exit(204) } }
"""


def http(ng, target, method="GET", body=b"", lines=()):
    """Status and body of one request on a connection of its own."""
    with socket.create_connection(("127.0.0.1", ng.port), PATIENCE) as s:
        more = "".join(f"{line}\r\n" for line in lines)
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        s.sendall(f"{method} {target} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n"
                  f"{more}{length}\r\n".encode() + body)
        answer = b"".join(iter(lambda: s.recv(65536), b""))
    start, _, rest = answer.partition(b"\r\n\r\n")
    return int(start.split()[1]), rest.decode()


def listens(ng, path, topic="room"):
    """A subscriber of that path hears what is published."""
    peer = Peer(ng, path, lines=["Origin: https://good"])
    equal(http(ng, "/if", "POST", b"hello")[0], 202, "published")
    equal(peer.frame(), (TEXT, b"hello"), path)
    peer.send(frame(CLOSE, b"\x03\xe8"))
    peer.close()


@case("websocket_publish: where the request came from makes no difference")
def _(ng):
    peer = Peer(ng, "/ws")
    for path in ["/if", "/if?key=secret", "/other", "/only?key=secret", "/deny?key=secret", "/twice",
                 "/twice?key=1", "/limits", "/outer/inner", "/nested/x", "/named", "/named?key=secret",
                 "/tried", "/tried?key=secret", "/redirected", "/redirected?key=secret", "/rewritten",
                 "/executed", "/both", "/both?key=1"]:
        equal(http(ng, path, "POST", path.encode())[0], 202, path)
        equal(peer.frame(), (TEXT, path.encode()), path)
    peer.close()


@case("websocket_publish: what says otherwise is heard", logs="access forbidden by rule")
def _(ng):
    peer = Peer(ng, "/ws")
    for path, status in [("/other?key=secret", 202), ("/only", 404), ("/deny", 403), ("/within", 202),
                         ("/limited", 403), ("/outer/x", 202), ("/nested/none", 404)]:
        equal(http(ng, path, "POST", b"x")[0], status, path)
    equal(http(ng, "/limited", "PUT", b"last")[0], 202, "PUT")
    equal(peer.frame(), (TEXT, b"last"), "nothing of the above came")
    peer.close()


@case("websocket_subscribe: where the request came from makes no difference")
def _(ng):
    for path in ["/ws", "/ws-if", "/ws-limit", "/ws-named", "/ws-tried", "/ws-error", "/ws-redirect",
                 "/ws-rewritten", "/ws-executed", "/ws-outer/inner", "/both"]:
        listens(ng, path)


@case("websocket_status: its form goes with it")
def _(ng):
    for path, start in [("/html", "<!"), ("/html?key=secret", "<!"), ("/prometheus", "# HELP"),
                        ("/status-named", "{"), ("/status-named?key=secret", "{")]:
        status, body = http(ng, path)
        equal((status, body.lstrip()[:len(start)].replace("<!D", "<!")), (200, start), path)


@case("a location that subscribes and publishes")
def _(ng):
    equal(http(ng, "/both"), (400, http(ng, "/both")[1]), "GET without Upgrade")
    with socket.create_connection(("127.0.0.1", ng.port), PATIENCE) as s:
        s.sendall(b"DELETE /both HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: s.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 405 ") and b"\r\nAllow: GET, POST, PUT\r\n" in answer, answer


@case("a subrequest: websocket_subscribe refuses, the others answer",
      logs="auth request unexpected status: 500")
def _(ng):
    peer = Peer(ng, "/ws")
    for path, status in [("/capture", 200), ("/mirrored", 204), ("/asks", 500)]:
        with socket.create_connection(("127.0.0.1", ng.port), PATIENCE) as s:
            s.sendall(head(path, ["Origin: x"]).replace(b"Connection: Upgrade",
                                                        b"Connection: Upgrade, close"))
            answer = b"".join(iter(lambda: s.recv(65536), b""))
        equal(int(answer.split()[1]), status, path)
        if path == "/capture":
            body = answer.partition(b"\r\n\r\n")[2]
            assert re.search(rb"\b500\n", body) and b'"subscribers":1' in body, answer
    equal(peer.frame(), (TEXT, b"inner"), "published by the subrequest")
    peer.close()


def page(ng):
    import os
    os.makedirs(f"{ng.root}/html/parts", exist_ok=True)
    with open(f"{ng.root}/html/parts/page", "w") as out:
        out.write("the page")
    return {}


@case("a part of a page does not end it")
def _(ng):
    status, body = http(ng, "/parts/page")
    equal(status, 200)
    assert body.index('"workers"') < body.index("the page") < body.rindex('"workers"'), body


run(case, prepare=page, listen="sndbuf=16k")
