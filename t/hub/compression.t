BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Pushed messages on compressed connections: compressed once for all whose window allows it, plain for the
# others, and in step with what a connection compresses by itself between them. The clients inflate
# with one window over the whole connection, so that any slip shows.
import os
import random
import time
import zlib

from lib.crowd import WORKERS, Line, empty, lines, room
from lib.live import VALGRIND, Cases, await_, equal, run
from lib.peer import TEXT, Peer, frame

case = Cases()
room(case)
case.handler("/deflate", """
    local ws = assert(require("resty.websocket").accept{ compression = {
        level = 6, threshold = 0,
        server_no_context_takeover = ngx.var.arg_reset == "on" or nil,
    } })
    assert(ws:subscribe("room"))
    ws:send("hello")
    for data in ws:messages() do ws:send(data) end
""", "websocket_max_message_size 8m; websocket_send_buffer 8m;")
case.server += """
    location = /alone {
        websocket_subscribe room;
        websocket_compression on threshold=0;
        websocket_send_buffer 8m;
    }
    location = /large {
        websocket_subscribe room;
        websocket_compression on threshold=1000;
    }
    location = /publish { websocket_publish room; client_max_body_size 8m; client_body_buffer_size 8m; }
"""
RSV1 = 0x40


class Deflated:
    """A client that has offered compression in this way."""

    def __init__(self, ng, path, offer):
        self.peer = Peer(ng, path, lines=[f"Sec-WebSocket-Extensions: {offer}"] if offer else [])
        agreed = b"\r\nSec-WebSocket-Extensions: permessage-deflate" in self.peer.answer
        equal(agreed, bool(offer), f"{offer} is agreed upon")
        self.inflate = zlib.decompressobj(-15)
        self.compressed = self.plain = 0

    def next(self):
        first, payload = self.peer.frame()
        equal(first & ~RSV1, TEXT)
        if not first & RSV1:
            self.plain += 1
            return payload
        self.compressed += 1
        return self.inflate.decompress(payload + b"\0\0\xff\xff")


OFFERS = [None, "permessage-deflate", "permessage-deflate; server_max_window_bits=9",
          "permessage-deflate; server_no_context_takeover",
          "permessage-deflate; client_max_window_bits; server_max_window_bits=15"]


@case("many kinds of subscribers, messages of their own between pushed ones")
def _(ng):
    dice = random.Random(15)
    words = [dice.randbytes(6).hex() for _ in range(400)]

    def text(most):
        return " ".join(dice.choice(words) for _ in range(1 + dice.randrange(most)))

    clients = [Deflated(ng, "/deflate", offer) for offer in OFFERS for _ in range(2)]
    for client in clients:
        equal(client.next(), b"hello")
    alone = [Deflated(ng, "/alone", offer) for offer in OFFERS]
    all_lines = list(lines(ng).values())
    await_(lambda: all_lines[0].ask("/count?topic=room") == str(len(clients + alone)), "all are in")
    for round in range(60):
        for client in dice.sample(clients, 3):
            own = text(600)
            client.peer.send(frame(TEXT, own))
            equal(client.next(), own.encode(), f"own message, round {round}")
        pushed = text(dice.choice([3, 100, 5000]))
        dice.choice(all_lines).ask("/publish", "POST", pushed)
        for client in clients + alone:
            equal(client.next(), pushed.encode(), f"pushed message, round {round}")
    for client, offer in zip(clients, [offer for offer in OFFERS for _ in range(2)]):
        if offer is None:
            equal(client.compressed, 0)
        elif "bits=9" in offer:
            assert client.plain >= 60, "what is compressed for all needs the whole window"
            assert client.compressed > 0, "its own messages are compressed for it"
        else:
            assert client.compressed > 50, client.compressed
    for client in clients + alone:
        client.peer.close()
    empty(ng)
    for line in all_lines:
        line.close()


@case("below a connection's threshold pushed messages go as they are")
def _(ng):
    clients = [Deflated(ng, path, OFFERS[1]) for path in ("/alone", "/large")]
    all_lines = list(lines(ng).values())
    await_(lambda: all_lines[0].ask("/count?topic=room") == "2", "all are in")
    for size in 999, 1000:
        all_lines[0].ask("/publish", "POST", "x" * size)
        for client in clients:
            equal(client.next(), b"x" * size)
    equal([(client.plain, client.compressed) for client in clients], [(0, 2), (1, 1)])
    for client in clients:
        client.peer.close()
    empty(ng)
    for line in all_lines:
        line.close()


def cpu(ng):
    """Seconds that the workers have computed."""
    ticks = 0
    for pid in ng.workers():
        with open(f"/proc/{pid}/stat") as f:
            ticks += int(f.read().rpartition(")")[2].split()[11])
    return ticks / os.sysconf("SC_CLK_TCK")


@case("a large message is compressed once, not once for each subscriber")
def _(ng):
    clients = [Deflated(ng, "/alone", OFFERS[1]) for _ in range(30)]
    line = Line(ng)
    await_(lambda: line.ask("/count?topic=room") == "30", "all are in")
    dice = random.Random(1)
    body = "".join(dice.choice("abcdef") for _ in range(1_000_000))
    began = time.process_time()
    zlib.compress(body.encode(), 6)
    once = time.process_time() - began
    before, began = line.info(), cpu(ng)
    line.ask("/publish", "POST", body)
    for client in clients:
        equal(client.next(), body.encode())
        equal((client.compressed, client.plain), (1, 0))
    if not VALGRIND:
        took = cpu(ng) - began
        # Once in each worker, and not thirty times.
        assert took < 15 * once, f"{took:.2f} s in all workers, compressing takes {once:.3f} s"
    after = line.info()["compression_bytes"]
    equal(after["before"] - before["compression_bytes"]["before"], 30 * len(body))
    for client in clients:
        client.peer.close()
    line.close()


run(case, workers=WORKERS, listen="reuseport")
