BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Redis watched by three Sentinels: machines find the master through any of them, leave it when another
# takes its place, whether it was killed or stopped, and what the new one may not have is told.
import os
import shutil
import signal
import subprocess
import time

from lib.brokers import REDIS, Redis, machine, metric, skip_without
from lib.far import SERVER, put_once
from lib.feed import Feed
from lib.live import PORT, ROOT, Cases, Tap, await_, equal

SENTINEL = shutil.which("redis-sentinel")
skip_without(REDIS and SENTINEL, "redis-sentinel")

tap = Tap()
case = Cases()
SERVERS, SENTINELS = [PORT + 10 + n for n in range(3)], [PORT + 14 + n for n in range(3)]
NOBODY = PORT + 13
PLACES = ",".join(f"127.0.0.1:{port}" for port in [NOBODY] + SENTINELS)
BROKER = f"""
    websocket_broker main {{
        server redis+sentinel://{PLACES}/mymaster;
        connect_timeout 1s; command_timeout 1s; probe 500ms; reconnect max=300ms; queue 1m retry=30s;
    }}
    websocket_topic "h:*" history=50 ttl=5m;
"""
case.server += SERVER
LOST = r"broker main \(mymaster of [\d.:]+\): connection lost"
folder = f"{ROOT}-sentinel"
shutil.rmtree(folder, ignore_errors=True)
os.makedirs(folder)
names = (f"h:{n}" for n in range(100))


def sentinel(port):
    conf = f"{folder}/{port}.conf"
    with open(conf, "w") as out:
        out.write(f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
                  f"sentinel monitor mymaster 127.0.0.1 {SERVERS[0]} 2\n"
                  "sentinel down-after-milliseconds mymaster 1000\n"
                  "sentinel failover-timeout mymaster 5000\n")
    return subprocess.Popen([SENTINEL, conf], stdout=subprocess.DEVNULL, cwd=folder)


def master():
    """The server that the Sentinels name."""
    probe = Redis.__new__(Redis)
    probe.port, probe.word, probe.tls = SENTINELS[0], "", None
    with_port = probe.ask("INFO", "sentinel")
    return int(with_port.split("address=127.0.0.1:")[1].split(",")[0])


def replicas_known():
    probe = Redis.__new__(Redis)
    probe.port, probe.word, probe.tls = SENTINELS[0], "", None
    try:
        return "slaves=2,sentinels=3" in probe.ask("INFO", "sentinel")
    except OSError:
        return False  # it is starting


def heard(topic="plain"):
    """A plain message crosses machines."""
    feed = Feed(ngs[1], topic)
    feed.line()
    feed.sock.settimeout(0.2)

    def arrives():
        put_once(ngs[0], topic, "x")
        try:
            return feed.line()["data"] == "x"
        except (TimeoutError, OSError):
            feed.close()
            fresh = Feed(ngs[1], topic)
            fresh.line()
            fresh.sock.settimeout(0.2)
            feed.sock, feed.file = fresh.sock, fresh.file
            return False
    await_(arrives, "it is heard")
    feed.close()


def over(fault, cure):
    """Live and late subscribers, over a failover: told that the epoch ended, and then all is well."""
    await_(replicas_known, "sentinels know the replicas")
    topic = next(names)
    feeds = [Feed(ng, topic) for ng in ngs]
    [feed.line() for feed in feeds]
    put_once(ngs[0], topic, "before")
    equal([feed.line()["data"] for feed in feeds], ["before"] * 2)
    old = master()
    began = time.monotonic()
    fault(servers[SERVERS.index(old)])
    await_(lambda: master() != old, "another master")
    put_once(ngs[0], topic, "after")
    end = put_once(ngs[1], topic, "last")["cursor"]
    for feed in feeds:
        # Whoever is told when there are messages already goes on behind them.
        got = []
        while feed.cursor != end:
            line = feed.line()
            got.append(line.get("reason") or line["data"])
        assert got in (["epoch", "after", "last"], ["epoch", "last"], ["epoch"]), got
        feed.close()
    heard()
    print(f"# {time.monotonic() - began:.1f} s")
    cure(servers[SERVERS.index(old)])
    # The old one, which took itself for the master, is nobody's.
    put_once(ngs[0], topic, "again")
    feed = Feed(ngs[1], topic, "-1")
    feed.line()
    equal(feed.line()["data"], "again")
    feed.close()


def is_replica(server):
    try:
        return "role:slave" in server.ask("INFO", "replication")
    except OSError:
        return False  # a Sentinel has just ended its connections


def stop(server):
    server.child.send_signal(signal.SIGSTOP)


def go_on(server):
    server.child.send_signal(signal.SIGCONT)
    await_(lambda: is_replica(server), "it is demoted")


def start(server):
    server.command = [word for word in server.command if word != "--replicaof"]
    server.start()
    await_(lambda: is_replica(server), "it is demoted")


def found():
    for ng in ngs:
        await_(lambda: metric(ng, "broker_connected") == 1, "connected")
    heard()


def sentinel_killed():
    """The one that is asked goes: nothing happens, and the next failover is seen by another."""
    sentinels[0].kill()
    sentinels[0].wait()
    heard()
    sentinels[0] = sentinel(SENTINELS[0])
    await_(replicas_known, "it is back")


servers = [Redis(SERVERS[0])]
servers += [Redis(port, options=["--replicaof", "127.0.0.1", str(SERVERS[0])]) for port in SERVERS[1:]]
await_(lambda: "connected_slaves:2" in servers[0].ask("INFO", "replication"), "replicas")
sentinels = [sentinel(port) for port in SENTINELS]
ngs = [machine(n, BROKER, case.server, 1) for n in range(2)]
try:
    for ng in ngs:
        ng.start()
    for name, body in (
            ("the master is found, past a sentinel that is not there", found),
            ("the master is killed", lambda: over(Redis.kill, start)),
            ("the master is stopped, and comes back as one", lambda: over(stop, go_on)),
            ("a sentinel is killed", sentinel_killed)):
        if os.environ.get("ONLY", name) in name:
            tap.attempt(name, body)

    def end():
        for ng in ngs:
            equal(ng.stop(), 0)
            equal(ng.loud(LOST), [])
    tap.attempt("nothing else is logged", end)
finally:
    for ng in ngs:
        ng.kill()
    for child in sentinels:
        child.kill()
        child.wait()
    for server in servers:
        server.kill()
    shutil.rmtree(folder, ignore_errors=True)
tap.done()
