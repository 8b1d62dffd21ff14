BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# What a crowd of compressed connections took is the system's again once the worker is idle: heaps keep
# pages between blocks that are in use, until they are told (src/ngx/heap.rs).
import os
import re
import sys
import zlib

from lib.live import Cases, await_, equal, run
from lib.peer import Peer, frame

if os.environ.get("TEST_NGINX_USE_VALGRIND") or "asan" in os.environ.get("TEST_NGINX_LOAD_MODULES", ""):
    print("1..0 # SKIP another malloc")
    sys.exit()
case = Cases()
case.handler("/packed", """
    local ws = assert(require("resty.websocket").accept{ compression = { threshold = 0 } })
    for data, typ in ws:messages() do ws:send(data, typ) end
""")
DEFLATE = ["Sec-WebSocket-Extensions: permessage-deflate"]
PACKED = zlib.compressobj(9, zlib.DEFLATED, -15)
PACKED = PACKED.compress(b"0123456789" * 1000) + PACKED.flush(zlib.Z_SYNC_FLUSH)[:-4]


def resident(ng):
    worker, = ng.children()
    with open(f"/proc/{worker}/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1])


def crowd(ng, n):
    peers = [Peer(ng, "/packed", lines=DEFLATE) for _ in range(n)]
    for peer in peers:
        peer.send(frame(0xC1, PACKED))
        equal(peer.frame()[0], 0xC1)
    return peers


@case("a crowd comes and goes, and a few stay")
def _(ng):
    few = crowd(ng, 10)
    before = resident(ng)
    peers = crowd(ng, 200)
    # Every tenth of them stays: what the others leave lies between what is in use.
    few += peers[::10]
    most = resident(ng)
    assert most > 2 * before, f"{before} KiB before, {most} KiB with the crowd"
    for peer in peers:
        if peer not in few:
            peer.close()
    await_(lambda: ng.sessions() == len(few), "the crowd is gone")
    await_(lambda: resident(ng) < before + (most - before) / 3, "its memory is given back")
    for peer in few:
        peer.send(frame(0xC1, PACKED))
        equal(peer.frame()[0], 0xC1)
        peer.close()


run(case)
