-- Waiting. A native that may park its light thread is called until it answers; what only Lua knows of
-- is waited for on a semaphore of ngx_lua's, made by the first who has to.

local ngx = ngx
local now = ngx.now


-- Such natives are called as native(handle, again, left, ...): `again` from the second time on, `left`
-- is what is left of the caller's own time in milliseconds, nil where others set it. A boolean as first
-- result is a wake-up, which may be spurious: then look(owner, a), if it is given, is asked first. It
-- may have the answer, by a way that costs less than the native; nil otherwise. `deadline` is on
-- ngx.now's clock, in milliseconds.
--
-- Who receives every message makes the first call itself, and this one after a wake-up. LuaJIT
-- compiles a handler from its own loop on, if that is hot before what it calls: hence no loop here.
local function call_again(native, handle, deadline, a, b, c, look, owner)
    local first, second, third, fourth
    if look then
        first, second, third, fourth = look(owner, a)
        if first ~= nil then
            return first, second, third, fourth
        end
    end
    first, second, third, fourth = native(handle, true, deadline and deadline - now() * 1000, a, b, c)
    if first ~= true and first ~= false then
        return first, second, third, fourth
    end
    return call_again(native, handle, deadline, a, b, c, look, owner)
end


local function call(native, handle, ms, a, b, c)
    local first, second, third, fourth = native(handle, false, ms, a, b, c)
    if first ~= true and first ~= false then
        return first, second, third, fourth
    end
    -- The clock stands still while Lua runs: this is when the call began.
    return call_again(native, handle, ms and now() * 1000 + ms, a, b, c)
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


return { call = call, call_again = call_again, park = park, wake = wake }
