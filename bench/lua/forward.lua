-- Proxies in a handler: the module's with a callback that returns what it is given, the library that
-- PROXY_REFERENCE names, and a plain one over lua-resty-websocket, frame by frame.

local MAX = 16 * 1024 * 1024
local TIMEOUT = 600000
local OPCODES = { continuation = 0x0, text = 0x1, binary = 0x2, ping = 0x9, pong = 0xa }

local _M = {}


function _M.messages(url)
    require("resty.websocket").proxy {
        url = url, max_message_size = MAX,
        on_message = function (_, data, typ)
            return data, typ
        end,
    }
end


local function carry(from, to)
    while true do
        local data, typ, err = from:recv_frame()
        if not data then
            return
        end
        if typ == "close" then
            to:send_close(err or 1000, data)
            return
        end
        if not to:send_frame(err ~= "again", OPCODES[typ], data) then
            return
        end
    end
end


-- The library's own modules, which Debian keeps under other names.
function _M.frames(url)
    local options = { max_payload_len = MAX, timeout = TIMEOUT }
    local client = assert(require("nginx.websocket.client"):new(options))
    assert(client:connect(url))
    local server = assert(require("nginx.websocket.server"):new(options))
    local threads = { ngx.thread.spawn(carry, server, client), ngx.thread.spawn(carry, client, server) }
    ngx.thread.wait(threads[1], threads[2])
    ngx.thread.kill(threads[1])
    ngx.thread.kill(threads[2])
end


function _M.reference(url)
    local proxy = assert(require("resty.websocket.proxy").new {
        on_frame = function (_, _, _, payload, _, code)
            return payload, code
        end,
    })
    assert(proxy:connect(url))
    proxy:execute()
end


return _M
