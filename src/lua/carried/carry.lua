-- Carries bytes between a connection's native part and the socket they come by: the one loop of all
-- who receive over a cosocket, or over a connection of a port opened from Lua. When something is due,
-- and for how long a peer is waited for, say the natives.

local natives, vm = ...

local native_beat = natives.beat
local native_feed = natives.feed
local native_lost = natives.lost
local find = string.find
local max = math.max
local min = math.min
local ngx = ngx
local now = ngx.now

-- What one read is to bring at most.
local READ_SIZE = 65536
-- The longest that a cosocket waits, in milliseconds.
local MAX_TIMEOUT = 0x7fffffff
local _, _, BUSY = vm.natives.vm.texts()


-- Until look(owner, due, deadline) returns something, which is returned: it takes what has come, and
-- sends what that has queued. `due` are the milliseconds until the connection wants to be asked again,
-- nil if never; `deadline` is on ngx.now()'s clock, in milliseconds, nil: as long as it takes.
-- read(owner, ms) brings bytes | nil, err; and the cosocket, if what it has not read yet may be read
-- past it. nil, "timeout" when the time is over, nil, BUSY where another light thread reads.
local function carry(owner, session, look, read, deadline)
    local has_read = false
    while true do
        local due = native_beat(session)
        local first, second, third, fourth = look(owner, due, deadline)
        if first ~= nil or second ~= nil then
            return first, second, third, fourth
        end

        local left = deadline and deadline - now() * 1000 or MAX_TIMEOUT
        if left <= 0 and has_read then
            return nil, "timeout"
        end
        has_read = true
        local bytes, err, sock = read(owner, max(1, min(left, due or left, MAX_TIMEOUT)))
        if bytes then
            native_feed(session, bytes, sock, READ_SIZE)
        elseif err == "timeout" then
            ngx.update_time()
        elseif find(err, "busy", 1, true) then
            return nil, BUSY
        else
            native_lost(session)
        end
    end
end


return { carry = carry, READ_SIZE = READ_SIZE, MAX_TIMEOUT = MAX_TIMEOUT, BUSY = BUSY }
