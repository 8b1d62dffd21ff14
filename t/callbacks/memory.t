BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# What a worker keeps after large messages: nothing, not at the end of the C library's heap either, which by itself
# keeps twice the largest block that it has had mapped (mallopt(3)).
from lib.live import Cases, await_, run
from lib.memory import resident
from lib.peer import BINARY_FRAME, CLOSE, Peer, frame

case = Cases()
MIB = 1 << 20

case.handler("/echo", """
    assert(require("resty.websocket").serve{ max_message_size = 2^24, on_message = function(ws, data, typ)
        ws:send(data, typ)
    end })
""")
# What is garbage in Lua is not what this is about.
case.handler("/collect", """
    collectgarbage()
    ngx.print("collected")
""")


@case("the memory of large messages goes back once no more come", memory=True)
def _(ng):
    peer = Peer(ng, "/echo")
    ng.get("/collect")
    before = resident(*ng.workers())

    def is_back():
        ng.get("/collect")
        return resident(*ng.workers()) < before + 3 * MIB

    # The first is mapped by itself; those after it lie in the heap.
    for _ in range(3):
        payload = b"x" * (10 * MIB)
        peer.send(frame(BINARY_FRAME, payload))
        assert peer.frame() == (BINARY_FRAME, payload)
        await_(is_back, "the worker has given 10 MiB back")
    peer.send(frame(CLOSE, b"\x03\xe8"))


run(case)
