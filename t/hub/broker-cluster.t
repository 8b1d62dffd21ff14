BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Three machines over a Redis Cluster of three masters and three replicas: topics are spread over all
# masters; a master that is killed, a slot that moves under way, servers that come and go leave no topic
# deaf, and what may be missing is told.
import http.client
import json
import os
import re
import signal
import threading
import time

from lib.brokers import REDIS, RedisCluster, level, machine, metric, skip_without
from lib.feed import Feed, position
from lib.live import PATIENCE, PORT, ROOT, Cases, Tap, await_, equal

skip_without(REDIS, "redis-server")

tap = Tap()
case = Cases()
DOOR, MACHINES = PORT + 10, 3
WORD = "open sesame"
BROKER = """
    websocket_broker main {
        server redis+cluster://127.0.0.1:%d,127.0.0.1:%d,127.0.0.1:%d;
        password_file word;
        connect_timeout 1s; command_timeout 1s; probe 500ms; reconnect max=200ms; queue 1m retry=20s;
    }
    websocket_topic "h:*" history=500 ttl=5m;
""" % (PORT + 19, DOOR, DOOR + 1)
case.server += """
location = /metrics { websocket_status prometheus; }
location = /feed { websocket_subscribe $arg_t since=$arg_since format=json; }
location = /topic { websocket_publish $arg_t get delete; }
"""
TOPICS = 15
LOST = r"broker main \(cluster of 127.0.0.1:\d+\): (connection lost|away in part)"
names = (f"h:{n}" for n in range(1000))


def ask(ng, path, method="GET", body=None, **headers):
    web = http.client.HTTPConnection("127.0.0.1", ng.port, timeout=PATIENCE)
    web.request(method, path, body, headers)
    answer = web.getresponse()
    text = answer.read().decode()
    web.close()
    return answer.status, text


def put(ng, topic, data):
    """Until it is taken; its key makes it one message whatever became of the tries before."""
    keys = {"Idempotency-Key": f"k{data}"} if topic.startswith("h:") else {}

    def taken():
        status, text = ask(ng, f"/topic?t={topic}", "POST", data, **keys)
        assert status in (202, 503, 504), f"{status} {text}"
        return status == 202 and json.loads(text)
    return await_(taken, f"{data} is taken")


def up():
    for ng in ngs:
        await_(lambda: metric(ng, "broker_connected") == 1, "connected")


def spread():
    """Topics of both kinds on all masters: each message is heard on all machines, once and in order."""
    up()
    topics = [f"p:{n}" for n in range(TOPICS)] + [next(names) for _ in range(TOPICS)]
    feeds = {topic: [Feed(ng, topic) for ng in ngs] for topic in topics}
    for all_of_one in feeds.values():
        [feed.line() for feed in all_of_one]
    for ng in ngs:
        level(ng, 2 * TOPICS)
    for n in range(5):
        for topic in topics:
            put(ngs[n % MACHINES], topic, f"m{n}")
    for topic in topics:
        for feed in feeds[topic]:
            got = feed.data(5)
            equal(sorted(got), [f"m{n}" for n in range(5)], topic)
            if topic.startswith("h:"):
                equal(got, [f"m{n}" for n in range(5)], topic)
            feed.close()
    channels = [len(server.list("PUBSUB", "SHARDCHANNELS")) for server in cluster.masters]
    assert all(count > 2 for count in channels), f"spread over all masters: {channels}"


def heard(topic):
    """A plain message crosses machines, however long that takes."""
    feed = Feed(ngs[1], topic)
    feed.line()
    feed.sock.settimeout(0.3)

    def arrives():
        put(ngs[0], topic, "x")
        try:
            return feed.line()["data"] == "x"
        except (TimeoutError, OSError):
            feed.file = feed.sock.makefile("rb")
            return False
    await_(arrives, f"{topic} is heard")
    feed.close()


def topic_of(server, kind="h:"):
    """A new topic whose slot this server has."""
    while True:
        topic = next(names) if kind == "h:" else f"{kind}{next(names)}"
        owner, slot = cluster.owner(name_of(topic))
        if owner is server:
            return topic, slot


def name_of(topic):
    """A topic's name at the servers, as its first subscriber makes it: by its channel there."""
    feed = Feed(ngs[0], topic)
    feed.line()

    def found():
        every = [name for server in cluster.servers if cluster.role(server) == "master"
                 for name in server.list("PUBSUB", "SHARDCHANNELS")]
        return next((name for name in every if name.endswith("}:" + topic)), None)
    name = await_(found, f"{topic} is subscribed")
    feed.close()
    return name


class Stream:
    """A publisher and a subscriber on each machine: what the one has been told is taken, the others hear,
    once and in order; or are told that they do not."""

    def __init__(self, topic, pause=0.005):
        self.topic, self.pause, self.n, self.stopped = topic, pause, 0, threading.Event()
        self.feeds = [Feed(ng, topic) for ng in ngs]
        [feed.line() for feed in self.feeds]
        self.put()
        self.epoch = position(self.last)[0]
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def put(self):
        self.last = put(ngs[0], self.topic, f"m{self.n}")["cursor"]
        self.n += 1

    def run(self):
        while not self.stopped.is_set():
            self.put()
            time.sleep(self.pause)

    def more(self, count=5):
        """So many more are taken."""
        goal = self.n + count
        await_(lambda: self.n >= goal or not self.thread.is_alive(), "messages are taken")

    def end(self, told=False):
        """Returns how often a gap was told, on each machine."""
        self.stopped.set()
        self.thread.join()
        self.put()
        gaps = []
        for feed in self.feeds:
            expected, count = 0, 0
            while feed.cursor != self.last:
                line = feed.line()
                if "data" not in line:
                    equal(line.get("reason"), "epoch")
                    count += 1
                    expected = None
                    continue
                number = int(line["data"][1:])
                assert expected in (None, number), f"{line} where m{expected} was to come"
                expected = number + 1
            gaps.append(count)
            feed.close()
        assert told or gaps == [0] * MACHINES, f"gaps: {gaps}"
        return gaps


def killed():
    """A master is killed and its replica takes its place: histories there end an epoch, those of others
    do not, and no topic is deaf."""
    cluster.whole()
    victim, other = cluster.masters[0], cluster.masters[1]
    topic, _ = topic_of(victim)
    plain, _ = topic_of(victim, "p:")
    calm = Stream(topic_of(other)[0])
    stream = Stream(topic)
    stream.more()
    heir = cluster.replica_of(victim)
    victim.kill()
    await_(lambda: cluster.role(heir) == "master", "the replica takes its place")
    heard(plain)
    stream.more()
    gaps = stream.end(told=True)
    assert all(gaps), gaps
    calm.more()
    calm.end()
    up()
    assert metric(ngs[0], "broker_gaps_total") > 0
    # It comes back as a replica, and is nobody's any more.
    victim.start()
    await_(lambda: cluster.role(victim) == "slave", "it is demoted")
    cluster.whole()
    cluster.masters[0] = heir


def moved():
    """A slot goes from one master to another and back, with messages under way: none is lost, none is
    told to be, and the history goes on in its epoch."""
    cluster.whole()
    topic, slot = topic_of(cluster.masters[1])
    plain = "p" + topic[1:]
    stream = Stream(topic)
    for to in (cluster.masters[2], cluster.masters[1]):
        stream.more()
        cluster.move(slot, to, pause=lambda: time.sleep(0.1))
        stream.more()
        heard(plain)
    stream.end()
    feed = Feed(ngs[2], topic, "-500")
    feed.line()
    got = feed.data(min(stream.n, 500))
    equal(got[-1], f"m{stream.n - 1}")
    feed.close()
    up()


def grown():
    """A fourth master gets slots, and gives them back: it is connected to while it has some."""
    cluster.whole()
    new = cluster.server(DOOR + 6)
    cluster.servers.append(new)
    cluster.meet(new)
    await_(lambda: all(cluster.known(one) == len(cluster.servers) for one in cluster.servers), "all know it")
    cluster.whole()
    topic, slot = topic_of(cluster.masters[1])
    plain, other_slot = topic_of(cluster.masters[2], "p:")
    for one in (slot, other_slot):
        cluster.move(one, new)
    heard(plain)
    stream = Stream(topic)
    stream.more()
    up()
    clients = lambda: new.ask("CLIENT", "LIST").count("name=ws:")
    equal(clients(), MACHINES)
    cluster.move(slot, cluster.masters[1])
    cluster.move(other_slot, cluster.masters[2])
    stream.more()
    stream.end(told=True)
    heard(plain)
    await_(lambda: clients() == 0, "it is left")
    up()
    name = cluster.name(new)
    new.kill()
    cluster.servers.remove(new)
    for one in cluster.servers:
        one.ask("CLUSTER", "FORGET", name)


def down():
    """Slots without a server: the cluster says that it is down, the machines say so, and all is well
    once it is whole."""
    cluster.whole()
    topic, slot = topic_of(cluster.masters[1])
    owner = cluster.masters[1]
    for server in cluster.servers:
        if cluster.role(server) == "master":
            server.ask("CLUSTER", "DELSLOTS", slot)
    for ng in ngs:
        await_(lambda: metric(ng, "broker_connected") == 0, "it is not all there")
    for server in cluster.servers:
        if cluster.role(server) == "master":
            server.ask("CLUSTER", "SETSLOT", slot, "NODE", cluster.name(owner))
    owner.ask("CLUSTER", "ADDSLOTS", slot)
    cluster.whole()
    up()
    heard("p" + topic[1:])
    put(ngs[0], topic, "x")


cluster = RedisCluster(DOOR, f"{ROOT}-cluster", word=WORD)
ngs = [machine(n, BROKER, case.server, 2, {"word": WORD}) for n in range(MACHINES)]
try:
    for ng in ngs:
        ng.start()
    for name, body in (
            ("topics are spread over all masters", spread),
            ("a slot moves under way", moved),
            ("a master is killed", killed),
            ("a server comes and goes", grown),
            ("the cluster is down", down),
            ):
        if os.environ.get("ONLY", name) in name:
            began = time.monotonic()
            tap.attempt(name, body)
            print(f"# {time.monotonic() - began:.1f} s", flush=True)

    def end():
        for ng in ngs:
            equal(ng.stop(), 0)
            equal(ng.loud(LOST), [])
    tap.attempt("nothing else is logged", end)
finally:
    for ng in ngs:
        ng.kill()
    cluster.kill()
tap.done()
