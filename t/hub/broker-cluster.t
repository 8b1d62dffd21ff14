BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Three machines over a Redis Cluster of three masters and three replicas: topics are spread over all
# masters; a master that is killed, a slot that moves under way, servers that come and go leave no topic
# deaf, and what may be missing is told.
import os
import re
import shutil
import socket
import threading
import time

from lib.brokers import REDIS, Authority, NameServer, Redis, RedisCluster, ask, level, machine, metric, skip_without
from lib.far import put_once, serve, up
from lib.feed import Feed, position
from lib.live import PORT, REPO, ROOT, Cases, Tap, await_, equal

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
serve(case)
case.server += "location = /stay { websocket_subscribe $arg_t; websocket_shutdown_close off; }\n"
TOPICS = 15
LOST = r"broker main \(cluster of 127.0.0.1:\d+\): (connection lost|away in part)"
names = (f"h:{n}" for n in range(1000))


def spread():
    """Topics of both kinds on all masters: each message is heard on all machines, once and in order."""
    up(ngs)
    topics = [f"p:{n}" for n in range(TOPICS)] + [next(names) for _ in range(TOPICS)]
    feeds = {topic: [Feed(ng, topic) for ng in ngs] for topic in topics}
    for all_of_one in feeds.values():
        [feed.line() for feed in all_of_one]
    for ng in ngs:
        level(ng, 2 * TOPICS)
    for n in range(3):
        for topic in topics:
            put_once(ngs[n % MACHINES], topic, f"m{n}")
    for topic in topics:
        for feed in feeds[topic]:
            got = feed.data(3)
            equal(sorted(got), [f"m{n}" for n in range(3)], topic)
            if topic.startswith("h:"):
                equal(got, [f"m{n}" for n in range(3)], topic)
            feed.close()
    channels = [len(server.list("PUBSUB", "SHARDCHANNELS")) for server in cluster.masters]
    assert all(count > 2 for count in channels), f"spread over all masters: {channels}"


def channel(topic):
    """A topic's channel, and its server, once somebody has subscribed it."""
    for server in cluster.servers:
        if cluster.role(server) == "master":
            for name in server.list("PUBSUB", "SHARDCHANNELS"):
                if name.endswith("}:" + topic):
                    return name, server
    return None


def followed(topic):
    """All machines have subscribed a topic."""
    def is_followed():
        name, server = channel(topic) or (None, None)
        return server and server.pairs("PUBSUB", "SHARDNUMSUB", name)[name] == len(ngs)
    await_(is_followed, f"{topic} is subscribed everywhere")


def heard(topic):
    """A plain message crosses machines, however long that takes."""
    feed = Feed(ngs[1], topic)
    feed.line()
    feed.sock.settimeout(0.3)

    def arrives():
        put_once(ngs[0], topic, "x")
        try:
            return feed.line()["data"] == "x"
        except (TimeoutError, OSError):
            feed.file = feed.sock.makefile("rb")
            return False
    await_(arrives, f"{topic} is heard")
    feed.close()


def topic_of(server, kind="h:"):
    """A new topic whose slot this server has, and the slot."""
    while True:
        topic = next(names) if kind == "h:" else kind + next(names)
        feed = Feed(ngs[0], topic)
        feed.line()
        name, owner = await_(lambda: channel(topic), f"{topic} is subscribed")
        feed.close()
        if owner is server:
            return topic, int(server.ask("CLUSTER", "KEYSLOT", name)[1:])


class Stream:
    """A publisher and a subscriber on each machine: what the one has been told is taken, the others hear,
    once and in order; or are told that they do not."""

    def __init__(self, topic, hearers=None):
        self.topic, self.n, self.stopped = topic, 0, threading.Event()
        self.feeds = [Feed(ng, topic) for ng in hearers or ngs]
        [feed.line() for feed in self.feeds]
        self.put()
        self.epoch = position(self.last)[0]
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def put(self):
        self.last = put_once(ngs[-1], self.topic, f"m{self.n}")["cursor"]
        self.n += 1

    def run(self):
        while not self.stopped.is_set():
            self.put()
            time.sleep(0.005)

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
        assert told or not any(gaps), f"gaps: {gaps}"
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
    up(ngs)
    assert metric(ngs[0], "broker_gaps_total") > 0
    # It comes back as a replica, and is nobody's any more.
    victim.start()
    await_(lambda: cluster.role(victim) == "slave", "it is demoted")
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
    up(ngs)


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
    up(ngs)
    clients = lambda: new.ask("CLIENT", "LIST").count("name=ws:")
    equal(clients(), MACHINES)
    cluster.move(slot, cluster.masters[1])
    cluster.move(other_slot, cluster.masters[2])
    stream.more()
    stream.end(told=True)
    heard(plain)
    await_(lambda: clients() == 0, "it is left")
    up(ngs)
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
    up(ngs)
    heard("p" + topic[1:])
    put_once(ngs[0], topic, "x")


def reloaded():
    """The gateway is replaced while others publish: all is heard, in order and once."""
    plain, gaps = topic_of(cluster.masters[0], "p:")[0], metric(ngs[0], "broker_gaps_total")
    stays = Feed(ngs[0], plain, path="/stay")
    held = [Feed(ng, plain) for ng in ngs[1:]]
    followed(plain)
    stream = Stream(topic_of(cluster.masters[1])[0], ngs[1:])
    end, count = threading.Event(), 0

    def publishes():
        nonlocal count
        while not end.is_set():
            put_once(ngs[1], plain, f"r{count}")
            count += 1
    thread = threading.Thread(target=publishes)
    thread.start()
    old = set(ngs[0].workers())
    ngs[0].signal("HUP")
    await_(lambda: len(ngs[0].workers()) == 2 and not old & set(ngs[0].workers()), "reload")
    await_(lambda: metric(ngs[0], "broker_connected") == 1, "a gateway of the new generation")
    stream.more()
    end.set()
    thread.join()
    stream.end()
    equal([stays.message() for _ in range(count)], [f"r{n}" for n in range(count)])
    equal(metric(ngs[0], "broker_gaps_total"), gaps)
    [feed.close() for feed in (stays, *held)]


def restarted():
    """All servers are killed, and come back with their slots and nothing else."""
    topic, _ = topic_of(cluster.masters[0])
    stream = Stream(topic)
    stream.more()
    for server in cluster.servers:
        server.kill()
    for ng in ngs:
        await_(lambda: metric(ng, "broker_connected") == 0, "it is away")
    status, text = ask(ngs[1], f"/topic?t=p:{topic}", "POST", "x")
    equal(status, 202, "plain topics go on at home")
    for server in cluster.servers:
        server.start(wait=False)
    cluster.whole()
    up(ngs)
    stream.more()
    assert all(stream.end(told=True)), "the end of the epoch is told"


def spoken():
    """A password that is none any more is counted, and the rights that the manual lists are enough."""
    cluster.whole()
    for server in cluster.servers:
        server.ask("ACL", "SETUSER", "default", "<" + WORD, ">other")
        server.word = "other"
        server.ask("CLIENT", "KILL", "TYPE", "normal")
        server.ask("CLIENT", "KILL", "TYPE", "pubsub")
    for ng in ngs:
        await_(lambda: metric(ng, 'broker_errors_total{kind="refused"}') > 0, "it is told")
        equal(metric(ng, "broker_connected"), 0)
    for server in cluster.servers:
        server.ask("ACL", "SETUSER", "default", ">" + WORD)
        server.word = WORD
    up(ngs)
    rights = rights_of_manual()
    assert len(rights) > 30, rights
    for server in cluster.servers:
        equal(server.ask("ACL", "SETUSER", "ws", "on", ">" + WORD, *rights), "+OK")
    guest = machine(MACHINES, BROKER.replace("password_file", "user ws; password_file"), case.server, 1,
                    {"word": WORD})
    ngs.append(guest)
    guest.start()
    up(ngs)
    topic = next(names)
    feeds = [Feed(ng, name) for ng in ngs for name in (topic, "p" + topic)]
    [feed.line() for feed in feeds]
    followed("p" + topic)
    put_once(guest, topic, "by the guest")
    put_once(guest, "p" + topic, "by the guest")
    equal([feed.line()["data"] for feed in feeds], ["by the guest"] * len(feeds))
    equal(ask(guest, f"/forget?t={topic}")[1], "true")
    equal([feed.line().get("reason") for feed in feeds[::2]], ["epoch"] * len(ngs))
    equal(ask(guest, f"/topic?t={topic}", "DELETE")[0], 200)
    equal(metric(guest, "broker_errors_total"), 0)
    ngs.remove(guest)
    [feed.close() for feed in feeds]
    equal(guest.stop(), 0)
    equal(guest.loud(), [])


def rights_of_manual():
    text = open(f"{REPO}/docs/manual.md").read().partition("Rights the user needs:")[2].partition("for every user")[0]
    return [word for part in re.findall("`([^`]*)`", text) for word in part.split()]


def known_as(port, options, http="", tls=None):
    """A cluster of one server: it is talked to by what it says that it is known as."""
    folder = f"{ROOT}-lone/{port}"
    os.makedirs(folder)
    lone = Redis(port, WORD, ["--cluster-enabled", "yes", "--dir", folder, *options], tls=tls)
    scheme, trust = ("rediss", f"tls_trusted_certificate {tls.authority};") if tls else ("redis", "")
    block = re.sub(r"redis\+cluster:[^;]*;", f"{scheme}+cluster://127.0.0.1:{port}; {trust}", BROKER)
    guest = machine(MACHINES, http + block, case.server, 1, {"word": WORD})
    try:
        equal(lone.ask("CLUSTER", "ADDSLOTSRANGE", 0, RedisCluster.SLOTS - 1), "+OK")
        guest.start()
        await_(lambda: metric(guest, "broker_connected") == 1, "connected")
        for topic in "h:x", "x":
            feed = Feed(guest, topic)
            feed.line()
            put_once(guest, topic, "known")
            equal(feed.line()["data"], "known")
            feed.close()
        places = {line.split("laddr=")[1].split()[0] for line in clients_of(lone)}
        equal(guest.stop(), 0)
        equal(guest.loud(LOST), [])
        return places
    finally:
        guest.kill()
        lone.kill()
        shutil.rmtree(f"{ROOT}-lone")


def clients_of(server):
    """Connections of gateways, as the server lists them."""
    return [line for line in server.ask("CLIENT", "LIST").splitlines() if "name=ws:" in line]


def in_tls():
    """One in TLS that does not know its own address: all connections are verified."""
    mine = Authority(f"{ROOT}-tls", "127.0.0.1")
    known_as(DOOR + 7, ["--tls-cluster", "yes"], tls=mine)
    shutil.rmtree(f"{ROOT}-tls")


def by_name():
    """Servers that announce names, which are looked up; and addresses of IPv6."""
    dns = NameServer(DOOR + 9)
    dns.names["lone.test"] = "127.0.0.1"
    known_as(DOOR + 7, ["--cluster-announce-hostname", "lone.test", "--cluster-preferred-endpoint-type", "hostname"],
             http=f"resolver 127.0.0.1:{DOOR + 9} ipv6=off valid=1s;\n")
    assert dns.asked > 0
    dns.socket.close()
    if has_ipv6():
        places = known_as(DOOR + 7, ["--bind", "127.0.0.1", "::1", "--cluster-announce-ip", "::1"])
        equal(places, {f"[::1]:{DOOR + 7}"})
    else:
        print("# no IPv6 here", flush=True)


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
        return True
    except OSError:
        return False


cluster = RedisCluster(DOOR, f"{ROOT}-cluster", word=WORD)
ngs = [machine(n, BROKER, case.server, 2, {"word": WORD}) for n in range(MACHINES)]
try:
    for ng in ngs:
        ng.start()
    for name, body in (
            ("topics are spread over all masters", spread),
            ("a slot moves under way", moved),
            ("a server comes and goes", grown),
            ("the cluster is down", down),
            ("a reload hands over", reloaded),
            ("passwords and rights", spoken),
            ("a master is killed", killed),
            ("all servers are killed", restarted),
            ("in TLS", in_tls),
            ("known by a name, or an address of IPv6", by_name)):
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
