BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# How it stands with each of two brokers, as the status of any worker tells it in JSON, to Prometheus and
# by health=broker: while one is killed and comes back, its worker dies, and the configuration changes.
import http.client
import itertools
import json
import os
import signal

from lib.brokers import REDIS, Redis, ask, machine, metric, skip_without
from lib.crowd import Crowd, Line, lines, room
from lib.live import KILLED, PATIENCE, PORT, Cases, Tap, await_, equal

skip_without(REDIS, "redis-server")

tap = Tap()
case = Cases()
room(case)
case.server += """
location = /metrics { websocket_status prometheus; }
location = /health { websocket_status health=broker; }
location = /page { websocket_status health=broker html; }
location = /room/spare { websocket_subscribe spare:a; }
location = /topic/spare { websocket_publish spare:a; }
location = /topic/added { websocket_publish added:a; }
"""
WORKERS, MAIN, SPARE, NOBODY = 2, PORT + 10, PORT + 11, PORT + 12
# A name that JSON and Prometheus have to escape.
ODD = 'sp"are'
BROKERS = "".join("""
    websocket_broker '%s' {
        server redis://127.0.0.1:%d;
        connect_timeout 2s; command_timeout 2s; probe 1s; reconnect max=300ms; queue 1k retry=30s;
    }
""" % broker for broker in (("main", MAIN), (ODD, SPARE))) + f"""
    websocket_topic "spare:*" 'broker={ODD}';
"""
LOST = r"broker .* \(127.0.0.1:\d+\): connection lost"


def seen(ng):
    """What is told of each broker, by its name."""
    return {b["name"]: b for b in json.loads(ng.get("/info"))["brokers"]}


def seen_by_all(ng):
    """The same by every worker."""
    found = lines(ng)
    told = [{b["name"]: b for b in line.info()["brokers"]} for line in found.values()]
    [line.close() for line in found.values()]
    return told


def broker(line, name):
    return next(b for b in line.info()["brokers"] if b["name"] == name)


def becomes(ng, name, state):
    line = Line(ng)
    await_(lambda: broker(line, name)["state"] == state, f"{name} is {state}")
    line.close()


def of(name, more=""):
    return '{broker="%s"%s}' % (name.replace('"', '\\"'), more)


def health(ng, path="/health"):
    web = http.client.HTTPConnection("127.0.0.1", ng.port, timeout=PATIENCE)
    web.request("GET", path)
    answer = web.getresponse()
    text = answer.read().decode()
    web.close()
    return answer.status, text


def both_there():
    for name in "main", ODD:
        becomes(ng, name, "connected")
    ng_topics = lambda name: metric(ng, "link_topics" + of(name, ',state="subscribed"'))
    await_(lambda: (ng_topics("main"), ng_topics(ODD)) == (1, 1), "a topic at each")
    line = Line(ng)
    line.ask("/push?data=x")
    line.ask("/push?data=y")
    line.ask("/topic/spare", "POST", "z")
    await_(lambda: (metric(ng, "link_published_total" + of("main")), metric(ng, "link_published_total" + of(ODD)))
           == (2, 1), "each is counted where it went")
    line.close()
    for told, (name, published) in itertools.product(seen_by_all(ng), (("main", 2), (ODD, 1))):
        equal(list(told), ["main", ODD])
        one = told[name]
        assert one["worker"] in ng.workers() and one["seconds"] >= 0, one
        equal((one["topics"], one["published"], one["received"], one["gaps"], one["connected"], one["queue_bytes"]),
              ({"wanted": 1, "subscribed": 1}, published, 0, 0, 1, 0))
        equal(set(one["dropped"].values()), {0})
        equal(metric(ng, "link_away_seconds" + of(name)), 0)
    # The sums are as they were.
    equal((metric(ng, "broker_published_total"), metric(ng, "broker_connected")), (3, 2))
    equal(health(ng)[0], 200)


def killed():
    spare.kill()
    becomes(ng, ODD, "away")
    becomes(ng, "main", "connected")
    equal((metric(ng, "link_connected" + of(ODD)), metric(ng, "link_connected" + of("main"))), (0, 1))
    equal(metric(ng, "link_gaps_total" + of(ODD)), 1)
    equal(metric(ng, "link_gaps_total" + of("main")), 0)
    assert metric(ng, 'link_errors_total' + of(ODD, ',kind="connect"')) >= 1
    # What waits for it, and what does not fit any more.
    line = Line(ng)
    for _ in range(5):
        line.ask("/topic/spare", "POST", "w" * 300)
    await_(lambda: broker(line, ODD)["queue_bytes"] > 0 and broker(line, ODD)["dropped"]["full"] > 0, "the queue is full")
    equal(broker(line, "main")["queue_bytes"], 0)
    line.close()


def too_long():
    """health=broker is patient for ten seconds; a worker that takes over does not begin them anew."""
    line = Line(ng)
    old = broker(line, ODD)["worker"]
    before = broker(line, ODD)["seconds"]
    line.close()
    os.kill(old, signal.SIGKILL)
    await_(lambda: seen(ng)[ODD]["worker"] not in (None, old), "another worker takes over")
    becomes(ng, "main", "connected")
    assert seen(ng)[ODD]["seconds"] >= before
    while True:
        asked = seen(ng)[ODD]["seconds"]
        status, text = health(ng)
        if status == 503:
            break
        assert asked <= 10, f"answers {status} after {asked} s"
    told = {b["name"]: b for b in json.loads(text)["brokers"]}
    assert told[ODD]["state"] != "connected" and told[ODD]["seconds"] > 10, told
    equal(told["main"]["state"], "connected")
    assert metric(ng, "link_away_seconds" + of(ODD)) > 10
    # The page asks for forms, and is not to think that the server is gone.
    equal((health(ng, "/page")[0], health(ng, "/page?format=json")[0], health(ng, "/page?format=js")[0]), (503, 200, 200))
    equal(health(ng, "/info")[0], 200)


def back():
    spare.start()
    becomes(ng, ODD, "connected")
    equal(health(ng)[0], 200)
    equal(metric(ng, "link_away_seconds" + of(ODD)), 0)
    assert seen(ng)[ODD]["published"] >= 1


def reload(http):
    old = set(ng.workers())
    ng.write(http=http)
    ng.signal("HUP")
    await_(lambda: len(ng.workers()) == WORKERS and not old & set(ng.workers()), "reload")


def reloaded():
    """Totals stay with the name, and what is not configured any more is not told."""
    before = seen(ng)
    reload(BROKERS)
    await_(lambda: all(one["state"] == "connected" and one["worker"] in ng.workers() for one in seen(ng).values()),
           "a worker of the new configuration talks to them")
    for name, one in seen(ng).items():
        assert one["published"] >= before[name]["published"] >= 1, one
    reload(BROKERS.split("websocket_broker '" + ODD)[0])

    def one_left():
        return all(list(told) == ["main"] and told["main"]["state"] == "connected" for told in seen_by_all(ng))
    await_(one_left, "one broker is left")
    assert 'broker="sp' not in ng.get("/metrics")


def added():
    """The worker that still talks to the brokers has never heard of a new one: who asks for that hears so."""
    ng.write(http=BROKERS.split("websocket_broker '" + ODD)[0] + f"""
        websocket_broker added {{ server redis://127.0.0.1:{NOBODY}; queue 1k retry=10ms; }}
        websocket_topic "added:*" history=5 broker=added;
    """)
    ng.signal("HUP")

    def kept():
        # A plain topic before.
        status, text = ask(ng, "/topic/added", "POST", "x")
        return status != 202 and (status, json.loads(text)["error"])
    equal(await_(kept, "a new worker answers"), (503, "broker unavailable"))


main, spare = Redis(MAIN), Redis(SPARE)
ng = machine(0, BROKERS, case.server, WORKERS)
try:
    ng.start()
    crowd, crowd_spare = Crowd(ng, 4), Crowd(ng, 4, "/room/spare", hello=False)
    for name, body in (("each has its own numbers, which any worker tells", both_there),
                       ("one is killed: it is away, the other is not", killed),
                       ("away for ten seconds: health=broker answers 503", too_long),
                       ("it comes back", back),
                       ("reloads", reloaded),
                       ("one is added", added)):
        tap.attempt(name, body)

    def end():
        equal(ng.stop(), 0)
        equal([line for line in ng.loud(LOST) if not KILLED.search(line)], [])
    tap.attempt("nothing else is logged, and nginx ends without a word", end)
finally:
    ng.kill()
    main.kill()
    spare.kill()
tap.done()
