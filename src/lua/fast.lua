-- The calls of fast.rs, by LuaJIT's FFI. What they return is explained there. A session is a
-- userdata, whose memory the FFI passes; everything else would be refused by the FFI (with an
-- error) or by the call (with 0).

local natives = ...

local ffi = require "ffi"

ffi.cdef [[
    struct nlw_view { const char *data; size_t len; int code; };
]]

local recv_frame, send_frame, recv_message, send_message = natives.addresses()

return {
    view = ffi.new("struct nlw_view"),
    string = ffi.string,
    recv_frame = ffi.cast("int (*)(void *, double, struct nlw_view *)", recv_frame),
    send_frame = ffi.cast("double (*)(void *, int, const char *, size_t, double)", send_frame),
    recv_message = ffi.cast("int (*)(void *, struct nlw_view *)", recv_message),
    send_message = ffi.cast("double (*)(void *, bool, const char *, size_t)", send_message),
}
