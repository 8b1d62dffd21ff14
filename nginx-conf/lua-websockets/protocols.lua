-- The two protocols of libwebsockets' test server: each connection's own number, raised by every
-- broadcast, and a mirror, where what one client says all of them hear.
local websockets = require "websockets"

return {
    ["dumb-increment-protocol"] = function(ws)
        local number = 0
        ws:on_receive(function(ws, data)
            if data:sub(1, 5) == "reset" then
                number = 0
            end
        end)
        ws:on_broadcast(function(ws)
            ws:write(number, websockets.WRITE_TEXT)
            number = number + 1
        end)
    end,

    ["lws-mirror-protocol"] = function(ws)
        ws:on_broadcast(websockets.WRITE_TEXT)
        ws:on_receive(function(ws, data)
            ws:broadcast(data)
        end)
    end,
}
