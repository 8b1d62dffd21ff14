BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# How a machine gets to its brokers: names that move, TLS that is verified, users with few rights, and
# several brokers side by side.
import os
import re

from lib.brokers import (
    REDIS, Authority, Fleet, NameServer, Redis, metric, skip_without)
from lib.crowd import Crowd, Line, room
from lib.live import PORT, ROOT, Cases, Tap, await_, equal

skip_without(REDIS, "redis-server")

tap = Tap()
case = Cases()
room(case)
case.server += "location = /metrics { websocket_status prometheus; }\n"
DOOR, NAMES = PORT + 10, PORT + 14
FAST = "connect_timeout 2s; command_timeout 2s; probe 500ms; reconnect max=200ms;"
RESOLVER = f"resolver 127.0.0.1:{NAMES} ipv6=off valid=1s; resolver_timeout 2s;\n"
LOST = r"broker \w+ \([\w.:]+\): connection lost \(([^)]*)\)"
fleet = Fleet(LOST)
ngs, servers, said, stop = fleet.ngs, fleet.servers, fleet.said, fleet.stop


def start(*lines, files=None, http="", rules="", count=2):
    """Machines with a broker each of these lines."""
    blocks = http + "".join("websocket_broker b%d { %s %s }\n" % (n, line, FAST)
                            for n, line in enumerate(lines)) + rules
    fleet.start(blocks, case.server, count, files)


def serve(*args, **more):
    servers.append(Redis(*args, **more))
    return servers[-1]


def hear(topic="room"):
    """What the first machine publishes the second hears."""
    crowd = Crowd(ngs[1], 1, f"/room?topics={topic}")
    await_(lambda: metric(ngs[1], 'broker_topics{state="subscribed"}') >= 1, "subscribed")
    line = Line(ngs[0])

    def arrives():
        line.ask(f"/push?topic={topic}&data=x")
        for one in crowd:
            one.take()
        return any(one.frames() for one in crowd)
    await_(arrives, "it is heard")
    line.close()
    crowd[0].sock.close()


def moves():
    """The name's address changes while the server there dies."""
    dns = NameServer(NAMES)
    dns.names["redis.test"] = "127.0.0.1"
    first = serve(DOOR)
    start("server redis://redis.test:%d;" % DOOR, http=RESOLVER)
    hear()
    first.kill()
    dns.names["redis.test"] = "127.0.0.2"
    servers.append(Redis(DOOR, options=["--bind", "127.0.0.2"], wait=False))
    hear()
    # A name that is gone for a while.
    del dns.names["redis.test"]
    servers[-1].kill()
    said("redis.test could not be resolved: host not found")
    servers[-1].start(wait=False)
    dns.names["redis.test"] = "127.0.0.2"
    hear()
    dns.socket.close()
    stop()


def no_resolver():
    start("server redis://redis.test;", count=1)
    said("no resolver defined to resolve redis.test")
    stop()


def tls():
    """A server is believed by its certificate, and only then."""
    good = Authority(f"{ROOT}-tls/good", "redis.test")
    other = Authority(f"{ROOT}-tls/other", "redis.test")
    serve(DOOR, "sesame", tls=good)
    trust = f"server rediss://127.0.0.1:{DOOR}; password_file word; "
    words = {"word": "sesame"}
    start(trust + f"tls_trusted_certificate {good.authority}; tls_name redis.test;", files=words)
    hear()
    fleet.stop_machines()
    for lines, text in (
            (f"tls_trusted_certificate {other.authority}; tls_name redis.test;",
             "certificate is refused: "),
            (f"tls_trusted_certificate {good.authority};", "refused: ip address mismatch"),
            (f"tls_trusted_certificate {good.authority}; tls_name wrong.test;",
             "refused: hostname mismatch"),
            ("tls_name redis.test;", "certificate is refused: ")):
        start(trust + lines, files=words, count=1)
        said(text)
        equal(metric(ngs[0], "broker_connected"), 0)
        assert "sesame" not in ngs[0].read_log()
        fleet.stop_machines()
    warned = re.compile(LOST + '|broker "b0": its server\'s certificate is not verified')
    start(trust + "tls_verify off;", files=words)
    hear()
    stop(warned)


def expired_and_own():
    """One that has run out is refused; where the server asks for ours, it gets it."""
    old = Authority(f"{ROOT}-tls/old", "127.0.0.1", days=-1)
    serve(DOOR, tls=old, wait=False)
    start(f"server rediss://127.0.0.1:{DOOR}; tls_trusted_certificate {old.authority};", count=1)
    said("refused: certificate has expired")
    stop()
    own = Authority(f"{ROOT}-tls/own", "127.0.0.1")
    serve(DOOR, tls=own, options=["--tls-auth-clients", "yes"], wait=False)
    start(f"server rediss://127.0.0.1:{DOOR}; tls_trusted_certificate {own.authority};"
          f" tls_certificate {own.certificate} {own.key};")
    hear()
    stop()


def users():
    """A user that may do what the manual lists, and no more; what it may not is said."""
    server = serve(DOOR)
    server.ask("ACL", "SETUSER", "ws", "on", ">word", "resetchannels", "&ws:*", "-@all", "+publish",
               "+subscribe", "+unsubscribe", "+hello", "+auth", "+client|setname", "+role")
    server.ask("ACL", "SETUSER", "default", "off")
    start(f"server redis://127.0.0.1:{DOOR}; user ws; password_file word;", files={"word": "word"})
    hear()
    fleet.stop_machines()
    start(f"server redis://127.0.0.1:{DOOR}; user ws; password_file word; prefix other:;",
          files={"word": "word"}, count=1)
    said("NOPERM")
    stop()


def several():
    """Each topic goes by its broker, and what one does is nothing to the other."""
    serve(DOOR)
    serve(DOOR + 1)
    lines = ["server redis://127.0.0.1:%d;" % (DOOR + n) for n in range(2)]
    start(*lines, rules='websocket_topic "hot:*" broker=b1;\n')
    for ng in ngs:
        await_(lambda: metric(ng, "broker_connected") == 2, "both are there")
    hear("hot:a")
    hear("cold")
    equal([server.ask("PUBSUB", "CHANNELS", "ws:t:*") for server in servers], ["*1", "*1"])
    servers[0].kill()
    await_(lambda: metric(ngs[0], "broker_connected") == 1, "the first is missed")
    hear("hot:a")
    # What the second says of a topic of the first is not believed.
    crowd = Crowd(ngs[1], 1, "/room?topics=cold")
    servers[1].ask("PUBLISH", "ws:t:cold", b"\x02\0\0\4" + bytes(18) + b"coldx")
    equal([one.frames() for one in crowd], [[]])
    servers[0].start()
    hear("cold")
    crowd[0].sock.close()
    stop()


for name, body in (
        ("a name is looked up at each connect, and followed where it goes", moves),
        ("a name without a resolver is said", no_resolver),
        ("in TLS a server is believed by its certificate", tls),
        ("an expired certificate is refused, a client's is shown", expired_and_own),
        ("a user needs few rights, and says which it lacks", users),
        ("several brokers", several)):
    if os.environ.get("ONLY", name) in name:
        tap.attempt(name, body)
    fleet.kill()
tap.done()
