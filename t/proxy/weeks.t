BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# websocket.proxy whose handler waits for longer than nginx's timers go, which is 24 days: it waits on, and
# is not taken for one that was killed. The days are those of a clock (t/lib/late.c).
import threading

from lib.live import Tap, await_, equal
from lib.peer import CLOSE, TEXT, Peer, frame
from lib.preload import Library, Preloaded
from lib.upstream import Upstream

SERVER = """
    location = /waits { content_by_lua_block {
        ngx.shared.live:set("waits", true)
        ngx.sleep(2147483)
        ngx.say("woken")
    } }
    location = /do-they { content_by_lua_block { ngx.say(ngx.shared.live:get("waits")) } }
    location = /proxy { content_by_lua_block {
        require("resty.websocket").proxy {
            url = "ws://127.0.0.1:PORT/x", on_message = function (from, data) return from .. " " .. data end,
        }
    } }
"""

tap = Tap()
late = Library("late", 1)
upstream = Upstream()
ng = Preloaded(late, server=SERVER.replace("PORT", str(upstream.port)))


def weeks():
    waits = []
    thread = threading.Thread(target=lambda: waits.append(ng.get("/waits")))
    thread.start()
    await_(lambda: ng.get("/do-they") == "true\n", "a request that waits as long")
    peer = []
    opening = threading.Thread(target=lambda: peer.append(Peer(ng, "/proxy")))
    opening.start()
    up = upstream.accept().upgrade()
    opening.join()
    peer, = peer
    peer.send(frame(TEXT, "before"))
    equal(up.frame(), (TEXT, b"client before"))
    for days in 25, 50:
        late[0] = days
        # Whatever was due in that time has been done when a request is answered.
        ng.sessions()
        thread.join()
        equal(waits, ["woken\n"])
        peer.send(frame(TEXT, "after"))
        equal(up.frame(), (TEXT, b"client after"))
        up.send(TEXT, b"after")
        equal(peer.frame(), (TEXT, b"upstream after"))
    peer.send(frame(CLOSE, b"\x03\xe8"))
    equal(up.frame(), (CLOSE, b"\x03\xe8"))
    up.send(CLOSE, b"\x03\xe8")
    equal(peer.frame(), (CLOSE, b"\x03\xe8"))
    peer.close()
    up.close()
    await_(lambda: ng.sessions() == 0, "the end")
    loud = ng.loud()
    assert not loud, "nginx logged:\n" + "\n".join(loud[:10])


with ng.running(tap):
    tap.attempt("a handler that waits for weeks", weeks)
