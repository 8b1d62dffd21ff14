BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# The oracle (t/lib/broker_oracle.py) over JetStream: one server that is killed and comes back with what it
# had or empty, or is stopped, whose stream is deleted, and to which one machine's way is cut in a frame, stalls,
# or leads nowhere; with ORACLE_SERVERS=3 three of which any is killed or stopped, and nothing may be lost.
import os
import random
import shutil
import signal

from lib.broker_oracle import MACHINES, SEED, run
from lib.brokers import NATS, Nats, skip_without
from lib.live import PORT, ROOT, await_
from lib.shim import Shim

skip_without(NATS, "nats-server")

DOOR, ROUTES, WAY = PORT + 10, range(PORT + 13, PORT + 16), PORT + 16
THREE = os.environ.get("ORACLE_SERVERS") == "3"
chance = random.Random(SEED)
folder = f"{ROOT}-nats"
shutil.rmtree(folder, ignore_errors=True)
shim = Shim(WAY, DOOR)
if THREE:
    servers = [Nats(DOOR + n, folder, name, cluster=(ROUTES[n], ROUTES), wait=False) for n, name in enumerate("abc")]
    [await_(server.answers, "NATS comes up") for server in servers]
    await_(lambda: "streams" in (servers[0].ask("$JS.API.INFO", patience=1) or {}), "they agree on who leads")
else:
    servers = [Nats(DOOR, folder)]
which = servers[0]


def killed():
    server = chance.choice(servers)
    server.kill()
    server.start(wait=False)


def emptied():
    servers[0].kill()
    shutil.rmtree(f"{folder}/a", ignore_errors=True)
    servers[0].start(wait=False)


def deleted():
    try:
        servers[0].ask("$JS.API.STREAM.DELETE.WS", patience=1)
    except (OSError, AssertionError, IndexError):
        pass  # it is just starting


def stopped():
    global which
    which = chance.choice(servers)
    which.child.send_signal(signal.SIGSTOP)


def go_on():
    which.child.send_signal(signal.SIGCONT)


def cut_in_a_frame():
    shim.cutting = True


def stalled():
    shim.mode = "stalled"


def leads_nowhere():
    shim.mode = "stuck"


def opened():
    shim.mode = "open"


def end():
    for server in servers:
        server.kill()
    shutil.rmtree(folder, ignore_errors=True)


faults = [killed, (stopped, go_on), cut_in_a_frame, (stalled, opened), (leads_nowhere, opened)]
others = ",".join(f"127.0.0.1:{server.port}" for server in servers[1:])
run([f"nats://127.0.0.1:{DOOR if n else WAY}{',' + others if others else ''}; jetstream WS replicas={len(servers)}"
     for n in range(MACHINES)], faults if THREE else [*faults, emptied, deleted], end, dense=False)
