BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# The oracle (t/lib/broker_oracle.py) over a Redis Cluster: the topic's master is killed, stopped, flushed
# and cut off, its slot moves to another one and on, its scripts are forgotten, and it changes places with
# its replica.
import signal

from lib.broker_oracle import MACHINES, chance, run
from lib.brokers import REDIS, RedisCluster, skip_without
from lib.live import PORT, ROOT, await_

skip_without(REDIS, "redis-server")

DOOR = PORT + 10
cluster = RedisCluster(DOOR, f"{ROOT}-cluster")
TOPIC = "feed"
stopped = []


def ask(server, *words):
    try:
        return server.ask(*words)
    except OSError:
        return None  # it is just starting


def slot():
    """The topic's: of whatever key is there, or of another topic's."""
    for server in cluster.servers:
        if cluster.role(server) == "master":
            for name in server.list("PUBSUB", "SHARDCHANNELS"):
                if name.endswith("}:" + TOPIC):
                    return server, int(server.ask("CLUSTER", "KEYSLOT", name)[1:])
    return None, None


def owner():
    return slot()[0] or next(one for one in cluster.servers if cluster.role(one) == "master")


def is_whole():
    return all("cluster_state:ok" in (ask(one, "CLUSTER", "INFO") or "") for one in cluster.servers)


def killed():
    """The master, and it comes back as its heir's replica, with what that has."""
    victim = owner()
    victim.kill()
    victim.start(wait=False)


def failover():
    heir = cluster.replica_of(owner())
    if heir:
        ask(heir, "CLUSTER", "FAILOVER")


def usurped():
    """A replica takes its master's place without asking, with the newest messages or not."""
    heir = cluster.replica_of(owner())
    if heir:
        ask(heir, "CLUSTER", "FAILOVER", "TAKEOVER")


def moved():
    source, number = slot()
    others = [one for one in cluster.servers if one is not source and cluster.role(one) == "master"]
    if source and others and is_whole():
        cluster.move(number, chance.choice(others), whole=False)


def stop():
    stopped.append(owner())
    stopped[-1].child.send_signal(signal.SIGSTOP)


def go_on():
    stopped.pop().child.send_signal(signal.SIGCONT)


def flushed():
    ask(owner(), "FLUSHALL")


def cut():
    for server in cluster.servers:
        ask(server, "CLIENT", "KILL", "TYPE", "pubsub")


def forgot():
    ask(owner(), "SCRIPT", "FLUSH")


def calm():
    await_(is_whole, "the cluster is whole")


run([f"redis+cluster://127.0.0.1:{DOOR + n},127.0.0.1:{DOOR + 3}" for n in range(MACHINES)],
    [killed, failover, usurped, moved, moved, moved, (stop, go_on), flushed, cut, forgot], cluster.kill,
    pause=(0.8, 2.5), retry="5s", calm=calm)
