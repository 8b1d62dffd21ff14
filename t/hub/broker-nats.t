BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Plain topics over NATS, and how a machine gets to its servers: who it is, in TLS or not, which one of a
# cluster; and what servers do that end, cut off or refuse.
import os
import re
import shutil
import signal
import subprocess

from lib.brokers import NATS, Authority, Fleet, Nats, level, machine, metric, skip_without
from lib.crowd import Crowd, Line, room
from lib.live import PORT, ROOT, Cases, Tap, await_, equal
from lib.nkeys import Key, decentralized

skip_without(NATS, "nats-server")

tap = Tap()
case = Cases()
room(case)
case.server += "location = /metrics { websocket_status prometheus; }\n"
DOOR = PORT + 10
FAST = "connect_timeout 2s; command_timeout 2s; probe 500ms; reconnect max=200ms; queue 4m retry=30s;"
LOST = r"broker \w+ \([\w.:]+\): connection lost \(([^)]*)\)"
VERSION = subprocess.run([NATS, "--version"], capture_output=True, text=True).stdout
VERSION = tuple(int(n) for n in re.search(r"v(\d+)\.(\d+)\.(\d+)", VERSION).groups())
folder = f"{ROOT}-nats"
shutil.rmtree(folder, ignore_errors=True)
fleet = Fleet(LOST)
ngs, servers, said = fleet.ngs, fleet.servers, fleet.said


def start(line, files=None, count=2, rules=""):
    fleet.start(f"websocket_broker b {{ {line} {FAST} }}\n{rules}", case.server, count, files)


def stop(allowed=None):
    fleet.stop(allowed)
    shutil.rmtree(folder)


def serve(port=DOOR, **more):
    servers.append(Nats(port, folder, jetstream=False, **more))
    return servers[-1]


def subscribed(ng, denied=0):
    """Connected, and whatever is wanted is subscribed: what nobody listens for any more is wanted for some seconds."""
    return metric(ng, "broker_connected") == 1 and (
        metric(ng, 'broker_topics{state="subscribed"}') >= metric(ng, 'broker_topics{state="wanted"}') - denied)


def hear(topic="room", denied=0):
    """What each machine publishes all hear, once, in order."""
    crowds = [Crowd(ng, 2, f"/room?topics={topic}") for ng in ngs]
    for ng in ngs:
        await_(lambda: subscribed(ng, denied), "subscribed")
    await_(lambda: all(metric(ng, "nodes_known") == len(ngs) - 1 for ng in ngs), "heartbeats")
    for n, ng in enumerate(ngs):
        line = Line(ng)
        got = {id(one): [] for crowd in crowds for one in crowd}

        def heard(one):
            got[id(one)] += [payload.decode() for _, payload in one.frames()]
            return got[id(one)]

        def all_hear():
            line.ask(f"/push?topic={topic}&data=?")
            everybody = [one for crowd in crowds for one in crowd]
            return all([one.take() and heard(one) for one in everybody])
        # A machine knows a moment later than its own numbers say who listens elsewhere.
        await_(all_hear, "all hear it")
        sent = [f"{n}{i:04d}" for i in range(20)]
        [line.ask(f"/push?topic={topic}&data={text}") for text in [*sent, "end"]]
        for crowd in crowds:
            crowd.until(lambda one: "end" in heard(one), what="messages")
            for one in crowd:
                equal([text for text in got[id(one)] if text != "?"], [*sent, "end"])
        line.close()
    for one in [one for crowd in crowds for one in crowd]:
        one.sock.close()


def plain():
    """Three machines, any bytes in a topic's name, send by id; a server that is killed, and one that stops."""
    server = serve()
    start(f"server nats://127.0.0.1:{DOOR};", count=3)
    hear()
    hear("a.b*$!/:")
    crowd, line = Crowd(ngs[1], 2), Line(ngs[0])
    for one in crowd:
        equal(line.ask(f"/send?to={one.id}&data=to-{one.id}"), "true")
        crowd.until(lambda s: s is not one or len(s.data) >= 37)
        equal([payload.decode() for _, payload in one.frames()], [f"to-{one.id}"])
    at_home = Crowd(ngs[0], 1)
    for how in (server.kill, lambda: server.child.send_signal(signal.SIGSTOP)):
        how()
        for ng in ngs:
            await_(lambda: metric(ng, "broker_connected") == 0, "the loss is seen")
        line.ask("/push?data=x")
        at_home.until(lambda s: len(s.data) >= 3, what="at home it goes on")
        equal([[p for _, p in one.frames()] for one in at_home], [[b"x"]])
        if server.child.returncode is None:
            server.child.send_signal(signal.SIGCONT)
        else:
            server.start()
        for ng in ngs:
            await_(lambda: subscribed(ng), "subscribed again")
        assert metric(ngs[1], "broker_gaps_total") > 0
        # What has waited may have come too early for the others.
        line.ask("/push?data=z")
        got = {id(one): [] for one in crowd}

        def done(one):
            got[id(one)] += [payload for _, payload in one.frames()]
            return b"z" in got[id(one)]
        crowd.until(done, what="the next message")
        assert all(one in ([b"z"], [b"x", b"z"]) for one in got.values()), got
        at_home.until(lambda s: len(s.data) >= 3, what="likewise at home")
        equal([[p for _, p in one.frames()] for one in at_home], [[b"z"]])
    line.close()
    for one in [*crowd, *at_home]:
        one.sock.close()
    hear()
    stop()


def logins():
    """By user and password, token, key and credentials; and with wrong ones of each."""
    key, (operator, credentials) = Key("U"), decentralized()
    other, (_, others) = Key("U"), decentralized()
    user = "server nats://127.0.0.1:%d; user ws; password_file secret;" % DOOR
    token, nkey, creds = (f"server nats://127.0.0.1:{DOOR}; {name}_file secret;" for name in ("token", "nkey", "creds"))
    for lines, login, block, good, bad in (
            ("authorization { user: ws, password: right }", {"user": "ws", "pass": "right"}, user, "right", "wrong"),
            ("authorization { token: right }", {"auth_token": "right"}, token, "right", "wrong"),
            (f"authorization {{ users: [ {{ nkey: {key.public} }} ] }}", None, nkey, key.seed, other.seed),
            (operator, None, creds, credentials, others)):
        server = serve(lines=lines, login=login, wait=login is not None)
        start(block, {"secret": bad}, count=1)
        said("Authorization Violation")
        assert bad not in ngs[0].read_log()
        fleet.stop_machines()
        start(block, {"secret": good})
        hear()
        stop()
        del server


def rights():
    """A topic that may not be subscribed, or not be published to; the others go on."""
    server = serve(lines="""authorization { users: [ { user: ws, password: word, permissions: {
        subscribe: { allow: ["ws.>"], deny: ["ws.t.secret"] },
        publish: { allow: ["ws.>"], deny: ["ws.t.quiet"] } } } ] }""", login={"user": "ws", "pass": "word"})
    start(f"server nats://127.0.0.1:{DOOR}; user ws; password_file secret;", {"secret": "word"})
    crowd = Crowd(ngs[1], 1, "/room?topics=secret,quiet")
    await_(lambda: 'topic "secret" is denied: Permissions Violation for Subscription' in ngs[1].read_log(), "it is said")
    hear(denied=1)
    line = Line(ngs[0])
    line.ask("/push?topic=secret&data=x")
    line.ask("/push?topic=quiet&data=x")
    await_(lambda: metric(ngs[0], 'broker_dropped_total{reason="refused"}') == 1, "it is counted")
    hear(denied=1)
    equal([one.frames() for one in crowd], [[]])
    crowd[0].sock.close()
    equal(metric(ngs[0], "broker_connected"), 1)
    # One that was subscribed is taken back when the server reads its configuration anew.
    crowd = Crowd(ngs[1], 1, "/room?topics=taken")
    await_(lambda: line.ask("/push?topic=taken&data=x") and crowd[0].take() and crowd[0].frames(), "it is heard")
    line.close()
    refused = 'broker_errors_total{kind="refused"}'
    before = metric(ngs[1], refused)
    with open(server.configuration) as f:
        text = f.read()
    with open(server.configuration, "w") as f:
        f.write(text.replace('deny: ["ws.t.secret"]', 'deny: ["ws.t.secret", "ws.t.taken"]'))
    server.child.send_signal(signal.SIGHUP)
    await_(lambda: metric(ngs[1], refused) == before + 1, "it is told")
    assert metric(ngs[1], 'broker_topics{state="subscribed"}') < metric(ngs[1], 'broker_topics{state="wanted"}')
    crowd[0].sock.close()
    hear(denied=2)
    stop(r"is denied")


def tls():
    """In TLS behind the server's first word; with the right authority and name only."""
    right = Authority(f"{folder}-tls", "127.0.0.1")
    serve(tls=right)
    block = f"server tls+nats://127.0.0.1:{DOOR};"
    start(f"{block} tls_trusted_certificate {right.authority};")
    hear()
    fleet.stop_machines()
    wrong = Authority(f"{folder}-tls-wrong", "127.0.0.1")
    for block, text in ((f"{block} tls_trusted_certificate {wrong.authority};", "certificate is refused"),
                        (f"{block} tls_trusted_certificate {right.authority}; tls_name other.test;", "certificate is refused: hostname mismatch"),
                        (f"server nats://127.0.0.1:{DOOR};", "the server asks for tls")):
        start(block, count=1)
        said(text)
        fleet.stop_machines()
    servers[0].kill()
    old = Authority(f"{folder}-tls-old", "127.0.0.1", days=-1)
    servers[0] = Nats(DOOR, folder, jetstream=False, tls=old, wait=False)
    start(f"server tls+nats://127.0.0.1:{DOOR}; tls_trusted_certificate {old.authority};", count=1)
    said("certificate is refused: certificate has expired")
    stop()
    if VERSION >= (2, 10, 4):
        servers.append(Nats(DOOR, folder, jetstream=False, lines=f"""tls {{ cert_file: "{right.certificate}",
            key_file: "{right.key}", handshake_first: true }}""", wait=False))
        start(f"server tls+nats://127.0.0.1:{DOOR}; tls_first on; tls_trusted_certificate {right.authority};")
        hear()
        stop()
    else:
        print("# tls_first needs NATS 2.10.4", flush=True)
    [shutil.rmtree(f"{folder}-tls{name}") for name in ("", "-wrong", "-old")]


def limits():
    """A message above max_payload is dropped and counted; a slow gateway is cut off, and comes back."""
    serve(lines="max_payload: 1000\nmax_pending: 100000\nwrite_deadline: \"1s\"")
    start(f"server nats://127.0.0.1:{DOOR};")
    hear()
    line = Line(ngs[0])
    line.ask("/push?data=" + "x" * 2000)
    await_(lambda: metric(ngs[0], 'broker_dropped_total{reason="too large"}') == 1, "it is counted")
    equal(metric(ngs[0], "broker_reconnects_total"), 0)
    crowd = Crowd(ngs[1], 1)
    level(ngs[1], 1)
    [gateway] = ngs[1].workers()
    os.kill(gateway, signal.SIGSTOP)
    data = "x" * 900
    # More than the kernels and the server hold for it.
    await_(lambda: [line.ask(f"/push?data={data}") for _ in range(500)]
           and "Slow Consumer" in open(f"{folder}/a.log").read(), "it is cut off")
    os.kill(gateway, signal.SIGCONT)
    await_(lambda: metric(ngs[1], "broker_reconnects_total") == 1, "and comes back")
    assert metric(ngs[1], "broker_gaps_total") == 1
    crowd[0].sock.close()
    line.close()
    hear("calm")
    stop()


def cluster():
    """One server is configured, and tells of the other; the one that ends is left."""
    routes = DOOR + 3, DOOR + 4
    for port, route, name in zip((DOOR, DOOR + 1), routes, "ab"):
        serve(port, name=name, cluster=(route, routes))
    await_(lambda: "Route connection created" in open(f"{folder}/b.log").read(), "they know each other")
    start(f"server nats://127.0.0.1:{DOOR};")
    hear()
    # Those that are to move have been told of the other. Nothing is missed meanwhile, and nothing comes twice.
    crowd, line = Crowd(ngs[1], 1), Line(ngs[0])
    level(ngs[1], 1)
    servers[0].child.send_signal(signal.SIGUSR2)
    sent, got = [], []

    def goes_on():
        sent.append(f"m{len(sent)}")
        line.ask(f"/push?data={sent[-1]}")
        return servers[0].child.poll() is not None
    await_(goes_on, "it ends, for nobody is there any more")
    goes_on()

    def comes(one):
        got.extend(payload.decode() for _, payload in one.frames())
        return sent[-1] in got
    crowd.until(comes, what="the last message")
    equal(got, sent)
    line.close()
    crowd[0].sock.close()
    for ng in ngs:
        equal([metric(ng, f"broker_{what}_total") for what in ("reconnects", "gaps")], [1, 0])
        assert "connection lost" not in ng.read_log(), ng.read_log()
    hear()
    servers[0].start()
    servers[1].kill()
    hear()
    stop()


def refused(http, text):
    ng = machine(0, http, case.server, 1)
    done = subprocess.run(ng.command("-t"), capture_output=True, text=True)
    log = done.stderr + ng.read_log()
    assert done.returncode != 0 and text in log and "nginx.conf:" in log, (text, log)


def configuration():
    """What is wrong is said with file and line."""
    key = Key("A")
    with open(f"{ROOT}-seed", "w") as out:
        out.write(key.seed)
    os.chmod(f"{ROOT}-seed", 0o600)
    a = "server nats://a;"
    for block, text in (
            ("server nats://u:p@a;", "a user or password in the address of a broker"),
            ("server nats://a,;", "no host in the address of a broker"),
            (f"{a} prefix 'a b';", "invalid prefix in broker"),
            (f"{a} jetstream a.b;", 'invalid name of a stream "a.b"'),
            (f"{a} jetstream WS replicas=9;", 'invalid value "replicas=9"'),
            (f"{a} nkey_file {ROOT}-seed;", "no key of a user"),
            (f"{a} creds_file {ROOT}-seed;", "no key of a user"),
            (f"{a} creds_file {ROOT}-none;", "cannot read \"creds_file\""),
            (f"{a} token_file {ROOT}-seed; password_env PATH;", "only one is taken"),
            (f"{a} tls_first on;", "for a server without tls"),
            ("server redis://a; jetstream WS;", "lines that are for a NATS server alone")):
        refused(f"websocket_broker b {{ {block} }}", text)
    for rules in ("%s websocket_topic a history=3;", "websocket_topic a history=3; %s"):
        refused(rules % f"websocket_broker b {{ {a} }}", '"history" by broker "b", a NATS server without "jetstream"')
    os.unlink(f"{ROOT}-seed")


try:
    for name, body in (
            ("plain topics", plain),
            ("who a machine is", logins),
            ("rights", rights),
            ("tls", tls),
            ("limits of a server", limits),
            ("a cluster", cluster),
            ("configuration", configuration)):
        if os.environ.get("ONLY", name) in name:
            tap.attempt(name, body)
            fleet.kill()
finally:
    shutil.rmtree(folder, ignore_errors=True)
tap.done()
