-- The mark that makes a request a raw stream for ngx_lua: ngx.say and its like refuse from then on,
-- keepalive is off and lingering close is on. Part of resty.websocket.server and resty.websocket.

local getmetatable = getmetatable
local type = type
local ngx = ngx


-- The socket object, whose calls all answer "closed"; nil and ngx_lua's error if it is refused.
local function take()
    local sock, err = ngx.req.socket(true)
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

    return sock
end


return { take = take }
