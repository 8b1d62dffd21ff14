-- README's first example: what a client says comes back.
local port = ...

-- load module
local websockets = require "websockets"

-- you always need one context object
local context = websockets.context {
    port = port or 8080,
    -- the protocols field holds
    --   key: protocol name
    --   value: callback on new connection
    protocols = {
        -- ws is a new websocket instance
        echo = function(ws)
            ws:on_receive(function(ws, data)
                ws:write(data, websockets.WRITE_TEXT)
            end)
        end,
    },
}

-- use the service loop to dispatch events
while true do
    context:service(100000)
end
