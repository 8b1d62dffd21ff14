-- Keeps whoever is connected, by descriptor; push(data) sends it to all of them.

local json = require "json"
local websocket = require "websocket"

local ws_peers = {}

assert(websocket.server("ws://0.0.0.0:8081", function(ws_peer)
    local id = ws_peer.peer:fd()
    ws_peers[id] = ws_peer

    while true do
        local message = ws_peer:read()
        if not message or message.opcode == nil then
            break
        end
    end

    ws_peers[id] = nil
end))

return {
    push = function(data)
        for _, ws_peer in pairs(ws_peers) do
            ws_peer:write(json.encode(data))
        end
    end,
}
