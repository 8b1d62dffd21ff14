-- An echo over TLS, which tells in the log how each connection ended.

local json = require "json"
local ssl = require "websocket.ssl"
local websocket = require "websocket"

local ctx = ssl.ctx()
if not ssl.ctx_use_private_key_file(ctx, "./certificate.pem") then
    ngx.log(ngx.NOTICE, "Error private key")
    return false
end

if not ssl.ctx_use_certificate_file(ctx, "./certificate.pem") then
    ngx.log(ngx.NOTICE, "Error certificate")
    return false
end

return assert(websocket.server("wss://0.0.0.0:8443/", function(wspeer)
    while true do
        local message, err = wspeer:read()
        if not message then
            ngx.log(ngx.NOTICE, "Exception close ", tostring(err))
            if wspeer:error() then
                ngx.log(ngx.NOTICE, "Socket error ", wspeer:error())
            end
            break
        end
        if message.opcode == nil then
            ngx.log(ngx.NOTICE, "Normal close")
            break
        end
        ngx.log(ngx.NOTICE, "echo ", json.encode(message))
        wspeer:write(message)
    end
end, {
    ping_timeout = 120,
    ctx = ctx,
}))
