-- Walks through the cases of an Autobahn test server, as a client that echoes what it is sent.

local websocket = require "websocket"

local SERVER = "ws://127.0.0.1:9001"
local AGENT = "nginx"


local function connect(path)
    local ws, err = websocket.connect(SERVER .. path, nil, { timeout = 3 })
    if not ws then
        ngx.log(ngx.NOTICE, err)
        ngx.say(err)
        ngx.exit(ngx.OK)
    end
    return ws
end


local function echo(ws)
    while true do
        local message = ws:read()
        if not message or message.opcode == nil then
            break
        end
        ws:write(message)
    end
    ws:shutdown()
    ws:close()
end


local ws = connect("/getCaseCount")
local count = tonumber(ws:read().data)
ws:shutdown()
ws:close()

for case = 1, count do
    echo(connect("/runCase?case=" .. case .. "&agent=" .. AGENT))
    ngx.say("case ", case)
    ngx.flush()
end

echo(connect("/updateReports?agent=" .. AGENT))
ngx.say("done")
