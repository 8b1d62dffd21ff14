-- A client of an echo server: says hello and expects to hear it again.

local websocket = require "websocket"

local ws, err = websocket.connect("wss://echo.websocket.org", nil, { timeout = 3 })
if not ws then
    ngx.log(ngx.NOTICE, err)
    return ngx.say(err)
end

ws:write("HELLO")
local response = ws:read()
ngx.log(ngx.NOTICE, response.data)
assert(response.data == "HELLO")
ngx.say(response.data)
ws:shutdown(1000)
ws:close()
