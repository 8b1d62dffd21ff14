BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# A peer that sends without end and faster than it is read (t/lib/flood.c): in whatever loop that is,
# others have their turn in between.

from lib.live import Cases, Tap, await_, equal
from lib.peer import PING, Peer, frame
from lib.preload import Library, Preloaded

case = Cases()
case.handler("/flood-frames", """
    local wb = live.open()
    while true do
        local data, typ, err = wb:recv_frame()
        if not typ then return end
    end
""")
case.handler("/flood-messages", """
    local ws = require("resty.websocket").accept()
    for data in ws:messages() do end
""")
case.handler("/flood-sleeps", """
    local ws = require("resty.websocket").accept()
    ngx.sleep(3600)
""")
case.server += "location = /flood-feed { websocket_subscribe room; websocket_publish_from_client on; }"

tap = Tap()
flood = Library("flood")
try:
    for path in "/flood-frames", "/flood-messages", "/flood-sleeps", "/flood-feed":
        def others(path=path):
            ng = Preloaded(flood, server=case.server)
            try:
                ng.start()
                peer = Peer(ng, path)
                peer.send(frame(PING))  # nginx hears of a first byte, and of no end
                await_(lambda: ng.sessions() == 1, "another request is answered")
                for _ in range(5):
                    equal(ng.sessions(), 1)
                peer.rst()
                equal(ng.stop("TERM"), 0, "exit code of nginx")
                loud = ng.loud()
                assert not loud, "nginx logged:\n" + "\n".join(loud[:10])
            finally:
                ng.kill()
        tap.attempt(f"{path}: others are served", others)
finally:
    flood.remove()
tap.done()
