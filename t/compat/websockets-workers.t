BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# websockets contexts and their workers: broadcasts from one worker to the other, reloads with clients
# connected, the end of a worker; contexts that are destroyed or forgotten, and ports opened again.
import os
import socket
import time

from lib.live import PORT, VALGRIND, Cases, Nginx, Tap, await_, equal
from lib.lws import Ws, is_open, seen
from lib.peer import CLOSE, PING, TEXT, frame

PUSH, LOOP = PORT + 2, PORT + 3
tap, case = Tap(), Cases()

PROGRAM = """
    websockets = require "websockets"
    live = require "live"

    local protocols = {}
    function protocols.room(ws)
        ws:on_receive(function(ws, data)
            if data == "who" then
                ws:write(ngx.worker.pid())
            elseif data == "end" then
                ws:on_closed(function() live.report_as("ends", ngx.worker.pid()) end)
                ws:write("noted")
            else
                ws:write("told " .. ws:broadcast(data))
            end
        end)
    end
    function protocols.other(ws)
        ws:on_broadcast(websockets.WRITE_BINARY)
        ws:on_receive(function(ws, data) ws:broadcast(data) end)
    end
    room = websockets.context { port = @PUSH@, protocols = protocols }

    -- A loop of the program's own.
    ngx.timer.at(0, function()
        while true do
            local result = room:service(60000)
            if result ~= 0 then
                live.report_as("service", result)
            end
        end
    end)
"""


def start(workers, http=""):
    program = PROGRAM.replace("@PUSH@", str(PUSH)).replace("@LOOP@", str(LOOP))
    ng = Nginx(workers=workers, http=http + "init_worker_by_lua_block {" + program + "}",
               server=case.server)
    seen.clear()
    ng.start()
    await_(lambda: is_open(PUSH), "the port opens")
    return ng


def in_every_worker(ng, protocol="room"):
    """Clients, some in each worker. The kernel deals connections out as it likes."""
    clients = {}
    for _ in range(200):
        ws = Ws(ng, protocol, PUSH)
        ws.send(frame(TEXT, "who"))
        clients.setdefault(ws.text(), []).append(ws)
        if len(clients) == len(ng.workers()):
            return list(clients.values())
    raise AssertionError("one worker gets everything")


def close_all(clients):
    for ws in clients:
        ws.leave()


case.handler("/publish", """
    local websocket = require "resty.websocket"
    ngx.print(websocket.publish("websockets:@PUSH@:room", "from a request"))
""".replace("@PUSH@", str(PUSH)))
case.handler("/flood", """
    local publish = require("resty.websocket").publish
    for n = 1, 5000 do assert(publish("websockets:@PUSH@:room", "flood")) end
""".replace("@PUSH@", str(PUSH)))
case.handler("/burst", """
    for n = 1, 3000 do assert(room:broadcast("room", n) == 0) end
""")
case.handler("/context", """
    local port = tonumber(ngx.var.arg_port)
    if ngx.var.arg_do == "open" then
        local context = websockets.context { port = port, protocols = { echo = function(ws)
            ws:on_receive(function(ws, data) ws:write(data) end)
            ws:on_closed(function() live.report_as("echo_closed", "yes") end)
        end }, on_del_fd = function() live.report_as("del", "fd") end }
        rawset(_G, "kept", context)
        kept:fork_service_loop()
    elseif ngx.var.arg_do == "forgotten" then
        do
            local context = websockets.context { port = port, protocols = { echo = print } }
        end
        for _ = 1, 5 do collectgarbage() end
    elseif ngx.var.arg_do == "fails" then
        -- Its callbacks know the context, as upvalues do.
        local context
        context = websockets.context { port = port, protocols = { echo = function() print(context) end },
                                       on_add_fd = function(fd) return context, fd end }
        print(context, " ", context:canonical_hostname())
        error("on purpose")
    elseif ngx.var.arg_do == "collect" then
        collectgarbage()
    elseif ngx.var.arg_do == "traces" then
        -- Functions of programs that compiled code holds: their constants.
        local util, n = require "jit.util", 0
        for tr = 1, 4000 do
            local info = util.traceinfo(tr)
            for k = 1, info and info.nk or 0 do
                local held = util.tracek(tr, -k)
                local from = type(held) == "function" and debug.getinfo(held, "S").source or ""
                n = n + (from:find("content_by_lua", 1, true) and 1 or 0)
            end
        end
        ngx.print(n)
    elseif ngx.var.arg_do == "fails_serving" then
        local function start()
            local own = {}
            own.context = websockets.context { port = port, protocols = { echo = function(ws)
                ws:on_closed(function() print(own.context) end)
                ws:on_receive(function(ws, data)
                    own.over = data == "fail"
                    ws:write(data)
                end)
            end }, on_add_fd = function(fd) return own.context, fd end }
            return own
        end
        ngx.timer.at(0, function()
            local own = start()
            repeat own.context:service(60000) until own.over
            error("on purpose")
        end)
    elseif ngx.var.arg_do == "destroy" then
        kept:destroy()
    else
        for _, name in ipairs { "destroy", "service", "canonical_hostname", "fork_service_loop" } do
            local ok, err = pcall(kept[name], kept)
            ngx.say(name, " ", ok, " ", err)
        end
        ngx.say(pcall(kept.broadcast, kept, "echo", "x"))
        ngx.say(pcall(kept.service_fd, kept, 1, 1))
        ngx.say(pcall(tostring, kept))
        rawset(_G, "kept", nil)
        for _ = 1, 5 do collectgarbage() end
    end
""")


def broadcast(ng):
    groups = in_every_worker(ng)
    clients = [ws for group in groups for ws in group]
    other = Ws(ng, "other", PUSH)
    for n, group in enumerate(groups):
        group[0].send(frame(TEXT, f"news {n}"))
        for ws in clients:
            equal(ws.text(), f"news {n}")
        equal(group[0].text(), "told 0")
    other.send(frame(TEXT, "b"))
    equal(other.frame(), (0x82, b"b"))
    close_all(clients + [other])


def publish(ng):
    groups = in_every_worker(ng)
    clients = [ws for group in groups for ws in group]
    ng.get("/publish")
    for ws in clients:
        equal(ws.text(), "from a request")
    close_all(clients)


def burst(ng):
    """In order, nothing twice, nothing lost."""
    groups = in_every_worker(ng)
    clients = [ws for group in groups for ws in group]
    ng.get("/burst")
    for ws in clients:
        equal([ws.text() for _ in range(3000)], [str(n) for n in range(1, 3001)])
    close_all(clients)


def gone(pid):
    return not os.path.exists(f"/proc/{pid}")


def reload(ng):
    old = ng.workers()
    ng.signal("HUP")
    await_(lambda: len(ng.workers()) == len(old) and not set(ng.workers()) & set(old),
           "new workers")
    return old


def reloaded(ng):
    """Clients are told, their ends are seen, the old worker goes; the port never refuses."""
    polite, rude = Ws(ng, "room", PUSH), Ws(ng, "room", PUSH)
    for ws in polite, rude:
        equal(ws.ask("end"), "noted")
    old, = reload(ng)
    for ws in polite, rude:
        equal(ws.frame(), (CLOSE, b"\x03\xe9server is shutting down"))
    polite.send(frame(CLOSE, b"\x03\xe9"))
    equal(polite.rest(), b"")
    equal(ng.get("/live/take?id=ends&wait=10"), str(old))
    # It waits for five seconds.
    assert VALGRIND or not gone(old), "the worker did not wait for its client's close frame"
    # A newcomer is the new worker's.
    newcomer = Ws(ng, "room", PUSH)
    equal(newcomer.ask("who"), str(ng.workers()[0]))
    rude.send(frame(PING, b"not a close frame"))
    equal(rude.rest(), b"")
    equal(ng.get("/live/take?id=ends&wait=10"), str(old))
    await_(lambda: gone(old), "the old worker exits")
    equal(ng.get("/live/take?id=service&wait=10"), "-1")
    for ws in polite, rude:
        ws.close()
    newcomer.leave()


def handed_over(ng):
    """Connections made all through three reloads."""
    refused = served = 0
    for _ in range(3):
        old = ng.workers()
        ng.signal("HUP")
        until = time.monotonic() + 10
        while not all(gone(pid) for pid in old) and time.monotonic() < until:
            try:
                ws = Ws(ng, "room", PUSH)
                served += 1
                ws.sock.close()
                time.sleep(0.002)
            except ConnectionRefusedError:
                refused += 1
            except (ConnectionError, AssertionError):
                pass  # a reset: it was in the backlog of a socket that closed
        await_(lambda: len(ng.workers()) == 1, "the new worker")
    # nginx gives new workers a tenth of a second, which is not enough under valgrind.
    if not VALGRIND:
        equal(refused, 0, f"refused beside {served} served")


def destroyed(ng):
    ng.get(f"/context?do=open&port={LOOP}")
    ws = Ws(ng, "echo", LOOP)
    equal(ws.ask("x"), "x")
    ng.get("/context?do=destroy")
    equal(ws.frame(), (CLOSE, b"\x03\xe9"))
    equal(ws.rest(), b"")
    ws.close()
    equal(ng.get("/live/take?id=echo_closed&wait=5"), "yes")
    # The connection's descriptor, and the port's.
    equal([ng.get("/live/take?id=del&wait=5") for _ in range(2)], ["fd", "fd"])
    with socket.socket() as s:
        assert s.connect_ex(("127.0.0.1", LOOP)), "the port is still open"
    lines = ng.get("/context?do=afterwards").split("\n")
    equal(len(lines), 8)
    for line in lines[:7]:
        assert "false" in line and line.endswith("websocket context destroyed"), line
    # The same port again.
    ng.get(f"/context?do=open&port={LOOP}")
    ws = Ws(ng, "echo", LOOP)
    equal(ws.ask("y"), "y")
    ws.leave()
    equal(ng.get("/live/take?id=echo_closed&wait=5"), "yes")
    ng.get("/context?do=destroy")


def failed(ng):
    """A program that opened a port and failed."""
    try:
        ng.get(f"/context?do=fails&port={LOOP}")
        raise AssertionError("the program did not fail")
    except AssertionError as error:
        assert " 500 " in str(error), error

    opens_again(ng)


def opens_again(ng):
    def free():
        try:
            ng.get(f"/context?do=open&port={LOOP}")
        except AssertionError:
            return False
        return True
    await_(free, "the port is closed")
    Ws(ng, "echo", LOOP).leave()
    equal(ng.get("/live/take?id=echo_closed&wait=5"), "yes")
    ng.get("/context?do=destroy")


def failed_with_clients(ng):
    """The same while clients are connected, whose callbacks know the context."""
    seen.discard(LOOP)
    ng.get(f"/context?do=fails_serving&port={LOOP}")
    clients = [Ws(ng, "echo", LOOP) for _ in range(3)]
    for ws in clients:
        # So many that the callback is compiled.
        ws.send(frame(TEXT, "x") * 1000)
        for _ in range(1000):
            equal(ws.text(), "x")
    equal(ng.get("/context?do=traces"), "0", "functions that traces hold")
    equal(clients[0].ask("fail"), "fail")

    def refused():
        ng.get("/context?do=collect")
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", LOOP))
    await_(refused, "the collector closes the port")
    for ws in clients:
        equal(ws.frame(), (CLOSE, b"\x03\xe9"))
        ws.close()
    opens_again(ng)


def overflown(ng):
    """A context that has missed some hears what comes after them, of a topic that remembers too."""
    client = Ws(ng, "room", PUSH)
    ng.get("/flood")
    await_(lambda: ng.loud(), "some are lost")
    ng.get("/publish")
    while (text := client.text()) != "from a request":
        equal(text, "flood")
    client.leave()


def forgotten(ng):
    ng.get(f"/context?do=forgotten&port={LOOP}")
    with socket.socket() as s:
        assert s.connect_ex(("127.0.0.1", LOOP)), "the collector has not closed the port"


LOST = r"websockets: \d+ broadcasts lost"
for count, bodies, http in ((2, (broadcast, publish, burst), ""),
                            (1, (reloaded, handed_over, destroyed, forgotten, failed, failed_with_clients), ""),
                            (1, (overflown,), "websocket_topic * history=10; websocket_send_buffer 4m;")):
    ng = start(count, http)
    try:
        for body in bodies:
            def attempt(body=body):
                body(ng)
                await_(lambda: ng.sessions() == 0, "all sessions end")
                loud = ng.loud("on purpose|could not create context" if "failed" in body.__name__
                               else LOST if body is overflown else None)
                assert not loud, "nginx logged:\n" + "\n".join(loud[:10])
            tap.attempt(f"{count} workers: {body.__name__.replace('_', ' ')}", attempt)

        def end():
            client = Ws(ng, "room", PUSH)
            ng.signal("QUIT")
            equal(client.frame()[0], CLOSE)
            client.close()
            ng.child.wait(10)
            equal(ng.child.returncode, 0, "exit code of nginx")
            assert not ng.loud(), "nginx logged something"
            found = ng.valgrind_findings()
            assert not found, "valgrind:\n" + "\n".join(found[:200])
        tap.attempt(f"{count} workers: nginx ends without a word", end)
    finally:
        ng.kill()
tap.done()
