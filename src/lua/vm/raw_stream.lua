-- What the two kinds of server objects do alike around the natives' 101: they ask ngx_lua first where
-- it has a say, and leave the mark that makes a request a raw stream for it, by which ngx.say and its
-- like refuse from then on, keepalive is off and lingering close is on. Part of
-- resty.websocket.server and resty.websocket.

local getmetatable = getmetatable
local type = type
local ngx = ngx
local req_socket = ngx.req.socket

-- Steps of the natives' `switch`.
local ASK_FIRST = 0
local WAITING = 2


-- After the 101: true; nil and an error.
local function take(step)
    if step == WAITING then
        local ok, err = ngx.flush(true)
        if not ok then
            return nil, "failed to flush response header: " .. (err or "unknown")
        end
    end

    local sock, err = req_socket(true)
    if not sock then
        return nil, err
    end

    -- The connection is the natives' from here on. ngx_lua's part of the socket would let go of it
    -- when it is collected as garbage, and take away the timers that nginx has set meanwhile: those of
    -- output that is pending after the handler's end and of the lingering close. A peer that
    -- never reads nor closes would stay for ever. So it lets go now.
    local upstream = sock[1]
    local meta = type(upstream) == "userdata" and getmetatable(upstream)
    if meta and meta.__gc then
        meta.__gc(upstream)
    end
    return true
end


return { take = take, ASK_FIRST = ASK_FIRST }
