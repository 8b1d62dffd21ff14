BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Large messages, alone and in bursts, and the memory of Lua's strings: blocks are used again without a
# fault a page, stay whole as long as Lua has them, are collected in time, and go back when nothing
# happens.
import os
import random
import threading

from lib.live import ROOT, VALGRIND, Cases, Nginx, Tap, await_, equal, run
from lib.peer import BINARY_FRAME, CLOSE, Peer, frame

# glibc, which serves LuaJIT where that is built so, would keep large blocks after a few of them.
os.environ["MALLOC_MMAP_THRESHOLD_"] = str(1 << 17)

tap = Tap()
case = Cases()
MIB = 1 << 20

case.handler("/echo", """
    live.report(live.echo(live.open{ max_payload_len = 2^24, timeout = 60000 }))
""")
case.handler("/messages", """
    local ws = assert(require("resty.websocket").accept{ max_message_size = 2^24, timeout = 60000 })
    for data, typ in ws:messages() do
        ws:send(data, typ)
    end
""")
# Echoes, keeps one message in three, and looks at the end whether these are still what they were.
case.handler("/keeps", """
    local wb = live.open{ max_payload_len = 2^24, timeout = 60000 }
    local kept, sums, n = {}, {}, 0
    while true do
        local data, typ = wb:recv_frame()
        if typ ~= "binary" then
            break
        end
        n = n + 1
        if n % 3 == 0 then
            kept[#kept + 1], sums[#sums + 1] = data, ngx.md5_bin(data)
        elseif n % 20 == 0 then
            kept, sums = {}, {}
        end
        wb:send_binary(data)
    end
    for i, data in ipairs(kept) do
        assert(ngx.md5_bin(data) == sums[i], "message " .. i .. " has changed")
    end
    live.report(#kept, "kept")
""")
# The Lua heap in MiB.
case.handler("/count", """
    ngx.print(math.floor(collectgarbage("count") / 1024))
""")
case.handler("/stopped", """
    collectgarbage("stop")
    live.echo(live.open{ max_payload_len = 2^24, timeout = 60000 })
    live.report(math.floor(collectgarbage("count") / 1024))
    collectgarbage("restart")
""")
# Makes 6 MiB of garbage when it is told to.
case.handler("/garbage", """
    local wb = live.open{ max_payload_len = 2^24, timeout = 60000 }
    wb:recv_frame()
    local strings = {}
    for i = 1, 6 do
        strings[i] = ("%d"):format(i) .. ("g"):rep(2^20)
    end
    wb:send_text("made")
    wb:recv_frame()
    strings = nil
    collectgarbage()
    collectgarbage()
    wb:send_text("collected")
    wb:recv_frame()
""")


def payload(size, seed):
    return random.Random(seed).randbytes(size)


def there_and_back(peer, data, wire=None):
    peer.send(wire or frame(BINARY_FRAME, data))
    got = peer.frame()
    assert got == (BINARY_FRAME, data), f"{len(data)} bytes came back as {len(got[1])} others"


def ends(peer):
    peer.send(frame(CLOSE, b"\x03\xe8"))
    peer.rest()
    peer.close()


def stat(pid):
    with open(f"/proc/{pid}/stat") as f:
        return f.read().rpartition(")")[2].split()


def faults(ng):
    return int(stat(ng.workers()[0])[7])


def resident(ng):
    return int(stat(ng.workers()[0])[21]) * os.sysconf("SC_PAGESIZE")


# Around the limits of what is kept, and what lies between.
SIZES = [1 << 16, (1 << 16) + 1, 100000, (1 << 17) - 1, 1 << 17, (1 << 17) + 100, 200000, 1 << 18,
         MIB - 1, MIB, MIB + 1, MIB + 40, 3 * MIB, 4 * MIB, 4 * MIB + 1, 5 * MIB]

for path in "/echo", "/messages", "/keeps":
    def sizes(ng, path=path):
        peer = Peer(ng, path)
        order = random.Random(path)
        for number in range(25 if VALGRIND else 125):
            there_and_back(peer, payload(order.choice(SIZES), number))
        ends(peer)
        if path == "/keeps":
            count, word = peer.report().split(" | ")
            assert int(count) > 0 and word == "kept", f"{count} {word}"
    case(f"messages of all sizes come back as they were, {path}")(sizes)

@case("a collector that the program has stopped stays so")
def _(ng):
    peer = Peer(ng, "/stopped")
    for number in range(30):
        there_and_back(peer, payload(MIB, number))
    ends(peer)
    most = int(peer.report())
    assert most >= 29, f"{most} MiB of strings"


@case("memory that nobody needs goes back to the system", skip_valgrind=True)
def _(ng):
    peer = Peer(ng, "/garbage")
    peer.send(frame(BINARY_FRAME, b"make"))
    peer.frame()
    made = resident(ng)
    peer.send(frame(BINARY_FRAME, b"collect"))
    peer.frame()
    await_(lambda: resident(ng) < made - 5 * MIB, "the worker gives 5 MiB back")
    ends(peer)


@case("when no more large messages come, the collector does not wait for as much of small ones")
def _(ng):
    peers = [Peer(ng, "/keeps") for _ in range(40)]
    # Two in three are garbage, the third lives as long as its connection.
    for number in range(3):
        for at, peer in enumerate(peers):
            there_and_back(peer, payload(MIB, 100 * number + at))
    equal(int(ng.get("/count")) >= 40, True, "40 MiB live")
    for peer in peers:
        ends(peer)
        peer.report()
    small = Peer(ng, "/messages")
    numbers = iter(range(1 << 20))

    def collected():
        # 20 MiB at most before the time is over.
        for number in (next(numbers) for _ in range(20)):
            there_and_back(small, payload(1024, number))
        return int(ng.get("/count")) < 20
    await_(collected, "the collector has taken the large strings")
    ends(small)


# Each in an nginx of its own, in which no other large message has left anything. The loops are such
# as LuaJIT compiles.
for path in "/echo", "/messages":
    fresh = Cases()
    fresh.server = case.server

    def flat(ng, path=path):
        peer = Peer(ng, path)
        data = payload(MIB, path)

        def some(first, count):
            before = faults(ng)
            for number in range(first, first + count):
                # No two are the same: Lua has each string once.
                mark = number.to_bytes(8, "big")
                wire = frame(BINARY_FRAME, mark + data[8:])
                peer.send(wire)
                equal(peer.frame() == (BINARY_FRAME, mark + data[8:]), True, "what came back")
            return (faults(ng) - before) / count
        some(0, 200)
        # What is not needed for a tenth of a second goes back, as it may on a busy machine: the best
        # of some rounds says what messages cost that come one after the other.
        each = min(some(200 + 10 * number, 10) for number in range(20))
        kept = int(ng.get("/count"))
        ends(peer)
        # A page has 4 KiB, and a message of 1 MiB 256 of them.
        assert each < 100, f"{each:.0f} page faults a message"
        assert kept < 10, f"{kept} MiB of strings wait to be collected"
    fresh(f"1 MiB costs no fault a page, and strings are collected in time, {path}", skip_valgrind=True)(flat)
    run(fresh, tap)

run(case, tap)


# Bursts: frames are copied together or sent from where they lie, in order, whatever the kernel takes.
for listen in "", "sndbuf=32k":
    bursts = Cases()
    bursts.server = case.server
    for path in "/echo", "/messages":
        def burst(ng, path=path):
            peer = Peer(ng, path)
            order = random.Random(path)
            sizes = [100, 8191, 8192, 16384, 16384, 16384, 65535, 65536, 70000, 300000]
            sent = [payload(order.choice(sizes), number) for number in range(60)]
            wire = b"".join(frame(BINARY_FRAME, data) for data in sent)
            sender = threading.Thread(target=peer.send, args=(wire,))
            sender.start()
            for number, data in enumerate(sent):
                assert peer.frame() == (BINARY_FRAME, data), f"answer {number}"
            sender.join()
            ends(peer)
        bursts(f"a burst of messages of all sizes comes back in order, {path} {listen}")(burst)
    run(bursts, tap, listen=listen)


class Single(Nginx):
    """Without a master process: nginx is its own worker."""

    def workers(self):
        return [self.child.pid] if os.path.exists(f"{ROOT}/logs/nginx.pid") else []


def single():
    ng = Single(server=case.server, main="master_process off;")
    try:
        ng.start()
        for path in "/echo", "/messages":
            peer = Peer(ng, path)
            for number in range(12):
                there_and_back(peer, payload(MIB, number))
            ends(peer)
        equal(ng.stop(), 0, "exit code of nginx")
        loud = ng.loud()
        assert not loud, "nginx logged:\n" + "\n".join(loud[:10])
        found = ng.valgrind_findings()
        assert not found, "valgrind:\n" + "\n".join(found[:200])
    finally:
        ng.kill()


tap.attempt("without a master process", single)
tap.done()
