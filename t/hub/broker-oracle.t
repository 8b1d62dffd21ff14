BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# The oracle over three machines and one Redis, to which faults happen at random: it is killed and comes
# back with what it had or empty, stopped, paused, flushed, its keys are evicted, its clients are killed and
# its scripts forgotten; one machine's way there is cut in a frame, stalls, or leads nowhere; workers are
# killed and machines reloaded. ORACLE=seconds and ORACLE_CLIENTS=n make it long.
import os
import random
import re
import shutil
import signal
import time

from lib.brokers import REDIS, Redis, machine, metric, skip_without
from lib.live import PORT, ROOT, Tap, await_, equal
from lib.oracle import run_oracle
from lib.shim import Shim

skip_without(REDIS, "redis-server")

SECONDS = float(os.environ.get("ORACLE", 12))
CLIENTS = int(os.environ.get("ORACLE_CLIENTS", 60))
SEED = int(os.environ.get("ORACLE_SEED", time.time_ns() % 10**6))
DOOR, WAY, MACHINES, WORKERS = PORT + 10, PORT + 11, 3, 2
HTTP = """
    websocket_broker main {
        server redis://127.0.0.1:%d;
        connect_timeout 1s; command_timeout 1s; probe 300ms; reconnect max=200ms; queue 1m retry=1s;
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
QUIET = re.compile(r"exited on signal 9|this worker missed|connection lost")
chance = random.Random(SEED)
tap = Tap()
folder = f"{ROOT}-redis"
shutil.rmtree(folder, ignore_errors=True)
os.makedirs(folder)
redis = Redis(DOOR, options=["--dir", folder, "--appendonly", "yes", "--appendfsync", "always"])
shim = Shim(WAY, DOOR)
ngs = [machine(n, HTTP % (DOOR if n else WAY), SERVER, WORKERS) for n in range(MACHINES)]


class Disturber:
    def __init__(self):
        self.next, self.counts, self.stopped = time.monotonic() + 1, {}, None
        self.faults = (self.killed, self.emptied, self.stop, self.paused, self.flushed, self.evicted,
                       self.cut, self.forgot, self.cut_in_a_frame, self.stalled, self.leads_nowhere,
                       self.worker, self.worker, self.reload)

    def __call__(self, now):
        if self.stopped and now > self.stopped:
            self.go_on()
        if now > self.next and not self.stopped:
            fault = chance.choice(self.faults)
            fault(now)
            self.counts[fault.__name__] = self.counts.get(fault.__name__, 0) + 1
            self.next = now + chance.uniform(0.5, 1.2)

    def go_on(self):
        if self.stopped:
            redis.child.send_signal(signal.SIGCONT)
            self.stopped, shim.mode = None, "open"

    def killed(self, _):
        redis.kill()
        redis.start(wait=False)

    def emptied(self, _):
        redis.kill()
        shutil.rmtree(f"{folder}/appendonlydir", ignore_errors=True)
        redis.start(wait=False)

    def stop(self, now):
        redis.child.send_signal(signal.SIGSTOP)
        self.stopped = now + chance.uniform(0.2, 3)

    def ask(self, *words):
        try:
            redis.ask(*words)
        except OSError:
            pass  # it is just starting

    def flushed(self, _):
        self.ask("FLUSHALL")

    def paused(self, _):
        self.ask("CLIENT", "PAUSE", "800")

    def evicted(self, _):
        self.ask("DEL", "ws:m:feed", "ws:s:feed")

    def cut_in_a_frame(self, _):
        shim.cutting = True

    def stalled(self, now):
        shim.mode, self.stopped = "stalled", now + chance.uniform(0.1, 2)

    def leads_nowhere(self, now):
        shim.mode, self.stopped = "stuck", now + chance.uniform(0.2, 2)

    def cut(self, _):
        self.ask("CLIENT", "KILL", "TYPE", "pubsub")

    def forgot(self, _):
        self.ask("SCRIPT", "FLUSH")

    def worker(self, _):
        victims = chance.choice(ngs).workers()
        if len(victims) == WORKERS:
            os.kill(chance.choice(victims), signal.SIGKILL)

    def reload(self, _):
        chance.choice(ngs).signal("HUP")


def oracle():
    disturber = Disturber()
    world = run_oracle(ngs, SECONDS, CLIENTS, chance, disturber, disturber.go_on, passing=(503, 504))
    print(f"# seed {SEED}: {disturber.counts}", flush=True)
    assert world.resumed > 0 and disturber.counts


try:
    for ng in ngs:
        ng.start()
        await_(lambda: metric(ng, "broker_connected") == 1, "connected")
    tap.attempt("no hole that was not told, no duplicate, one order", oracle)

    def end():
        for ng in ngs:
            equal(ng.stop(), 0, "exit code of nginx")
            loud = [line for line in ng.loud() if not QUIET.search(line)]
            assert not loud, "nginx logged:\n" + "\n".join(loud[:10])
    tap.attempt("nginx ends without a word", end)
finally:
    for ng in ngs:
        ng.kill()
    redis.kill()
    shutil.rmtree(folder, ignore_errors=True)
tap.done()
