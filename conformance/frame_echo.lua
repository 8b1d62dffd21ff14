-- An echo as a careful user of the frame API writes it: resty.websocket.server and .client hand out
-- frames and leave messages, their order, pings, UTF-8 and the close handshake to their caller.
-- echo(wb) serves a connection of either side until it ends; it returns after the last frame that
-- is due has been sent and leaves the closing of the TCP connection to its caller.

local check_utf8 = require "utf8_check"

local concat = table.concat

local MESSAGE_LIMIT = 64 * 1024 * 1024

local _M = { MESSAGE_LIMIT = MESSAGE_LIMIT }


-- Codes that may stand in a close frame: RFC 6455 7.4, and 1012 to 1014 of IANA's registry.
local function may_be_sent(code)
    return code >= 3000 and code <= 4999
           or code >= 1000 and code <= 1003
           or code >= 1007 and code <= 1014
end


local function answer_close(wb, code, reason)
    if not code then
        return wb:send_close()
    end
    if not may_be_sent(code) then
        return wb:send_close(1002, "invalid close code")
    end
    if check_utf8(reason, 0) ~= 0 then
        return wb:send_close(1007, "close reason is not utf-8")
    end
    return wb:send_close(code)
end


function _M.echo(wb)
    local message, size = {}, 0   -- fragments of the message under way
    local kind                    -- its type; nil between messages
    local text_state

    while true do
        local data, typ, err = wb:recv_frame()
        if not data then
            return    -- the connection ended, or the frame itself was malformed
        end

        if typ == "ping" then
            if not wb:send_pong(data) then
                return
            end

        elseif typ == "close" then
            return answer_close(wb, err, data)

        elseif typ ~= "pong" then
            if typ == "continuation" then
                if not kind then
                    return wb:send_close(1002, "continuation without a message")
                end
            elseif kind then
                return wb:send_close(1002, "new message inside a fragmented one")
            else
                kind, text_state = typ, 0
            end

            size = size + #data
            if size > MESSAGE_LIMIT then
                return wb:send_close(1009, "message too big")
            end
            message[#message + 1] = data

            local last = err ~= "again"
            if kind == "text" then
                text_state = check_utf8(data, text_state)
                if not text_state or last and text_state ~= 0 then
                    return wb:send_close(1007, "text is not utf-8")
                end
            end

            if last then
                local send = kind == "text" and wb.send_text or wb.send_binary
                if not send(wb, concat(message)) then
                    return
                end
                message, size, kind = {}, 0, nil
            end
        end
    end
end


return _M
