BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# The oracle (t/lib/broker_oracle.py) over one Redis: it is killed and comes back with what it had or
# empty, stopped, paused, flushed, its keys are evicted, its clients are killed and its scripts forgotten;
# one machine's way there is cut in a frame, stalls, or leads nowhere.
import os
import shutil
import signal

from lib.broker_oracle import MACHINES, run
from lib.brokers import REDIS, Redis, skip_without
from lib.live import PORT, ROOT
from lib.shim import Shim

skip_without(REDIS, "redis-server")

DOOR, WAY = PORT + 10, PORT + 11
folder = f"{ROOT}-redis"
shutil.rmtree(folder, ignore_errors=True)
os.makedirs(folder)
redis = Redis(DOOR, options=["--dir", folder, "--appendonly", "yes", "--appendfsync", "always"])
shim = Shim(WAY, DOOR)


def ask(*words):
    try:
        redis.ask(*words)
    except OSError:
        pass  # it is just starting


def killed():
    redis.kill()
    redis.start(wait=False)


def emptied():
    redis.kill()
    shutil.rmtree(f"{folder}/appendonlydir", ignore_errors=True)
    redis.start(wait=False)


def stopped():
    redis.child.send_signal(signal.SIGSTOP)


def go_on():
    redis.child.send_signal(signal.SIGCONT)


def paused():
    ask("CLIENT", "PAUSE", "800")


def flushed():
    ask("FLUSHALL")


def evicted():
    ask("DEL", "ws:m:feed", "ws:s:feed")


def cut():
    ask("CLIENT", "KILL", "TYPE", "pubsub")


def forgot():
    ask("SCRIPT", "FLUSH")


def cut_in_a_frame():
    shim.cutting = True


def stalled():
    shim.mode = "stalled"


def leads_nowhere():
    shim.mode = "stuck"


def opened():
    shim.mode = "open"


def end():
    redis.kill()
    shutil.rmtree(folder, ignore_errors=True)


run([f"redis://127.0.0.1:{DOOR if n else WAY}" for n in range(MACHINES)],
    [killed, emptied, (stopped, go_on), paused, flushed, evicted, cut, forgot, cut_in_a_frame,
     (stalled, opened), (leads_nowhere, opened)], end)
