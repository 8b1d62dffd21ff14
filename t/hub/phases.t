BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Publishing from every phase that runs Lua in a worker, those that cannot wait included, and when a
# worker starts and ends; in the publisher's order, mixed with a connection's own messages; and whom
# a message wakes.
from lib.crowd import WORKERS, Crowd, Line, empty, lines, room
from lib.live import Cases, await_, equal, run
from lib.peer import TEXT, Peer, frame

case = Cases()
room(case, "websocket_shutdown_close off;")
PUBLISH = 'assert(require("resty.websocket").publish("room", "from %s"))'
PHASES = "set", "rewrite", "access", "content", "header_filter", "body_filter", "log", "balancer"


def block(phase):
    return f"{phase}_by_lua_block {{ {PUBLISH % phase} }}"


case.server += f"""
    location = /from/set {{ set_by_lua_block $x {{ {PUBLISH % "set"} return 1 }} return 204; }}
    location = /from/rewrite {{ {block("rewrite")} empty_gif; }}
    location = /from/access {{ {block("access")} empty_gif; }}
    location = /from/content {{ {block("content")} }}
    location = /from/header_filter {{ {block("header_filter")} return 204; }}
    location = /from/body_filter {{
        body_filter_by_lua_block {{ if ngx.arg[2] then {PUBLISH % "body_filter"} end }}
        empty_gif;
    }}
    location = /from/log {{ return 204; {block("log")} }}
    # nginx since 1.29.7 keeps connections to upstreams unless told otherwise.
    location = /from/balancer {{ proxy_http_version 1.0; proxy_pass http://balanced/pid; }}
"""
HTTP = f"""
    init_worker_by_lua_block {{ {PUBLISH % "init_worker"} }}
    exit_worker_by_lua_block {{ {PUBLISH % "exit_worker"} }}
    upstream balanced {{
        server 0.0.0.1;
        balancer_by_lua_block {{
            {PUBLISH % "balancer"}
            assert(require("ngx.balancer").set_current_peer("127.0.0.1", ngx.var.server_port))
        }}
    }}
    proxy_temp_path proxy_temp;
"""

# What one connection is sent, in this order, by its own handler.
case.handler("/mixed", """
    local websocket = require "resty.websocket"
    local ws = assert(websocket.accept())
    assert(ws:subscribe("mixed"))
    for n = 1, 300, 3 do
        ws:send(tostring(n))
        websocket.publish("mixed", tostring(n + 1))
        websocket.send(ws.id, tostring(n + 2))
    end
    ws:recv()
""")
# And by another worker, by topic and by id.
case.handler("/both-ways", """
    local websocket = require "resty.websocket"
    for n = 1, 300, 2 do
        websocket.publish("room", tostring(n))
        websocket.send(ngx.var.arg_to, tostring(n + 1))
    end
""")


@case("from every phase of a request")
def _(ng):
    line = Line(ng)
    await_(lambda: line.info()["published"] == WORKERS, "all workers have started")
    line.close()
    crowd = Crowd(ng, 2 * WORKERS)
    for line in lines(ng).values():
        for phase in PHASES:
            line.ask(f"/from/{phase}")
            equal(set(crowd.next(phase)), {(TEXT, f"from {phase}".encode())})
        line.close()
    crowd.close()
    empty(ng)


@case("when a worker starts, and when it ends")
def _(ng):
    crowd = Crowd(ng, 2 * WORKERS)
    old = ng.workers()
    ng.signal("HUP")
    for _ in range(WORKERS):
        equal(set(crowd.next()), {(TEXT, b"from init_worker")})
    await_(lambda: not set(ng.workers()) & set(old), "the old workers are told")
    # The subscribers that are left are in the new workers, the old ones end.
    new = Crowd(ng, 2 * WORKERS)
    crowd.close()
    for _ in range(WORKERS):
        equal(set(new.next()), {(TEXT, b"from exit_worker")})
    await_(lambda: not set(ng.children()) & set(old), "the old workers end")
    new.close()
    empty(ng)


@case("in order with a connection's own messages, and with messages by id")
def _(ng):
    peer = Peer(ng, "/mixed")
    equal([int(peer.frame()[1]) for _ in range(300)], list(range(1, 301)))
    peer.close()
    crowd = Crowd(ng, 2 * WORKERS)
    for pid, line in lines(ng).items():
        one = next(one for one in crowd if one.pid != pid or WORKERS == 1)
        line.ask(f"/both-ways?to={one.id}")
        line.ask("/push?data=end")
        crowd.until(lambda s: s.data.endswith(b"\x81\x03end"))
        for each in crowd:
            numbers = [int(text) for _, text in each.frames()[:-1]]
            equal(numbers, list(range(1, 301)) if each is one else list(range(1, 301, 2)))
        line.close()
    crowd.close()
    empty(ng)


@case("a message wakes the workers that have subscribers, and no other")
def _(ng):
    crowd = Crowd(ng, 2 * WORKERS, "/room?topics=wakes")
    all_lines = lines(ng)
    chosen, *rest = list(all_lines)
    for one in crowd:
        if one.pid != chosen:
            one.sock.close()
    here = [one for one in crowd if one.pid == chosen]
    await_(lambda: all_lines[chosen].ask("/count") == str(len(here)), "only one worker has some")
    publisher = all_lines[rest[0] if rest else chosen]
    before = publisher.info()["wakeups"]
    for n in range(20):
        publisher.ask(f"/push?topic=wakes&data={n:04}")
        for one in here:
            one.sock.settimeout(10)
            while len(one.data) < 6 and one.take():
                pass
            equal(one.frame(), (TEXT, b"%04d" % n))
    after = publisher.info()["wakeups"]
    wanted = 20 if rest else 0
    equal((after["sent"] - before["sent"], after["received"] - before["received"]),
          (wanted, wanted))
    for each in all_lines.values():
        each.close()
    for one in here:
        one.sock.close()
    empty(ng)


run(case, workers=WORKERS, listen="reuseport", http=HTTP)
