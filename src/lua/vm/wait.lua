-- Calls a native that may park its light thread until it answers. Such natives are called as
-- native(handle, again, left, ...): `again` from the second time on, `left` is what is left of the
-- caller's own time in milliseconds, nil where others set it. A boolean as first result is a
-- wake-up, which may be spurious.

local ngx = ngx
local now = ngx.now


return function(native, handle, ms, a, b, c)
    local first, second, third = native(handle, false, ms, a, b, c)
    if first ~= true and first ~= false then
        return first, second, third
    end
    -- The clock stands still while Lua runs: this is when the call began.
    local deadline = ms and now() * 1000 + ms
    repeat
        first, second, third = native(handle, true, deadline and deadline - now() * 1000, a, b, c)
    until first ~= true and first ~= false
    return first, second, third
end
