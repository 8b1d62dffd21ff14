BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# The collector of a worker that gets many messages of medium size: its cycles come less often, memory
# is bounded, what the program has set stays, and what is left when messages stop is collected.
from lib.live import VALGRIND, Cases, Tap, await_, equal, run
from lib.peer import BINARY_FRAME, CLOSE, Peer, frame

tap = Tap()
MIB = 1 << 20
SIZE = 16 * 1024
TOTAL = (24 if VALGRIND else 48) * MIB

# An echo that counts cycles and the most that Lua has had, in MiB. With this multiplier one step is a
# whole cycle, so that nothing is made while one lasts.
HANDLER = """
    collectgarbage("setstepmul", 1000000)
    local ws = assert(require("resty.websocket").accept{ timeout = 60000 })
    local cycles, most, going = 0, 0, true
    local function watch()
        getmetatable(newproxy(true)).__gc = function()
            cycles = cycles + 1
            if going then
                watch()
            else
                ngx.log(ngx.INFO, "collected")
            end
        end
    end
    watch()
    collectgarbage()
    cycles = 0
    collectgarbage(ngx.var.arg_set, tonumber(ngx.var.arg_to))
    for data, typ in ws:messages() do
        most = math.max(most, collectgarbage("count") / 1024)
        ws:send(data, typ)
    end
    live.report(cycles, math.ceil(most), collectgarbage("setpause", 200))
    going = false
"""


def in_traffic(ng, query=""):
    """What the handler reports after TOTAL bytes, each message another string."""
    peer = Peer(ng, f"/echo{query}")
    rest = bytes(SIZE - 8)
    for number in range(TOTAL // SIZE):
        data = number.to_bytes(8, "big") + rest
        peer.send(frame(BINARY_FRAME, data))
        equal(peer.frame() == (BINARY_FRAME, data), True, "what came back")
    peer.send(frame(CLOSE, b"\x03\xe8"))
    peer.rest()
    peer.close()
    return [int(number) for number in peer.report().split(" | ")]


# Each in an nginx of its own, whose VM has nothing of another.
def alone(name):
    def add(check):
        case = Cases()
        case.handler("/echo", HANDLER)
        case(name)(check)
        run(case, tap)
    return add


@alone("a cycle waits for 4 MiB, memory is bounded, and the pause stays as it was")
def _(ng):
    cycles, most, pause = in_traffic(ng)
    equal(0 < cycles <= TOTAL // (3 * MIB), True, f"{cycles} cycles")
    equal(most <= 12, True, f"{most} MiB")
    equal(pause, 200, "the pause")


@alone("a pause that the program has set is left alone")
def _(ng):
    cycles, _, pause = in_traffic(ng, "?set=setpause&to=199")
    equal(cycles > TOTAL // (3 * MIB), True, f"{cycles} cycles")
    equal(pause, 199, "the pause")


@alone("a collector that the program has stopped stays so")
def _(ng):
    cycles, most, _ = in_traffic(ng, "?set=stop&to=0")
    equal((cycles, most >= TOTAL // MIB), (0, True), f"{most} MiB")


@alone("when no more messages come, the collector does not wait")
def _(ng):
    in_traffic(ng)
    await_(lambda: "collected" in ng.read_log(), "the finalizer's line")


tap.done()
