BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# The oracle of topics that remember: publishers number their messages, subscribers of all workers drop
# and resume at random, and all the while workers are killed with SIGKILL and nginx is reloaded. Whatever
# a subscriber gets has the next offset, the publishers' messages come in their order, everybody has
# the same message at the same offset, and every hole was told. ORACLE=seconds and ORACLE_CLIENTS=n make
# it long (`make oracle`).
import os
import random
import re
import signal
import time

from lib.crowd import WORKERS
from lib.live import VALGRIND, Nginx, Tap, equal
from lib.oracle import run_oracle

SECONDS = float(os.environ.get("ORACLE", 6))
CLIENTS = int(os.environ.get("ORACLE_CLIENTS", 60))
SEED = int(os.environ.get("ORACLE_SEED", time.time_ns() % 10**6))
HTTP = """
    websocket_topic feed history=5000 ttl=10m;
    websocket_history_zone 8m;
    websocket_resume_limit 0;
"""
SERVER = """
    location = /feed { websocket_subscribe feed since=$arg_since format=json; websocket_shutdown_close 1001 "bye" over=300ms; }
    location = /publish { websocket_publish feed; }
    location = /end { content_by_lua_block {
        local messages, cursor = require("resty.websocket").history("feed", { limit = 0 })
        ngx.print(cursor)
    } }
"""
chance = random.Random(SEED)


class Disturber:
    """Kills workers and reloads nginx."""

    def __init__(self, ng):
        self.ng, self.kills, self.reloads = ng, 0, 0
        now = time.monotonic()
        self.next_kill, self.next_reload = now + 0.7, now + 1.5

    def __call__(self, now):
        if now > self.next_kill:
            victims = self.ng.workers()
            if len(victims) == WORKERS:
                os.kill(chance.choice(victims), signal.SIGKILL)
                self.kills += 1
            self.next_kill = now + chance.uniform(0.2, 0.8)
        if now > self.next_reload:
            self.ng.signal("HUP")
            self.reloads += 1
            self.next_reload = now + chance.uniform(1, 3)


def oracle():
    disturber = Disturber(ng)
    world = run_oracle([ng], SECONDS, CLIENTS, chance, disturber)
    print(f"# seed {SEED}: {disturber.kills} killed, {disturber.reloads} reloads", flush=True)
    assert world.resumed > 0 and disturber.kills > 0 and disturber.reloads > 0


tap = Tap()
QUIET = re.compile(r"exited on signal 9|this worker missed")
if not VALGRIND:
    ng = Nginx(server=SERVER, http=HTTP, workers=WORKERS, listen="reuseport",
               events="worker_connections 4096;", main="worker_shutdown_timeout 5s;")
    try:
        ng.start()
        tap.attempt("no hole that was not told, no duplicate, one order", oracle)

        def end():
            equal(ng.stop(), 0, "exit code of nginx")
            loud = [line for line in ng.loud() if not QUIET.search(line)]
            assert not loud, "nginx logged:\n" + "\n".join(loud[:10])
        tap.attempt("nginx ends without a word", end)
    finally:
        ng.kill()
tap.done()
