BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Resuming where it is hard: compressed, while others publish, a crowd that does not read, URLs full of
# cursors; and keys: one used by two workers at once, and more of them than there is room for.
import json
import zlib

from lib.crowd import WORKERS, Line, lines
from lib.live import VALGRIND, Cases, await_, equal, run
from lib.memory import resident, within
from lib.peer import TEXT, Peer, head

case = Cases()
case.handler("/publish", """
    local websocket = require "resty.websocket"
    local args = ngx.req.get_uri_args()
    local padding = ("."):rep(tonumber(args.size) or 0)
    for n = tonumber(args.from) or 1, tonumber(args.to) do
        assert(websocket.publish(args.topic, n .. padding,
            args.keyed and { idempotency_key = "key " .. n } or nil))
        if n % 100 == 0 then ngx.sleep(0.001) end
    end
    ngx.print("done")
""")
case.handler("/count", """
    ngx.print(#require("resty.websocket").history(ngx.var.arg_topic, { limit = 1000 }))
""")
case.handler("/pid", "ngx.print(ngx.worker.pid())")
case.server += """
    location = /raw { websocket_subscribe $arg_topic since=$arg_since; websocket_resume_limit 10000; }
    location = /json { websocket_subscribe $arg_topic $arg_more since=$arg_since format=json; }
    location = /deflate {
        websocket_subscribe $arg_topic since=$arg_since;
        websocket_compression on threshold=0;
    }
    location = /topic { websocket_publish $arg_topic get; }
    location = /info { websocket_status; }
"""
HTTP = """
    websocket_history_zone 16m;
    websocket_topic kept:* history=10000 bytes=8m;
    websocket_topic kept:keys history=10;
    # A line and all its headers: nginx refuses what is longer.
    large_client_header_buffers 4 16k;
"""
RSV1 = 0x40
SIZE = 1000


def publish(line, topic, first, last, size=SIZE):
    equal(line.ask(f"/publish?topic={topic}&from={first}&to={last}&size={size}"), "done")


def numbers(peer, count):
    found = []
    for _ in range(count):
        first, payload = peer.frame()
        equal((first, payload.lstrip(b"0123456789")), (TEXT, b"." * SIZE))
        found.append(int(payload[:-SIZE]))
    return found


@case("compressed: what was missed and what is live, in one stream")
def _(ng):
    line = Line(ng)
    publish(line, "kept:deflate", 1, 100)
    offers = ["permessage-deflate", "permessage-deflate; server_no_context_takeover",
              "permessage-deflate; server_max_window_bits=9"]
    peers = []
    for offer in offers:
        peer = Peer(ng, "/deflate?topic=kept:deflate&since=-60",
                    lines=[f"Sec-WebSocket-Extensions: {offer}"])
        assert b"\r\nSec-WebSocket-Extensions: permessage-deflate" in peer.answer, offer
        peers.append(peer)
    publish(line, "kept:deflate", 101, 200)
    for peer, offer in zip(peers, offers):
        # One window over the whole stream, so that any slip shows.
        inflate, compressed = zlib.decompressobj(-15), 0
        for n in range(41, 201):
            first, payload = peer.frame()
            equal(first & ~RSV1, TEXT)
            if first & RSV1:
                compressed += 1
                payload = inflate.decompress(payload + b"\0\0\xff\xff")
            equal(payload, b"%d" % n + b"." * SIZE, offer)
        if "bits=9" not in offer:
            equal(compressed, 160, offer)
        peer.close()
    line.close()


@case("published while a resume is under way: once, in its place")
def _(ng):
    all_lines = list(lines(ng).values())
    publish(all_lines[0], "kept:between", 1, 2000)
    # None reads yet, so each stands somewhere in what it missed.
    peers = [Peer(ng, "/raw?topic=kept:between&since=-1900", window=4096) for _ in range(2 * WORKERS)]
    next = 2001
    for line in all_lines * 3:
        publish(line, "kept:between", next, next + 9)
        next += 10
        for peer in peers:
            peer.found = getattr(peer, "found", []) + numbers(peer, 100)
    publish(all_lines[-1], "kept:between", next, next)
    for peer in peers:
        equal(peer.found + numbers(peer, next - 100 - len(peer.found)), list(range(101, next + 1)))
        peer.close()
    [line.close() for line in all_lines]


@case("a key used by all workers at once: one message, and one answer for all")
def _(ng):
    all_lines = list(lines(ng).values())
    equal(len({line.pid for line in all_lines}), WORKERS)
    rounds = 20 if VALGRIND else 500
    fresh = []
    for n in range(rounds):
        for line in all_lines:
            line.http.putrequest("POST", "/topic?topic=kept:race")
            line.http.putheader("Idempotency-Key", f"round {n}")
            line.http.putheader("Content-Length", "1")
            line.http.endheaders()
        # The last byte sets each off.
        for line in all_lines:
            line.http.send(b"x")
        answers = [json.loads(line.end()) for line in all_lines]
        equal(len({answer["cursor"] for answer in answers}), 1, f"round {n}")
        fresh.append(answers[0]["cursor"])
    equal(len(set(fresh)), rounds)
    equal(all_lines[0].ask("/count?topic=kept:race"), str(min(rounds, 1000)))
    [line.close() for line in all_lines]


@case("thousands of keys: their topic keeps to its share, others lose nothing")
def _(ng):
    line = Line(ng)
    publish(line, "kept:other", 1, 50)
    before = line.info()
    last = 500 if VALGRIND else 60_000
    equal(line.ask(f"/publish?topic=kept:keys&keyed=1&to={last}"), "done")
    info = line.info()
    equal(info["history_evicted"], before["history_evicted"])
    assert info["history_bytes"] - before["history_bytes"] < info["history_zone_bytes"] // 7, info
    equal(line.ask("/count?topic=kept:other"), "50")
    equal(line.ask("/count?topic=kept:keys"), "10")
    # The newest is known, and the topic still takes messages.
    line.http.request("POST", "/topic?topic=kept:keys", "x", {"Idempotency-Key": f"key {last}"})
    equal(json.loads(line.end())["subscribers"], 0)
    equal(line.ask("/publish?topic=kept:keys&from=1000000&to=1000000&keyed=1"), "done")
    line.close()


@case("eight kilobytes of cursors: as many as topics are looked at; over nginx's own limit, 414")
def _(ng):
    line = Line(ng)
    publish(line, "kept:list", 1, 2)
    cursor = json.loads(line.ask("/topic?topic=kept:list&limit=2"))["messages"][0]["cursor"]
    watcher = Peer(ng, "/json?topic=kept:list&more=kept:list2")
    [watcher.frame() for _ in range(2)]
    # Its own cursor comes first, or after all others.
    rest = ".".join([cursor[:-1] + "!"] * (8192 // len(cursor)))
    for text, resumed in (f"{cursor}.{rest}", True), (f"{rest}.{cursor}", False):
        assert len(text) > 8000
        peer = Peer(ng, f"/json?topic=kept:list&more=kept:list2&since={text}")
        told = {}
        while len(told) < 2:
            said = json.loads(peer.frame()[1])
            if "resumed" in said:
                told[said["topic"]] = said
        equal(told["kept:list"]["resumed"], resumed, told)
        if not resumed:
            equal(told["kept:list"]["reason"], "cursor")
        peer.close()
    # By HTTP a reader's one cursor: a list is none.
    line.start(f"/topic?topic=kept:list&since={rest}")
    answer = line.http.getresponse()
    equal((answer.status, answer.read()), (400, b'{"error":"cursor"}\n'))
    peer = Peer(ng, request=head(f"/raw?topic=kept:list&since={'c' * 17_000}"))
    assert peer.until(b"\r\n").startswith(b"HTTP/1.1 414 "), peer.buffer
    peer.close()
    publish(line, "kept:list", 3, 3)
    equal(json.loads(watcher.frame()[1])["data"][0], "3")
    watcher.close()
    line.close()


@case("a crowd that resumes and does not read: 64 KiB wait for each, not what it missed", skip_valgrind=True)
def _(ng):
    line = Line(ng)
    publish(line, "kept:big", 1, 4000)

    def crowd(since, count):
        before = resident(*ng.workers())
        peers = [Peer(ng, f"/raw?topic=kept:big&since={since}", window=4096) for _ in range(count)]
        # Each has begun, and all workers have had their turn since.
        for peer in peers:
            peer.frame() if since else None
        [other.close() for other in lines(ng).values()]
        grown = resident(*ng.workers()) - before
        return peers, grown / count

    # What connections cost by themselves, who all stay.
    idle, base = crowd("", 300)
    peers, each = crowd("-4000", 300)

    def slowest():
        return json.loads(line.ask("/info?format=recent"))["readers"]

    waiting = [bytes for _, bytes in await_(slowest, "the slowest readers are shown")]
    assert max(waiting) <= 64 * 1024 + SIZE + 8, waiting
    assert min(waiting) > 8 * SIZE, f"they are not behind: {waiting}"
    print(f"# {base / 1024:.1f} KiB a connection, {each / 1024:.1f} KiB a full one, {max(waiting)} wait")
    within(each - base, 2 * 64 * 1024)
    # The last of them still gets all of it.
    equal(numbers(peers[-1], 3999), list(range(2, 4001)))
    [peer.close() for peer in idle + peers]
    line.close()


run(case, http=HTTP, workers=WORKERS, listen="reuseport sndbuf=16k")
