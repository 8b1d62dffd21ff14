BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Peers that abort, reset, stop in the middle of a handshake or talk nonsense, over plain TCP and TLS,
# with handlers, without, on ports opened from Lua and on the other end of clients: nothing of them is
# left, and no line above info is theirs. `make soak` does the same for longer.
import threading

from lib import storm
from lib.live import VALGRIND, await_, run
from lib.lws import is_open

case = storm.case
VISITS = 60 if VALGRIND else 600


def is_up(ng):
    for port in storm.LWS, storm.LWS_TLS, storm.TARANTOOL:
        await_(lambda: is_open(port), f"port {port} opens")


@case("servers and ports", logs=storm.OTHERS)
def _(ng):
    is_up(ng)

    def visit(seed):
        one = storm.Storm(seed)
        for _ in range(VISITS // 4):
            one.visit()
    crowd = [threading.Thread(target=visit, args=(seed,)) for seed in range(4)]
    for each in crowd:
        each.start()
    for each in crowd:
        each.join()


@case("clients", logs=storm.OTHERS)
def _(ng):
    fake = storm.Fake(5)
    for n in range(VISITS // 10):
        ng.get(f"/client?scheme={('ws', 'wss')[n % 2]}")
    fake.close()


def prepare(ng):
    return storm.sections(ng)


run(case, prepare=prepare)
