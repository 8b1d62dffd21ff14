-- README's echo of lua-websockets, which its callback's third argument makes one for binary messages
-- too. open(port [, certificate, key]) opens a port and services it in the background.

local websockets = require "websockets"

local _M = {}


function _M.open(port, certificate, key)
    websockets.context {
        port = port,
        interf = "lo",
        ssl_cert_filepath = certificate,
        ssl_private_key_filepath = key,
        max_message_size = 64 * 1024 * 1024,
        protocols = {
            echo = function(ws)
                ws:on_receive(function(ws, data, typ)
                    ws:write(data, typ)
                end)
            end,
        },
    }:fork_service_loop()
end


return _M
