BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# The access log of connections whose request was freed after the upgrade: the same lines as of those
# that keep it. The same conversations are held with `websocket_detach` on and off, and what was logged is
# compared, format by format; which of them keep their requests all the same, and that they say why. Then
# the logs of connections that a reload finds open.
import re

from lib.live import PORT, Nginx, Tap, await_, equal
from lib.peer import CLOSE, TEXT, Peer, context, frame

# By name: the format, more directives of its location, and what its requests are kept for.
FORMATS = {
    "combined": ("", "", None),
    "request": ("$request|$request_method|$request_uri|$uri|$document_uri|$args|$is_args|$query_string|"
                "$server_protocol", "", None),
    "arguments": ("$arg_id|$arg_x|$arg_none", "", None),
    "headers": ("$http_host|$host|$http_user_agent|$http_referer|$http_x_two|$http_none|"
                "$http_sec_websocket_key", "", None),
    "cookies": ("$http_cookie|$cookie_a|$cookie_b|$cookie_c", "", None),
    "answer": ("$sent_http_upgrade|$sent_http_connection|$sent_http_sec_websocket_accept|"
               "$sent_http_x_mine|$sent_http_none", "add_header X-Mine yes always;", None),
    "client": ("$remote_addr|$binary_remote_addr|$remote_user", "", None),
    "real": ("$remote_addr|$realip_remote_addr|$http_x_real",
             "set_real_ip_from 127.0.0.1; real_ip_header X-Real;", None),
    "sizes": ("$status|$bytes_sent|$body_bytes_sent|$request_length|$request_completion", "", None),
    "times": ("$msec|$time_iso8601|$time_local|$request_time", "", None),
    "websocket": ("$websocket_protocol|$websocket_messages_in|$websocket_messages_out|"
                  "$websocket_bytes_in|$websocket_bytes_out|$websocket_close_code", "", None),
    "durations": ("$websocket_duration|$websocket_id|$request_id", "", None),
    "map": ("$of_agent|$of_cookie", "", None),
    "map over the end": ("$of_status", "", "a variable of their log depends on \\$status"),
    "set": ("$mine|$yours", "set $mine a$arg_x; set $yours $http_user_agent;", None),
    "geo": ("$near", "", None),
    "split": ("$half", "", None),
    "auth": ("$who", "auth_request /auth; auth_request_set $who $sent_http_x_who;", None),
    "if a": ("logged $uri", "", None),
    "if b": ("logged $uri", "", None),
    "map over a count": ("$of_count", "", "a variable of their log depends on \\$websocket_messages_in"),
    "map over unknown": ("$of_date", "", "a variable of their log depends on \\$date_gmt"),
    "if group": ("logged $uri", "", "the condition of their log has a group of a match"),
    "if status": ("logged $uri", "", "a variable of their log depends on \\$status"),
    "connection": ("$connection_requests|$pipe|$server_addr|$server_name|$scheme|$https|$hostname|"
                   "$nginx_version", "", None),
    "files": ("$document_root|$realpath_root|$request_filename", "", None),
    "content": ("$content_length|$content_type|$request_body|$request_body_file", "", None),
    "rates": ("$limit_rate|$limit_req_status|$limit_conn_status|$gzip_ratio", "limit_req zone=all burst=99;",
              None),
    "upstream": ("$upstream_addr|$upstream_status|$upstream_http_x_who|$upstream_response_time|"
                 "$websocket_upstream_addr|$websocket_upstream_status", "", None),
    "json": ('{"agent":"$http_user_agent","referer":"$http_referer","status":"$status"}', "", None),
    "none": ("$http_user_agent $http_referer", "", None),
    "kernel": ("$tcpinfo_snd_cwnd", "", None),
    "path": ("$uri", "", "the path of their log has variables"),
    "unknown": ("$date_gmt", "", "their log has \\$date_gmt"),
    "captured": ("$part", "", None),
    "off": ("", "", None),
}
LOGS = {"off": "access_log off;",
        "if a": "access_log %s if=$from_one;",
        "if b": "access_log %s if=$from_two;",
        "if group": "access_log %s if=$1;",
        "if status": "access_log %s if=$is_101;",
        "path": "access_log logs/$arg_x.log %s;"}
# Locations that are no path.
PLACES = {"captured": "~ ^/%s/(?<part>capt)ured", "if group": "~ ^/%s/(if)-group"}
ESCAPES = {"json": "escape=json ", "none": "escape=none "}
# What differs from one connection to the next.
VARIES = re.compile(r"\d\d/\w{3}/\d{4}:[\d:]+ \+0000|\d{4}-\d\d-\d\dT[\d:+]+|\b[0-9a-f]{32}\b|"
                    r"\b\d+\.\d{3}\b|\w+, \d\d-\w{3}-\d{4} [\d:]+ GMT|\d+-\d+|"
                    r"(?<=^kernel: )\d+")

HTTP = """
    websocket_zone 1m;
    limit_req_zone $server_name zone=all:64k rate=1000r/s;
    map $http_user_agent $of_agent { ~T agent-$arg_x; default other; }
    map $cookie_a $of_cookie { 1 one; default none; }
    map $status $of_status { 101 switched; default $http_none; }
    map $websocket_messages_in $of_count { 1 one; default none; }
    map $date_gmt $of_date { "" none; default dated; }
    map $status $is_101 { 101 1; default 0; }
    map $arg_x $from_one { one 1; default ""; }
    map $arg_x $from_two { two 1; default 0; }
    geo $near { 127.0.0.0/8 here; default away; }
    split_clients $http_user_agent $half { 50% first; * second; }
"""


def slug(name):
    return name.replace(" ", "-")


def place(kind, name):
    return PLACES.get(name, f"= /%s/{slug(name)}") % kind


def config(detach):
    http, server = HTTP + f"websocket_detach {detach};\n", """
        location = /auth { internal; add_header X-Who ann always; return 204; }
    """
    for name, (text, directives, _) in FORMATS.items():
        if text:
            http += f"log_format {slug(name)} {ESCAPES.get(name, '')}'{name}: {text}';\n"
        access = LOGS.get(name, "access_log %s;")
        target = (f"logs/{slug(name)}.log" + (f" {slug(name)}" if text else "")
                  if name != "path" else slug(name))
        access = access.replace("%s", target)
        for kind, content in ("sub", "websocket_subscribe a;"), ("serve", """content_by_lua_block {
                require("resty.websocket").serve{
                    on_message = function(ws, data) ws:send(data) end } }"""):
            server += f"location {place(kind, name)} {{ {access} {directives} {content} }}\n"
    # So many more formats move those that locations have taken already.
    more = "".join(f"log_format more{n} '$uri';\n" for n in range(100))
    server += f"}} {more} server {{ listen 127.0.0.1:{PORT + 1};\n"
    return dict(http=http, server=server)


LINES = ["User-Agent: T \"quoted\" \\ \x7f", "Referer: http://a.example/", "X-Two: 1", "X-Two: 2",
         "Cookie: a=1; b=2", "X-Real: 192.0.2.77"]


def writing(ng):
    """Connections with a request, as nginx counts them, without the one that asks."""
    return int(re.search(r"Writing: (\d+)", ng.get("/live/status")).group(1)) - 1


def converse(ng, kind, name):
    """One conversation. Whether it went on without its request."""
    peer = Peer(ng, request=(
        f"GET /{kind}/{slug(name)}?x=one&id=7 HTTP/1.1\r\nHost: t\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + "\r\n".join(LINES) + "\r\n\r\n").encode())
    peer.until(b"\r\n\r\n")
    await_(lambda: ng.sessions() == 1, "the session begins")
    peer.send(frame(TEXT, "hello"))
    if kind == "serve":
        equal(peer.frame(), (TEXT, b"hello"))
    if expects(name):
        # What is kept stays so: it is asked after the turn in which it would have been freed.
        equal(ng.sessions(), 1)
        freed = writing(ng) == 0
    else:
        await_(lambda: writing(ng) == 0 or not ng.detaches, f"{kind}/{name}: the request is freed")
        freed = writing(ng) == 0
    peer.send(frame(CLOSE, b"\x03\xe8"))
    equal(peer.frame(), (CLOSE, b"\x03\xe8"))
    equal(peer.rest(), b"")
    peer.close()
    await_(lambda: ng.connections() == 0, "the connection ends")
    return freed


def expects(name):
    return FORMATS[name][2]


def hold(detach):
    """All conversations: by kind and format whether it was freed, and all that was logged."""
    ng = Nginx(**config(detach))
    ng.detaches = detach == "on"
    try:
        ng.start()
        freed = {(kind, name): converse(ng, kind, name) for kind in ("sub", "serve") for name in FORMATS}
        equal(ng.stop(), 0, "exit code of nginx")
        loud = ng.loud()
        assert not loud, loud[:10]
        found = ng.valgrind_findings()
        assert not found, "valgrind:\n" + "\n".join(found[:200])
        lines = {}
        for name in FORMATS:
            place = "one" if name == "path" else slug(name)
            try:
                with open(f"{ng.root}/logs/{place}.log", encoding="latin-1") as log:
                    lines[name] = log.read().splitlines()
            except FileNotFoundError:
                lines[name] = None
        return freed, lines, ng.read_log()
    finally:
        ng.kill()


tap = Tap()
seen = {}


def both():
    for detach in "on", "off":
        seen[detach] = hold(detach)


tap.attempt("conversations in all formats, with requests freed and kept", both)
if len(seen) == 2:
    (freed, logged, errors), (kept, before, _) = seen["on"], seen["off"]

    def all_kept():
        equal([place for place, was in kept.items() if was], [], "freed with websocket_detach off")
    tap.attempt("off keeps every request", all_kept)

    for name, (_, _, reason) in FORMATS.items():
        def same():
            def shape(lines):
                return lines and [VARIES.sub("#", line) for line in lines]
            equal(shape(logged[name]), shape(before[name]), "lines")
            count = 0 if name in ("off", "if b") else 2
            equal(len(logged[name] or []), count, "how many")
            for kind in "sub", "serve":
                equal(freed[kind, name], reason is None, f"freed ({kind})")
                location = re.escape(place(kind, name).split(" ", 1)[1])
                said = re.findall(rf'\[notice\] .*location "{location}" keep their '
                                  f"requests: {reason}", errors)
                equal(len(said), 0 if reason is None else 1, f"said ({kind})")
        tap.attempt(name, same)


def reloaded():
    """Connections that a reload finds open are logged as their configuration says, not as the new one."""
    def sections(n):
        text, what = [("first", "$arg_x"), ("second", "$http_host")][n % 2]
        return dict(
            http="websocket_shutdown_close off; map $arg_x $of_arg { default " + text + "; } "
                 f"log_format changing '{n % 2} $of_arg $uri {what}';",
            server="location = /sub { access_log logs/changing.log changing; websocket_subscribe a; }")

    def lines():
        with open(f"{ng.root}/logs/changing.log") as log:
            return log.read().splitlines()

    ng = Nginx(**sections(0))
    try:
        ng.start()
        peers = []
        for n in range(4):
            if n:
                ng.write(**sections(n))
                ng.signal("HUP")
                await_(lambda: ng.read_log().count("gracefully shutting down") == n, "a reload")
            peers.append(Peer(ng, "/sub?x=one"))
            await_(lambda: ng.sessions() == n + 1, "its session")
            await_(lambda: writing(ng) == 0, "its request is freed")
        for n, peer in enumerate(peers):
            peer.send(frame(CLOSE, b"\x03\xe8"))
            equal(peer.frame(), (CLOSE, b"\x03\xe8"))
            equal(peer.rest(), b"")
            peer.close()
            await_(lambda: len(lines()) == n + 1, "its line")
        equal(lines(), ["0 first /sub one", "1 second /sub t"] * 2)
        equal(ng.stop(), 0, "exit code of nginx")
        loud = ng.loud()
        assert not loud, loud[:10]
    finally:
        ng.kill()


tap.attempt("a reload changes a format", reloaded)
tap.done()
