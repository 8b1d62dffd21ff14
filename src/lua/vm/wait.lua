-- Waiting. A native that may park its light thread is called until it answers; what only Lua knows of
-- is waited for at a place that is made by the first who has to.

local natives = ...

local native_park = natives.park
local native_wake = natives.wake
local new_waiters = natives.waiters
local now = ngx.now


-- The longest that anything waits, in milliseconds.
local MAX_TIMEOUT = 0x7fffffff
-- What a call answers that would have to.
local _, CANNOT_WAIT = natives.texts()


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


-- Waits for a wake(owner, name), at most `seconds`: true if it came, which may be spurious | false | nil,
-- err where the caller cannot wait. That is no wait, however often it is asked for.
local function park(owner, name, seconds)
    local waiters = owner[name]
    if not waiters then
        waiters = new_waiters()
        owner[name] = waiters
    end
    -- On this stack they stay as long as somebody waits.
    local woken, err = native_park(waiters, seconds * 1000)
    return woken, err
end


-- Wakes all who are parked there.
local function wake(owner, name)
    local waiters = owner[name]
    if waiters then
        native_wake(waiters)
    end
end


return {
    call = call, call_again = call_again, can_wait = natives.can_wait, park = park, wake = wake,
    MAX_TIMEOUT = MAX_TIMEOUT, CANNOT_WAIT = CANNOT_WAIT,
}
