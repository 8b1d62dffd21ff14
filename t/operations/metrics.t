BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# What is seen from outside: the numbers of known traffic over all workers, as JSON, as Prometheus text
# (read by a parser of its own, as strict as Prometheus's) and in Lua; the access log's variables.
import json
import re
import struct

from lib.crowd import WORKERS, Crowd, Line, lines, room
from lib.live import Cases, await_, equal, run
from lib.peer import CLOSE, PING, PONG, TEXT, Peer, frame, head

case = Cases()
room(case)
case.server += """
    location = /prometheus { websocket_status prometheus; }
    location = /html { websocket_status html; }
    location = /chosen { websocket_status; }
"""
case.handler("/lua", """
    local info = require("resty.websocket").info()
    local out = {}
    for name, value in pairs(info) do
        if type(value) == "table" then
            for label, n in pairs(value) do out[#out + 1] = name .. " " .. label .. " " .. n end
        else
            out[#out + 1] = name .. " " .. value
        end
    end
    ngx.print(table.concat(out, "\\n"))
""")
case.handler("/only-ours", """
    local ws, err, status = require("resty.websocket").accept{ origins = "https://ours.example" }
    if not ws then return ngx.exit(status) end
""")
case.handler("/drop-in", """
    local wb, err = require("resty.websocket.server"):new()
    if not wb then ngx.say(err) end
""")
case.handler("/lazy", """
    local ws = assert(require("resty.websocket").accept())
    ws:send(ws.id)
    assert(ws:subscribe("lazy"))
    ws:recv()
""", "websocket_slow_consumer drop;")
case.handler("/pings", """
    local ws = assert(require("resty.websocket").accept{
        ping_interval = 50, ping_timeout = tonumber(ngx.var.arg_timeout) })
    ws:recv()
""")
case.handler("/logged", """
    local ws = assert(require("resty.websocket").accept{ protocols = "v1" })
    assert(ws:subscribe("logged"))
    for data in ws:messages() do ws:send(data) ws:send(data) end
""", "access_log logs/ws.log ws;")
case.server += "location = /plain { access_log logs/ws.log ws; return 204; }\n"
case.server += "location = /alone-logged { websocket_subscribe logged; access_log logs/ws.log ws; }\n"
LOG_FORMAT = ("log_format ws '$uri|$status|$websocket_id|$websocket_protocol|$websocket_messages_in|"
              "$websocket_messages_out|$websocket_bytes_in|$websocket_bytes_out|"
              "$websocket_close_code|$websocket_duration';")

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? (\d+)")


def parse(text):
    """Samples by name and labels of a text in Prometheus's exposition format 0.0.4, in which every
    family has its help and type once and first, and stands in one piece."""
    assert text.endswith("\n") and "\n\n" not in text and "\r" not in text
    samples, families, family, kind = {}, set(), None, None
    lines = text[:-1].split("\n")
    for at, line in enumerate(lines):
        if line.startswith("# HELP "):
            match = re.fullmatch(rf"# HELP ({NAME}) ([^\\]+)", line)
            assert match, line
            family = match[1]
            assert family not in families, f"{family} comes twice"
            families.add(family)
            kind = re.fullmatch(rf"# TYPE {family} (counter|gauge)", lines[at + 1])
            assert kind, lines[at + 1]
            equal(kind[1] == "counter", family.endswith("_total"), family)
        elif line.startswith("# TYPE "):
            assert lines[at - 1].startswith("# HELP "), line
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            equal(match[1], family, "a sample outside of its family")
            key = match[1], match[2]
            assert key not in samples, line
            samples[key] = int(match[3])
    assert len(samples) > 50
    return samples


def same(samples, info):
    """Whether both say the same; numbers of asking itself are no WebSockets'."""
    left = dict(samples)
    for name, value in info.items():
        if name in ("workers", "brokers"):
            continue
        by_label = value if isinstance(value, dict) else {None: value}
        for label, n in by_label.items():
            found = [key for key in left if key[0] in (f"websocket_{name}", f"websocket_{name}_total")
                     and (label is None or key[1].endswith(f'="{label}"'))]
            equal(len(found), 1, f"{name} {label}")
            equal(left.pop(found[0]), n, f"{name} {label}")
    equal(left, {})


@case("Prometheus text, JSON and info() say the same, in every worker")
def _(ng):
    crowd = Crowd(ng, 2 * WORKERS)
    for line in lines(ng).values():
        line.ask("/push?data=hello")
        crowd.next()
        samples, info = parse(line.ask("/prometheus")), line.info()
        same(samples, info)
        lua = dict(row.rsplit(" ", 1) for row in line.ask("/lua").split("\n"))
        flat = {}
        for name, value in info.items():
            if isinstance(value, dict):
                flat.update({f"{name} {label}": str(n) for label, n in value.items()})
            elif name not in ("workers", "brokers"):
                flat[name] = str(value)
        equal({name: lua[name] for name in flat}, flat)
        equal(set(lua) - set(flat), {"open", "accepted"})
        line.close()
    crowd.close()


@case("the form is the directive's or the query's, GET and HEAD only")
def _(ng):
    line = Line(ng)
    assert line.ask("/chosen").startswith('{"')
    assert line.ask("/chosen?format=prometheus").startswith("# HELP ")
    assert line.ask("/prometheus?format=json").startswith('{"')
    assert line.ask("/html").startswith("<!doctype html>")
    equal(line.ask("/chosen", "HEAD"), "")
    for method in "POST", "PUT", "DELETE", "OPTIONS":
        line.start("/chosen", method, "x")
        answer = line.http.getresponse()
        answer.read()
        equal((answer.status, answer.getheader("Allow")), (405, "GET, HEAD"), method)
    line.close()


@case("the page has nothing inline, and its parts come from the same location")
def _(ng):
    line = Line(ng)
    page = line.ask("/html")
    assert not re.search(r"<script(?! src=)|<style|\sstyle=|\son\w+=", page), page
    parts = re.findall(r'(?:href|src)="\?format=(\w+)"', page)
    equal(parts, ["icon", "css", "js", "json", "prometheus"])
    kinds = {"icon": "image/svg+xml", "css": "text/css; charset=utf-8",
             "js": "application/javascript; charset=utf-8"}
    for part, kind in kinds.items():
        line.start(f"/chosen?format={part}")
        answer = line.http.getresponse()
        assert answer.read()
        equal((answer.status, answer.getheader("Content-Type")), (200, kind))
    line.close()


@case("for the page: the last minutes, the largest topics, the slowest readers")
def _(ng):
    line = Line(ng)

    def recent():
        return json.loads(line.ask("/chosen?format=recent"))

    crowd = Crowd(ng, 3, path='/room?topics=a"quoted\\topic')
    await_(lambda: recent()["topics"] == [['a"quoted\\topic', len(crowd)]], "the topic is shown")
    shown = recent()
    equal(shown["readers"], [], "nothing waits for anybody")
    open_at = shown["names"].index("connections_open") + 1
    await_(lambda: recent()["samples"][-1][open_at] == len(crowd), "they are in a sample")
    equal((shown["every"], shown["kept"]), (2000, 180))
    numbers = [sample[0] for sample in recent()["samples"]]
    equal(numbers, sorted(set(numbers)))
    crowd.close()
    await_(lambda: recent()["topics"] == [], "the topics go")

    # Nobody reads what is pushed; what its send buffer has no room for is dropped.
    lazy = Peer(ng, "/lazy", window=4096)
    owner = lazy.frame()[1].decode()
    for _ in range(800):
        line.ask("/push?topic=lazy&data=" + 7000 * "x")
    (reader, waiting), = await_(lambda: recent()["readers"], "the slow reader is shown")
    equal(reader, owner)
    assert 0 < waiting <= 300 << 10, waiting
    lazy.close()
    await_(lambda: recent()["readers"] == [], "the slow reader goes")
    line.close()


def difference(after, before):
    changed = {}
    for name, value in after.items():
        if name in ("workers", "brokers"):
            continue
        if isinstance(value, dict):
            for label, n in value.items():
                changed[f"{name} {label}"] = n - before[name][label]
        else:
            changed[name] = value - before[name]
    return {name: n for name, n in changed.items() if n and "wakeups" not in name}


@case("known traffic in several workers gives known numbers")
def _(ng):
    line = Line(ng)
    before = line.info()
    crowd = Crowd(ng, 16)
    n = len(crowd)
    hello = sum(len(f"{one.pid} {one.id}") for one in crowd)
    for one in crowd:
        one.send(frame(TEXT, "echo 12345"))
    equal(set(crowd.next()), {(TEXT, b"12345")})
    line.ask("/push?data=1234567")
    equal(set(crowd.next()), {(TEXT, b"1234567")})
    line.ask("/push?data=x&topic=nobody-is-there")
    equal(difference(line.info(), before), {
        "connections_open": n, "connections_accepted": n, "messages in": n, "messages out": 3 * n,
        "bytes in": 10 * n, "bytes out": hello + 12 * n, "topics": WORKERS, "subscriptions": n,
        "published": 2, "delivered": n})
    endings = [b"\x03\xe8", b"\x03\xe9", b"\x0b\xb8", b"\x0f\xa1", b""]
    for one, how in zip(crowd, endings):
        one.send(frame(CLOSE, how))
    crowd[5].send(frame(TEXT, b"\xff"))
    crowd[6].send(b"\x81\x01x")
    crowd[7].send(b"\xf1\x80aaaa")
    for one in crowd[8:]:
        one.sock.close()
    for one in crowd[:8]:
        one.sock.settimeout(10)
        while one.take():
            pass
        one.sock.close()
    for path, more in ("/room", []), ("/only-ours", ["Origin: https://theirs.example"]):
        request = head(path, more)
        if path == "/room":
            request = request.replace(b"Version: 13", b"Version: 8")
        refused = Peer(ng, request=request)
        assert refused.more().startswith((b"HTTP/1.1 426", b"HTTP/1.1 403"))
        refused.close()
    await_(lambda: line.info()["connections_open"] == before["connections_open"], "all gone")
    after = difference(line.info(), before)
    expected = {
        "connections_accepted": n, "messages in": n, "messages out": 3 * n,
        "bytes in": 10 * n, "bytes out": hello + 12 * n, "published": 2, "delivered": n,
        "connections_closed 1000": 1, "connections_closed 1001": 1, "connections_closed 3xxx": 1,
        "connections_closed 4xxx": 1, "connections_closed 1005": 1, "connections_closed 1007": 1,
        "connections_closed 1002": 2, "connections_closed 1006": n - 8, "protocol_errors utf8": 1,
        "protocol_errors masking": 1, "protocol_errors rsv": 1,
        "connections_refused version": 1, "connections_refused origin": 1}
    equal(after, expected)
    line.close()


@case("upgrades that a drop-in object refuses")
def _(ng):
    line = Line(ng)
    before = line.info()
    for was, instead in (b"Version: 13", b"Version: 12"), (b"websocket", b"h2c"), (b"Key:", b"Other:"):
        refused = Peer(ng, request=head("/drop-in").replace(was, instead))
        assert refused.more().startswith(b"HTTP/1.1 200")
        refused.close()
    after = difference(line.info(), before)
    equal(after, {f"connections_refused {rule}": 1 for rule in ("version", "upgrade", "key")})
    line.close()


@case("pings of the module and peers that do not answer")
def _(ng):
    line = Line(ng)
    before = line.info()
    answers, silent = Peer(ng, "/pings?timeout=60000"), Peer(ng, "/pings?timeout=50")
    for _ in range(3):
        equal(answers.frame(), (PING, b""))
        answers.send(frame(PONG))
    silent.rest()
    answers.send(frame(CLOSE, b"\x03\xe8"))
    while answers.frame()[0] != CLOSE:
        pass
    answers.close()
    silent.close()
    await_(lambda: ng.sessions() == 0, "both are gone")
    after = difference(line.info(), before)
    equal(after["ping_timeouts"], 1)
    assert after["pings_sent"] >= 4, after
    line.close()


@case("variables in the access log, of handlers in Lua and of websocket_subscribe")
def _(ng):
    line = Line(ng)
    peer = Peer(ng, "/logged", lines=["Sec-WebSocket-Protocol: v2, v1"])
    peer.send(frame(TEXT, "12345") + frame(TEXT, "678"))
    for expected in [(TEXT, b"12345")] * 2 + [(TEXT, b"678")] * 2:
        equal(peer.frame(), expected)
    peer.send(frame(PING, b"no message"))
    equal(peer.frame(), (PONG, b"no message"))
    peer.send(frame(CLOSE, struct.pack(">H", 4321)))
    peer.rest()
    peer.close()
    alone = Peer(ng, "/alone-logged")
    await_(lambda: line.ask("/count?topic=logged") == "1", "it is subscribed")
    line.ask("/push?topic=logged&data=abcdef")
    equal(alone.frame(), (TEXT, b"abcdef"))
    alone.rst()
    line.ask("/plain")
    line.close()

    def rows():
        with open(f"{ng.root}/logs/ws.log") as f:
            return sorted(row.rstrip("\n").split("|") for row in f)
    await_(lambda: len(rows()) == 3, "three requests are logged")
    without_lua, logged, plain = rows()
    equal(plain, ["/plain", "204"] + ["-"] * 8)
    assert re.fullmatch("[0-9a-f]{32}", logged[2]), logged
    equal(logged[:2] + logged[3:9], ["/logged", "101", "v1", "2", "4", "8", "16", "4321"])
    equal(without_lua[:2] + without_lua[3:9], ["/alone-logged", "101", "-", "0", "1", "0", "6", "1006"])
    assert re.fullmatch("[0-9a-f]{32}", without_lua[2]) and without_lua[2] != logged[2]
    for row in logged, without_lua:
        assert re.fullmatch(r"\d+\.\d{3}", row[9]), row


run(case, workers=WORKERS, listen="reuseport", http=LOG_FORMAT)
