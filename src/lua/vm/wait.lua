-- Waiting. A native that may park its light thread is called until it answers; what only Lua knows of
-- is waited for on a semaphore of ngx_lua's, made by the first who has to.

local ngx = ngx
local now = ngx.now


-- Such natives are called as native(handle, again, left, ...): `again` from the second time on, `left`
-- is what is left of the caller's own time in milliseconds, nil where others set it. A boolean as first
-- result is a wake-up, which may be spurious: then look(owner, a), if it is given, is asked first. It
-- may have the answer, by a way that costs less than the native; nil otherwise.
local function call(native, handle, ms, a, b, c, look, owner)
    local first, second, third, fourth = native(handle, false, ms, a, b, c)
    if first ~= true and first ~= false then
        return first, second, third, fourth
    end
    -- The clock stands still while Lua runs: this is when the call began.
    local deadline = ms and now() * 1000 + ms
    repeat
        if look then
            first, second, third, fourth = look(owner, a)
            if first ~= nil then
                return first, second, third, fourth
            end
        end
        first, second, third, fourth = native(handle, true, deadline and deadline - now() * 1000,
                                              a, b, c)
    until first ~= true and first ~= false
    return first, second, third, fourth
end


-- Waits for a wake(owner, name), at most `seconds`. True if it came.
local function park(owner, name, seconds)
    local semaphore = owner[name]
    if not semaphore then
        semaphore = require("ngx.semaphore").new()
        owner[name] = semaphore
    end
    -- Less than a millisecond would not wait at all, and the clock stands still meanwhile.
    return semaphore:wait(seconds > 0.001 and seconds or 0.001)
end


-- Wakes all who are parked there.
local function wake(owner, name)
    local semaphore = owner[name]
    if semaphore and semaphore:count() < 0 then
        semaphore:post(-semaphore:count())
    end
end


return { call = call, park = park, wake = wake }
