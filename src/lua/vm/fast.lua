-- The calls of fast.rs, by LuaJIT's FFI. What they return is explained there. A session is a
-- userdata, whose memory the FFI passes; everything else would be refused by the FFI (with an
-- error) or by the call (with 0).

local natives = ...

local ffi = require "ffi"

ffi.cdef [[
    struct nlw_view { const char *data; unsigned int len; int code; };
]]

local recv_frame, send_frame, recv_message, send_message, LARGE = natives.addresses()

local string = ffi.string
local pace = natives.pace

local view = ffi.new("struct nlw_view")


-- What a call has left in `view`, as a string. For large ones see memory.rs.
local function copy()
    local data = string(view.data, view.len)
    if #data >= LARGE then
        pace()
    end
    return data
end


return {
    view = view,
    copy = copy,
    recv_frame = ffi.cast("int (*)(void *, double, struct nlw_view *)", recv_frame),
    send_frame = ffi.cast("int (*)(void *, int, const char *, size_t, double)", send_frame),
    recv_message = ffi.cast("int (*)(void *, struct nlw_view *)", recv_message),
    send_message = ffi.cast("int (*)(void *, bool, const char *, size_t)", send_message),
}
