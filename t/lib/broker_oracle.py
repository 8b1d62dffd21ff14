"""The oracle over three machines and a broker of any kind, to which faults happen at random; workers are
killed and machines reloaded, too. ORACLE=seconds and ORACLE_CLIENTS=n make it long, ORACLE_SEED=n has it
as it was."""

import os
import random
import re
import signal
import time

from lib.brokers import machine, metric
from lib.live import Tap, await_, equal
from lib.oracle import run_oracle

SECONDS = float(os.environ.get("ORACLE", 12))
CLIENTS = int(os.environ.get("ORACLE_CLIENTS", 60))
SEED = int(os.environ.get("ORACLE_SEED", time.time_ns() % 10**6))
MACHINES, WORKERS = 3, 2
HTTP = """
    websocket_broker main {
        server %s;
        connect_timeout 1s; command_timeout 1s; probe 300ms; reconnect max=200ms; queue 1m retry=%s;
    }
    websocket_topic feed history=5000 ttl=10m;
    websocket_history_zone 8m;
    websocket_resume_limit 0;
"""
SERVER = """
    location = /feed { websocket_subscribe feed since=$arg_since format=json; websocket_shutdown_close 1001 "bye" over=300ms; }
    location = /publish { websocket_publish feed; }
    location = /metrics { websocket_status prometheus; }
    location = /end { content_by_lua_block {
        local messages, cursor = require("resty.websocket").history("feed", { limit = 0 })
        ngx.print(cursor)
    } }
"""
# The last: a NATS server that still removes a stream's files as it is asked to make it again.
QUIET = re.compile(r"exited on signal 9|this worker missed|connection lost|away in part|no JetStream answers|"
                   r"no answer about|cannot be made: error creating store for stream$")
chance = random.Random(SEED)


class Disturber:
    """Has one of `faults` happen now and then; each is a function of the time, or a pair of one that
    begins it and one that ends it."""

    def __init__(self, ngs, faults, pause):
        self.ngs, self.faults, self.pause = ngs, [*faults, self.worker, self.worker, self.reload], pause
        self.next, self.counts, self.lasting = time.monotonic() + 1, {}, None

    def __call__(self, now):
        if self.lasting and now > self.lasting[0]:
            self.go_on()
        if now > self.next and not self.lasting:
            fault = chance.choice(self.faults)
            begin, end = fault if isinstance(fault, tuple) else (fault, None)
            begin()
            self.counts[begin.__name__] = self.counts.get(begin.__name__, 0) + 1
            if end:
                self.lasting = now + chance.uniform(0.2, 3), end
            self.next = now + chance.uniform(*self.pause)

    def go_on(self):
        if self.lasting:
            self.lasting[1]()
            self.lasting = None

    def worker(self):
        victims = chance.choice(self.ngs).workers()
        if len(victims) == WORKERS:
            os.kill(chance.choice(victims), signal.SIGKILL)

    def reload(self):
        chance.choice(self.ngs).signal("HUP")


def run(servers, faults, end, pause=(0.5, 1.2), retry="1s", calm=lambda: None, dense=True):
    """Over a broker, which each machine has another address of; `calm` makes it well, `end` ends it. `dense`:
    offsets have no gaps."""
    tap = Tap()
    ngs = [machine(n, HTTP % (server, retry), SERVER, WORKERS) for n, server in enumerate(servers)]

    def oracle():
        disturber = Disturber(ngs, faults, pause)

        def well():
            disturber.go_on()
            calm()
        print(f"# seed {SEED}", flush=True)
        try:
            world = run_oracle(ngs, SECONDS, CLIENTS, chance, disturber, well, (503, 504), dense)
        finally:
            print(f"# {disturber.counts}", flush=True)
        assert world.resumed > 0 and disturber.counts

    def quiet():
        for ng in ngs:
            equal(ng.stop(), 0, "exit code of nginx")
            loud = [line for line in ng.loud() if not QUIET.search(line)]
            assert not loud, "nginx logged:\n" + "\n".join(loud[:10])
    try:
        for ng in ngs:
            ng.start()
            await_(lambda: metric(ng, "broker_connected") == 1, "connected")
        tap.attempt("no hole that was not told, no duplicate, one order", oracle)
        tap.attempt("nginx ends without a word", quiet)
    finally:
        for ng in ngs:
            ng.kill()
        end()
    tap.done()
