BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Who is there: members and what they say of themselves, over workers, after the end of a connection
# in every way there is, over reloads; many of them; what is refused.
import json
import os
import re
import signal

from lib.crowd import WORKERS, Crowd, Line, empty, room
from lib.live import VALGRIND, Cases, await_, equal, run
from lib.peer import TEXT, Peer, frame, head

case = Cases()
room(case)
HTTP = """
    websocket_topic here:* presence;
    websocket_topic here:kept presence history=10;
    websocket_topic here:not history=10;
"""
case.handler("/who", """
    local members, answered, known = require("resty.websocket").presence(ngx.var.arg_topic)
    if not members then return ngx.print(live.json({ false, answered })) end
    for _, one in ipairs(members) do one.info = one.info or false end
    ngx.print(live.json({ members, answered, known }))
""")
case.handler("/early", """
    local ok, err = pcall(require("resty.websocket").presence, "here:a")
    ngx.log(ngx.WARN, "early ", ok, " ", err)
""", "return 200;", "log")
case.handler("/ws", """
    local ws = assert(require("resty.websocket").accept())
    local args = ngx.req.get_uri_args()
    local topic, info = args.topic, args.info
    if args.n then info = ("x"):rep(args.n) end
    local ok, done, err = pcall(ws.subscribe, ws, topic, { info = info })
    ws:send(live.json({ ok, done or false, err, ws.id, ngx.worker.pid() }))
    while true do
        local data = ws:recv()
        if not data then return end
        if data == "leave" then ws:unsubscribe(topic); ws:send("left") end
    end
""", "websocket_shutdown_close off;")
case.server += """
    location /plain { websocket_subscribe $arg_topic info=$arg_info; }
"""


def who(line, topic):
    members, answered, *known = json.loads(line.ask(f"/who?topic={topic}"))
    if members is not False:
        equal((answered, known), (1, [1]))
    return members


def infos(line, topic):
    return sorted(str(one["info"] or "") for one in who(line, topic) or [])


def join(ng, topic, info=None, **args):
    more = "".join(f"&{name}={value}" for name, value in args.items())
    peer = Peer(ng, f"/ws?topic={topic}" + (f"&info={info}" if info is not None else "") + more)
    peer.said = json.loads(peer.frame()[1])
    return peer


@case("members of all workers, and what they say of themselves")
def _(ng):
    peers = [join(ng, "here:a", f"p{n}") for n in range(4 * WORKERS)] + [join(ng, "here:a")]
    line = Line(ng)
    members = who(line, "here:a")
    equal(infos(line, "here:a"), sorted([f"p{n}" for n in range(4 * WORKERS)] + [""]))
    equal(len({one["member"] for one in members}), len(members))
    secrets = [peer.said[3] for peer in peers]
    for one in members:
        equal(len(one["member"]), 16)
        assert not any(one["member"] in secret for secret in secrets), one
        assert all(secret.startswith(one["node"]) for secret in secrets), one
    again = sorted(one["member"] for one in who(line, "here:a"))
    equal(again, sorted(one["member"] for one in members))
    equal(who(line, "here:nobody"), [])
    equal(infos(line, "here:kept"), [])
    # Left by itself, closed, and lost.
    peers[0].send(frame(TEXT, "leave"))
    equal(peers[0].frame()[1], b"left")
    peers[1].close()
    peers[2].rst()
    await_(lambda: len(who(line, "here:a")) == 4 * WORKERS - 2, "those that left to be gone")
    assert "p0" not in infos(line, "here:a")
    for peer in peers[3:]:
        peer.close()
    peers[0].close()
    line.close()
    empty(ng)


@case("what is refused: topics without presence, info of the wrong kind, phases that cannot wait",
      logs=re.compile(r"early false "))
def _(ng):
    line = Line(ng)
    for topic in ("else", "here:not"):
        equal(json.loads(line.ask(f"/who?topic={topic}")), [False, "no presence for this topic"])
    bad = [join(ng, "here:a", "%ff").said, join(ng, "here:a", n=1025).said]
    equal([said[0] for said in bad], [False, False])
    assert "info is not utf-8" in bad[0][1] and "longer than 1024 bytes" in bad[1][1], bad
    most = join(ng, "here:a", n=1024)
    equal(infos(line, "here:a"), ["x" * 1024])
    most.close()
    for info in ("%00".join("ab"), "x" * 1024):
        peer = Peer(ng, f"/plain?topic=here:b&info={info}")
        peer.close()
    peer = Peer(ng, request=head("/plain?topic=here:b&info=" + "x" * 1025))
    answer = peer.until(b"info is longer than 1024 bytes")
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    peer.close()
    line.ask("/early")
    line.close()
    empty(ng)


@case("many members come whole, from every worker")
def _(ng):
    many = 200 if VALGRIND else 2000
    crowd = Crowd(ng, many, "/plain?topic=here:many&info=" + "i" * 32, hello=False)
    line = Line(ng)
    members = who(line, "here:many")
    equal((len(members), len({one["member"] for one in members})), (many, many))
    equal({one["info"] for one in members}, {"i" * 32})
    crowd.close()
    await_(lambda: who(line, "here:many") == [], "all to be gone")
    line.close()
    empty(ng)


run(case, http=HTTP, workers=WORKERS, listen="reuseport")
