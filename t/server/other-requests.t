BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# A session used from elsewhere in its worker: timers and other requests push and read while the
# handler lives; once its request has ended every call answers "closed", and whoever waits is woken.
# Things are handed to timers by argument: a handler that is ended takes its local variables along.
import threading

from lib.live import Cases, await_, equal, run
from lib.peer import BINARY_FRAME, TEXT, Peer, frame

case = Cases()
MIB = 1 << 20
FIRST2 = "failed to receive the first 2 bytes"
NAMES = ("set_timeout", "recv_frame", "send_frame", "send_continue", "send_text", "send_binary",
         "send_close", "send_ping", "send_pong")

HTTP = """
    init_by_lua_block {
        -- A handler's object under the id of its peer, as a chat program would keep it.
        sessions = {}
    }
"""

# A handler that offers its session and waits for the word to end, in the way ?end= says.
case.handler("/offer", f"""
    local wb = live.open{{ max_payload_len = 16 * {MIB}, timeout = 60000 }}
    sessions[ngx.var.arg_id] = wb
    live.report("offered")
    live.take_signal()
    if ngx.var.arg_end == "444" then
        ngx.exit(444)
    elseif ngx.var.arg_end == "error" then
        error("on purpose")
    end
""")
PURPOSE = "lua entry thread aborted: runtime error: .*: on purpose"

case.handler("/push", """
    local wb = sessions[ngx.var.arg_to]
    ngx.print(tostring((wb:send_binary(("p"):rep(tonumber(ngx.var.arg_size))))))
""")


def offer(ng, how="return", **more):
    peer = Peer(ng, f"/offer?end={how}", **more)
    equal(peer.report(), "offered")
    return peer


@case("another request pushes, small and large")
def _(ng):
    peer = offer(ng)
    for size in 0, 5, 10000, 100000:
        head = 2 if size < 126 else 4 if size < 65536 else 10
        equal(ng.get(f"/push?to={peer.id}&size={size}"), str(size + head))
        equal(peer.frame(), (BINARY_FRAME, b"p" * size))
    peer.signal()
    equal(peer.rest(), b"")
    peer.close()


case.handler("/push-slowly", f"""
    local wb = sessions[ngx.var.arg_to]
    live.report("pushing")
    live.report((wb:send_binary(("s"):rep(8 * {MIB}))))
""")


@case("a push from another request waits for a slow reader")
def _(ng):

    peer = offer(ng, window=16384)
    pushing = threading.Thread(target=ng.get, args=(f"/push-slowly?id=p{peer.id}&to={peer.id}",))
    pushing.start()
    equal(ng.get(f"/live/take?wait=5&id=p{peer.id}"), "pushing")
    equal(peer.frame(), (BINARY_FRAME, b"s" * (8 * MIB)))
    equal(ng.get(f"/live/take?wait=5&id=p{peer.id}"), str(8 * MIB + 10))
    pushing.join()
    peer.signal()
    peer.rest()
    peer.close()


case.handler("/timer", """
    local wb = live.open()
    local id = ngx.var.arg_id
    ngx.timer.at(0.01, function(_, wb, live, id)
        wb:send_text("from a timer")
        live.report_as(id, "timer read", wb:recv_frame())
        wb:set_timeout(20)
        live.report_as(id, "timer read", wb:recv_frame())
        wb:set_timeout(nil)
        wb:send_text("timer done")
    end, wb, live, id)
    live.take_signal()
    live.report("handler read", wb:recv_frame())
""")


@case("a timer sends, reads, sets time-outs")
def _(ng):
    peer = Peer(ng, "/timer")
    equal(peer.frame(), (TEXT, b"from a timer"))
    peer.send(frame(TEXT, "to the timer"))
    equal(peer.report(), "timer read | to the timer | text | nil")
    equal(peer.report(), f"timer read | nil | nil | {FIRST2}: timeout")
    equal(peer.frame(), (TEXT, b"timer done"))
    peer.signal()
    peer.send(frame(TEXT, "to the handler"))
    equal(peer.report(), "handler read | to the handler | text | nil")
    equal(peer.rest(), b"")
    peer.close()


CALLS = "\n".join(f"""
    live.report_as(id, "{name}", wb.{name}(wb{", true, 1, 'x'" if name == "send_frame" else
                                             ", 1000, 'x'" if name == "send_close" else
                                             ", 50" if name == "set_timeout" else ", 'x'"}))
""" for name in NAMES)
case.handler("/use-dead", """
    local wb, id = sessions[ngx.var.arg_id], ngx.var.arg_id
""" + CALLS + """
    live.report("drop", wb.fatal)
    sessions[ngx.var.arg_id] = nil
    wb = nil
    collectgarbage()
    collectgarbage()
""")
case.handler("/use-dead-in-timer", """
    ngx.timer.at(0, function(_, wb, live, id)
""" + CALLS + """
    end, sessions[ngx.var.arg_id], live, ngx.var.arg_id)
""")


@case("an object whose request has ended answers closed to every call", logs=PURPOSE)
def _(ng):
    for how in "return", "444", "error":
        peer = offer(ng, how)
        peer.signal()
        equal(peer.rest(), b"")
        peer.close()
        await_(lambda: ng.connections() == 0, "the request ends")
        for path in "/use-dead-in-timer", "/use-dead":
            ng.get(f"{path}?id={peer.id}")
            for name in NAMES:
                values = {"recv_frame": " | nil | nil | closed", "set_timeout": ""}
                equal(peer.report(), name + values.get(name, " | nil | closed"), how)
        equal(peer.report(), "drop | nil")  # nothing of it made the object fatal


case.handler("/park", """
    live.report("parking")
    local wb = sessions[ngx.var.arg_to]
    live.report("woken", wb:recv_frame())
    live.report("send", wb:send_text("x"))
""")
case.handler("/park-in-timer", """
    ngx.timer.at(0, function(_, wb, live, id)
        live.report_as(id, "parking")
        live.report_as(id, "woken", wb:recv_frame())
        live.report_as(id, "send", wb:send_text("x"))
    end, sessions[ngx.var.arg_to], live, ngx.var.arg_id)
""")


def parked(ng, peer, path="/park"):
    """Another request that waits for a frame of the peer's session."""
    other = Peer(ng, request=b"")
    other.send(f"GET {path}?id={other.id}&to={peer.id} HTTP/1.0\r\n\r\n".encode())
    equal(other.report(), "parking")
    return other


@case("whoever reads elsewhere is woken when the session's request ends", logs=PURPOSE)
def _(ng):
    for path in "/park", "/park-in-timer":
        for how in "444", "error", "return":
            peer = offer(ng, how)
            other = parked(ng, peer, path)
            peer.signal()
            if how == "return":
                # nginx lingers on a connection whose handler returned until the peer ends it.
                peer.rest()
                peer.close()
            equal(other.report(), "woken | nil | nil | closed", f"{path}, {how}")
            equal(other.report(), "send | nil | closed")
            if how != "return":
                peer.rest()
                peer.close()
            other.close()


@case("a frame goes to the request that reads, a second reader is refused")
def _(ng):
    peer = offer(ng)
    other = parked(ng, peer)
    second = parked(ng, peer)
    equal(second.report(), f"woken | nil | nil | {FIRST2}: socket busy reading")
    peer.send(frame(TEXT, "for whoever reads"))
    equal(other.report(), "woken | for whoever reads | text | nil")
    equal(other.report(), "send | nil | fatal error already happened")
    second.report()
    peer.signal()
    peer.rest()
    for p in peer, other, second:
        p.close()


case.handler("/park-and-go", """
    local wb = sessions[ngx.var.arg_to]
    ngx.thread.spawn(function() wb:recv_frame() end)
    live.report("parking")
    live.take_signal()
    ngx.exit(444)
""")
case.handler("/offer-late", """
    local wb = live.open()
    sessions[ngx.var.arg_id] = wb
    live.report("offered")
    live.take_signal()
    live.report("read", wb:recv_frame())
""")


@case("a reader elsewhere whose own request is ended leaves the session readable")
def _(ng):
    for data in b"", frame(TEXT, "one")[:4]:
        peer = Peer(ng, "/offer-late")
        equal(peer.report(), "offered")
        other = parked(ng, peer, "/park-and-go")
        peer.send(data)
        other.signal()
        equal(other.rest(), b"")
        other.close()
        peer.send(frame(TEXT, "one")[len(data):])
        peer.signal()
        equal(peer.report(), "read | one | text | nil")
        peer.rest()
        peer.close()


case.handler("/broadcast", """
    local n = 0
    for _, wb in pairs(sessions) do
        if wb:send_text("to all") then
            n = n + 1
        end
    end
    ngx.print(n)
""")
case.handler("/forget", "sessions = {} collectgarbage() collectgarbage()")


@case("a push to a hundred sessions of which some are gone")
def _(ng):
    ng.get("/forget")
    peers = [offer(ng) for _ in range(100)]
    for peer in peers[::4]:
        peer.rst()  # nobody reads there, so nobody knows yet
    for peer in peers[1::4]:
        peer.signal()
        equal(peer.rest(), b"")
        peer.close()
    await_(lambda: ng.sessions() == 75, "a quarter has ended")
    equal(ng.get("/broadcast"), "75")
    for peer in peers[2::4] + peers[3::4]:
        equal(peer.frame(), (TEXT, b"to all"))
    for n in range(3):  # the reset ones fail now or with the next push
        ng.get("/broadcast")
    for peer in peers[2::4] + peers[3::4]:
        peer.signal()
        equal(peer.rest(), b"\x81\x06to all" * 3)
        peer.close()
    for peer in peers[::4]:
        peer.signal()
    ng.get("/forget")


run(case, http=HTTP)
