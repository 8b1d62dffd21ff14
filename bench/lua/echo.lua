-- Echo handlers, written as each API's documentation shows them.

local MAX = 16 * 1024 * 1024
local TIMEOUT = 600000

local _M = {}


-- lua-resty-websocket's API, whoever implements it.
function _M.frames(module)
    local wb, err = require(module):new({ max_payload_len = MAX, timeout = TIMEOUT })
    if not wb then
        ngx.log(ngx.ERR, "failed to accept: ", err)
        return ngx.exit(444)
    end

    while true do
        local data, typ, code = wb:recv_frame()
        if not data then
            return
        end
        if typ == "text" then
            wb:send_text(data)
        elseif typ == "binary" then
            wb:send_binary(data)
        elseif typ == "ping" then
            wb:send_pong(data)
        elseif typ == "close" then
            wb:send_close(code or 1000, "")
            return
        end
    end
end


-- The module's own.
function _M.messages(compression)
    local websocket = require "resty.websocket"
    local ws, err, status = websocket.accept({ max_message_size = MAX, timeout = TIMEOUT,
                                               compression = compression })
    if not ws then
        ngx.log(ngx.ERR, "failed to accept: ", err)
        return ngx.exit(status)
    end

    for data, typ in ws:messages() do
        ws:send(data, typ)
    end
end


local function echo(ws, data, typ)
    ws:send(data, typ)
end


-- The same without a handler that waits; `raw`: without a string of each message.
function _M.callbacks(raw)
    local ok, err, status = require("resty.websocket").serve({ max_message_size = MAX, on_message = echo, raw = raw })
    if not ok then
        ngx.log(ngx.ERR, "failed to serve: ", err)
        return ngx.exit(status)
    end
end


return _M
