-- Sends back what every client says, until it leaves.

local websocket = require "websocket"

return assert(websocket.server("ws://0.0.0.0:8080", function(ws_peer)
    while true do
        local message = ws_peer:read()
        if not message or message.opcode == nil then
            break
        end
        ws_peer:write(message.data)
    end
end))
