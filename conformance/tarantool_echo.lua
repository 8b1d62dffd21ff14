-- An echo of `websocket` (tarantool's): every frame goes back as it came, fragments as fragments.
-- open(url [, certificate, key]) opens a port.

local ssl = require "websocket.ssl"
local websocket = require "websocket"

local _M = {}


local function echo(ws)
    while true do
        local message = ws:read()
        if not message or message.opcode == nil then
            return
        end
        if not ws:write(message) then
            return
        end
    end
end


function _M.open(url, certificate, key)
    local ctx
    if certificate then
        ctx = ssl.ctx()
        assert(ssl.ctx_use_certificate_file(ctx, certificate))
        assert(ssl.ctx_use_private_key_file(ctx, key))
    end
    assert(websocket.server(url, echo, { ctx = ctx, max_receive_payload = 64 * 1024 * 1024 }))
end


return _M
