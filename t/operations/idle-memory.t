BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# What a crowd of compressed connections took is the system's again once the worker is idle: heaps keep
# pages between blocks that are in use, until they are told (src/ngx/heap.rs).
import zlib

from lib.live import Cases, await_, equal, run
from lib.memory import resident
from lib.peer import Peer, frame

case = Cases()
case.handler("/packed", """
    local ws = assert(require("resty.websocket").accept{ compression = { threshold = 0 } })
    for data, typ in ws:messages() do ws:send(data, typ) end
""")
DEFLATE = ["Sec-WebSocket-Extensions: permessage-deflate"]
PACKED = zlib.compressobj(9, zlib.DEFLATED, -15)
PACKED = PACKED.compress(b"0123456789" * 1000) + PACKED.flush(zlib.Z_SYNC_FLUSH)[:-4]


def crowd(ng, n):
    peers = [Peer(ng, "/packed", lines=DEFLATE) for _ in range(n)]
    for peer in peers:
        peer.send(frame(0xC1, PACKED))
        equal(peer.frame()[0], 0xC1)
    return peers


@case("a crowd comes and goes, and a few stay", memory=True)
def _(ng):
    worker, = ng.children()
    few = crowd(ng, 10)
    before = resident(worker)
    peers = crowd(ng, 200)
    # Every tenth of them stays: what the others leave lies between what is in use.
    few += peers[::10]
    most = resident(worker)
    assert most > 2 * before, f"{before} bytes before, {most} with the crowd"
    for peer in peers:
        if peer not in few:
            peer.close()
    await_(lambda: ng.sessions() == len(few), "the crowd is gone")
    await_(lambda: resident(worker) < before + (most - before) / 3, "its memory is given back")
    for peer in few:
        peer.send(frame(0xC1, PACKED))
        equal(peer.frame()[0], 0xC1)
        peer.close()


run(case)
