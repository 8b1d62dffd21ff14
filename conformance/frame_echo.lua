-- An echo as a careful user of the frame API writes it: resty.websocket.server and .client hand out
-- frames and leave messages, their order, pings, UTF-8 and the close handshake to their caller.
-- echo(wb) serves a connection of either side until it ends; it returns after the last frame that
-- is due has been sent and leaves the closing of the TCP connection to its caller.

local frame_checker = require("resty.websocket").frame_checker

local concat = table.concat

local MESSAGE_LIMIT = 64 * 1024 * 1024

local _M = { MESSAGE_LIMIT = MESSAGE_LIMIT }


function _M.echo(wb)
    local check = frame_checker(MESSAGE_LIMIT)
    local message, kind = {}, nil    -- fragments of the message under way, and its type

    while true do
        local data, typ, err = wb:recv_frame()
        if not data then
            return    -- the connection ended, or the frame itself was malformed
        end

        local good, fault, code = check(data, typ, err)
        if not good then
            return wb:send_close(code, fault)
        end

        if typ == "ping" then
            if not wb:send_pong(data) then
                return
            end

        elseif typ == "close" then
            return wb:send_close(err)

        elseif typ ~= "pong" then
            kind = kind or typ
            message[#message + 1] = data
            if err ~= "again" then
                local send = kind == "text" and wb.send_text or wb.send_binary
                if not send(wb, concat(message)) then
                    return
                end
                message, kind = {}, nil
            end
        end
    end
end


return _M
