BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# websockets contexts whose callbacks end without returning, or that are to wait where nothing can; and
# rx_buffer_size.
from lib.live import PORT, Cases, equal, run
from lib.lws import Ws
from lib.peer import TEXT, frame

case = Cases()
HELD, SIZED, DOOR = PORT + 2, PORT + 3, PORT + 4

PROGRAM = f"""
    local websockets = require "websockets"
    local live = require "live"

    -- Serviced by one light thread after the other, each of which ends in a callback.
    local context
    local protocols = {{}}
    function protocols.held(ws)
        ws:on_receive(function(ws, data)
            if data == "wait" then
                live.report_as("held", "waits")
                ngx.sleep(3600)
            elseif data == "exit" then
                ngx.exit(ngx.OK)
            end
            ws:write(data)
        end)
    end
    local function service()
        while context:service(50) >= 0 do
            collectgarbage()
        end
    end
    context = websockets.context {{ port = {HELD}, protocols = protocols }}
    ngx.timer.at(0, function()
        local thread = ngx.thread.spawn(service)
        while ngx.shared.live:get("kill") == nil do
            ngx.sleep(0.005)
        end
        ngx.thread.kill(thread)
        live.report_as("held", "killed")
        service()
    end)
    ngx.timer.at(0, function()
        while ngx.shared.live:get("again") == nil do
            ngx.sleep(0.005)
        end
        service()
    end)

    websockets.context {{
        port = {SIZED}, rx_buffer_size = 0,
        protocols = {{ sized = function(ws)
            ws:on_receive(function(ws, data) ws:write(data) end)
        end }},
    }}:fork_service_loop()
    for _, size in ipairs {{ 0.5, -1, 2.5, 0 / 0 }} do
        local _, err = pcall(websockets.context, {{ protocols = {{}}, rx_buffer_size = size }})
        live.report_as("sizes", (err:gsub("got .*", "")))
    end

    local fd
    local door = websockets.context {{
        port = {DOOR}, protocols = {{}}, on_add_fd = function(opened) fd = opened end,
    }}
    live.report_as("door", pcall(door.wait, door, fd, 60000))
    live.report_as("door", pcall(door.service_fd, door, fd, websockets.POLLIN))
"""

case.handler("/set", """
    ngx.shared.live:set(ngx.var.arg_name, true)
""")


def report(ng, name):
    return ng.get(f"/live/take?id={name}&wait=60")


@case("a callback that is killed, or leaves by ngx.exit, does not hold its connection")
def _(ng):
    ws = Ws(ng, "held", HELD)
    equal(ws.ask("one"), "one")
    ws.send(frame(TEXT, "wait"))
    equal(report(ng, "held"), "waits")
    ws.send(frame(TEXT, "two"))
    ng.get("/set?name=kill")
    equal(report(ng, "held"), "killed")
    equal(ws.text(), "two")
    ws.send(frame(TEXT, "exit") + frame(TEXT, "three"))
    ng.get("/set?name=again")
    equal(ws.text(), "three")
    ws.leave()


@case("rx_buffer_size: 0 is none, and it is a whole number")
def _(ng):
    ws = Ws(ng, "sized", SIZED)
    equal(ws.ask("whole"), "whole")
    ws.leave()
    for _ in range(4):
        equal(report(ng, "sizes"), "bad argument #1 to 'context' (rx_buffer_size: whole number expected, ")


@case("where nothing can wait, waiting for a descriptor is an error")
def _(ng):
    for _ in range(2):
        answer = report(ng, "door")
        assert answer.startswith("false | ") and "cannot wait here" in answer or "API disabled" in answer, answer


run(case, http=f"init_worker_by_lua_block {{ {PROGRAM} }}")
