-- The calls of fast.rs, by LuaJIT's FFI. What they return is explained there. A session is a
-- userdata, whose memory the FFI passes; everything else would be refused by the FFI (with an
-- error) or by the call (with 0).

local natives = ...

local ffi = require "ffi"

ffi.cdef [[
    struct nlw_view { const unsigned char *data; unsigned int len; int code; unsigned int lent; };
]]

local recv_frame, send_frame, recv_message, send_message, send_lent, next_event, view, LARGE = natives.addresses()

local string = ffi.string
local pace = natives.pace

view = ffi.cast("struct nlw_view *", view)


-- For large strings, see memory.rs.
local function made(data)
    if #data >= LARGE then
        pace()
    end
    return data
end


-- What a call has left in `view`, as a string. Until then nothing else is put there, whatever
-- finalizers do: see lending.rs.
local function copy()
    local data = string(view.data, view.len)
    view.lent = 0
    return made(data)
end


-- The same, of what stays lent.
local function keep()
    return made(string(view.data, view.len))
end


return {
    view = view,
    copy = copy,
    keep = keep,
    recv_frame = ffi.cast("int (*)(void *, double)", recv_frame),
    send_frame = ffi.cast("int (*)(void *, int, const char *, size_t, double)", send_frame),
    recv_message = ffi.cast("int (*)(void *)", recv_message),
    send_message = ffi.cast("int (*)(void *, bool, const char *, size_t)", send_message),
    send_lent = ffi.cast("int (*)(void *, bool, unsigned int)", send_lent),
    next_event = ffi.cast("int (*)(void *)", next_event),
}
