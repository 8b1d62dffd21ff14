# Time-outs of resty.websocket.client, at every point where it waits, and what becomes of the object
# and of the bytes that had come: a frame that a read time-out interrupted is whole when the rest
# of it arrives, wherever it was cut.

use Test::Nginx::Socket::Lua;
use t::Client;

add_block_preprocessor(sub { complete_block(@_) });
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: nothing comes; the object lives on
--- server
t.accept(sock)
t.wait("timed out")
sock:send("\x81\x05hello")
t.drain(sock)
--- client
local wb = client:new()
assert(wb:connect(url))
wb:set_timeout(30)
t.say(wb:recv_frame())
t.say(wb.fatal)
t.say(wb:recv_frame())
t.say(wb:send_text("still here"))
t.post("timed out")
wb:set_timeout(20000)
t.say(wb:recv_frame())
t.say(wb:close())
--- response_body
nil nil "failed to receive the first 2 bytes: timeout"
nil
nil nil "failed to receive the first 2 bytes: timeout"
16 nil
"hello" "text" nil
1



=== TEST 2: cut after each byte of a frame, in every form of header
--- server
t.accept(sock)
for _, frame in ipairs(t.frames) do
    for cut = 1, #frame - 1 do
        t.wait("first part")
        assert(sock:send(frame:sub(1, cut)))
        t.post("sent")
        t.wait("rest")
        assert(sock:send(frame:sub(cut + 1)))
    end
end
t.drain(sock)
--- client
t.frames = {
    "\x81\x03abc", "\x82\x83key!" .. t.mask("key!", "def"),
    "\x82\x7e\0\3ghi", "\x82\xfe\0\3key!" .. t.mask("key!", "jkl"),
    "\x81\x7f\0\0\0\0\0\0\0\3mno", "\x82\xff\0\0\0\0\0\0\0\3key!" .. t.mask("key!", "pqr"),
    "\x88\x05\x03\xe8bye", "\x89\x80key!",
}
local wb = client:new()
wb:connect(url)
for _, frame in ipairs(t.frames) do
    local texts, last = {}
    for cut = 1, #frame - 1 do
        wb:set_timeout(10)
        t.post("first part")
        t.wait("sent")
        local _, _, err = wb:recv_frame()
        texts[err] = (texts[err] or 0) + 1
        wb:set_timeout(20000)
        t.post("rest")
        local whole = t.line(wb:recv_frame())
        assert(last == nil or last == whole, whole)
        last = whole
    end
    ngx.say(last)
    for _, stage in ipairs{ "the first 2 bytes", "the 2 byte payload length", "the 8 byte payload length" } do
        local n = texts["failed to receive " .. stage .. ": timeout"]
        if n then
            ngx.say("  ", stage, ": ", n)
        end
    end
    ngx.say("  masking-len and payload: ", texts["failed to read masking-len and payload: timeout"] or 0)
end
t.say(wb.fatal)
t.say(wb:close())
--- response_body
"abc" "text" nil
  the first 2 bytes: 1
  masking-len and payload: 3
"def" "binary" nil
  the first 2 bytes: 1
  masking-len and payload: 7
"ghi" "binary" nil
  the first 2 bytes: 1
  the 2 byte payload length: 2
  masking-len and payload: 3
"jkl" "binary" nil
  the first 2 bytes: 1
  the 2 byte payload length: 2
  masking-len and payload: 7
"mno" "text" nil
  the first 2 bytes: 1
  the 8 byte payload length: 8
  masking-len and payload: 3
"pqr" "binary" nil
  the first 2 bytes: 1
  the 8 byte payload length: 8
  masking-len and payload: 7
"bye" "close" 1000
  the first 2 bytes: 1
  masking-len and payload: 5
"" "ping" nil
  the first 2 bytes: 1
  masking-len and payload: 4
nil
1



=== TEST 3: many time-outs within one large frame, byte sums and all
--- server
local payload = t.payload
local frame = "\x82\xff\0\0\0\0\0\4\0\0" .. "\0\0\0\0" .. payload
t.accept(sock)
local at = 1
for _, upto in ipairs{ 1, 5, 11, 12, 100, 70000, 70001, 200000, #frame } do
    t.wait("more")
    assert(sock:send(frame:sub(at, upto)))
    t.post("sent")
    at = upto + 1
end
t.drain(sock)
--- client
t.payload = ("0123456789\0\255abc"):rep(17477):sub(1, 262144)
local wb = client:new{ max_payload_len = 262144 }
assert(wb:connect(url))
wb:set_timeout(20)
local timeouts, data, typ, err = 0
repeat
    t.post("more")
    t.wait("sent")
    data, typ, err = wb:recv_frame()
    if not data then
        assert(err:find(": timeout", 1, true), err)
        timeouts = timeouts + 1
    end
until data
t.say(timeouts >= 8, #data, data == t.payload, typ, err)
t.say(wb:close())
--- response_body
true 262144 true "binary" nil
1



=== TEST 4: while half a frame has come, frames can be sent
--- server
t.accept(sock, "\x81\x05he")
local first, payload = t.receive(sock)
sock:send("llo\x81\x01" .. payload:sub(1, 1))
t.drain(sock)
--- client
local wb = client:new()
assert(wb:connect(url))
wb:set_timeout(30)
t.say(wb:recv_frame())
t.say(wb:send_text("!"))
wb:set_timeout(20000)
t.say(wb:recv_frame())
t.say(wb:recv_frame())
t.say(wb:close())
--- response_body
nil nil "failed to read masking-len and payload: timeout"
7 nil
"hello" "text" nil
"!" "text" nil
1



=== TEST 5: the peer ends it in the middle of the frame
--- server
t.accept(sock, "\x81\x05he")
t.wait("timed out")
sock:send("ll")
--- client
local wb = client:new()
assert(wb:connect(url))
wb:set_timeout(30)
t.say(wb:recv_frame())
wb:set_timeout(20000)
t.post("timed out")
t.say(wb:recv_frame())
t.say(wb.fatal)
--- response_body
nil nil "failed to read masking-len and payload: timeout"
nil nil "failed to read masking-len and payload: closed"
true



=== TEST 6: another connection of the same object begins with a frame of its own
--- server
t.accept(sock, t.bytes)
t.drain(sock)
--- client
local wb = client:new()
t.bytes = "\x81\x05he"
assert(wb:connect(url))
wb:set_timeout(30)
t.say(wb:recv_frame())
t.bytes = "\x82\x03new"
wb:set_timeout(20000)
t.say((wb:connect(url)))
t.say(wb:recv_frame())
t.say(rawget(wb.sock, "connect"), rawget(wb.sock, "setkeepalive"))
t.say(wb:close())
--- response_body
nil nil "failed to read masking-len and payload: timeout"
1
"new" "binary" nil
nil nil
1



=== TEST 7: set_timeout() of nil and 0 takes the directives
--- directives eval: "lua_socket_read_timeout " . 40 * $t::Blocks::SLOW . "ms;"
--- server
t.accept(sock)
t.drain(sock)
--- client
local wb = client:new()
assert(wb:connect(url))
wb:set_timeout(60000)
for _, value in ipairs{ "nil", 0 } do
    wb:set_timeout(60000)
    wb:set_timeout(tonumber(value))
    t.say(wb:recv_frame())
end
t.say(wb:close())
--- response_body
nil nil "failed to receive the first 2 bytes: timeout"
nil nil "failed to receive the first 2 bytes: timeout"
1



=== TEST 8: a peer that does not read: sending times out, and that is fatal
--- server
t.accept(sock)
t.wait("timed out")
t.drain(sock)
--- client
local wb = client:new{ max_payload_len = 16777216 }
assert(wb:connect(url))
wb:set_timeout(50)
local bytes, err
for _ = 1, 100 do
    bytes, err = wb:send_binary(("x"):rep(16777216))
    if not bytes then
        break
    end
end
t.say(bytes, err)
t.say(wb.fatal)
t.say(wb:recv_frame())
wb.sock:close()
t.post("timed out")
--- response_body
nil "failed to send frame: timeout"
true
nil nil "fatal error already happened"



=== TEST 9: connecting takes too long
--- client
-- A listening socket whose queue is full does not answer: made here with the help of LuaJIT's FFI.
local ffi = require "ffi"
pcall(ffi.cdef, [[
    int socket(int, int, int); int listen(int, int); int close(int);
    int bind(int, const void *, unsigned); int getsockname(int, void *, unsigned *);
]])
local C = ffi.C
local fd = C.socket(2, 1, 0)
local addr, len = ffi.new("unsigned char[16]", { 2, 0, 0, 0, 127, 0, 0, 1 }), ffi.new("unsigned[1]", 16)
assert(C.bind(fd, addr, 16) == 0 and C.getsockname(fd, addr, len) == 0 and C.listen(fd, 0) == 0)
local port = addr[2] * 256 + addr[3]
local fill = ngx.socket.tcp()
assert(fill:connect("127.0.0.1", port))
local more = ngx.socket.tcp()
more:settimeout(10)
more:connect("127.0.0.1", port)
t.say(client:new{ timeout = 30 }:connect("ws://127.0.0.1:" .. port .. "/"))
C.close(fd)
--- response_body
nil "failed to connect: timeout"



=== TEST 10: the log line of ngx_lua
--- directives
lua_socket_log_errors on;
--- server
t.accept(sock)
t.drain(sock)
--- client
local wb = client:new()
assert(wb:connect(url))
wb:set_timeout(20)
t.say(wb:recv_frame())
t.say(wb:close())
--- response_body
nil nil "failed to receive the first 2 bytes: timeout"
1
--- error_log
lua tcp socket read timed out
