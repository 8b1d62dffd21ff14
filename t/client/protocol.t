# resty.websocket.protocol: recv_frame, build_frame and send_frame on objects that are no sockets,
# where every call they make is seen, and on the cosockets of a request. Its keys are in options.t.

use Test::Nginx::Socket::Lua;
use t::Client;

add_block_preprocessor(sub { complete_block(@_) });
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: what recv_frame asks its object for
--- client
local function try(...)
    local mock = t.mock(...)
    t.say(protocol.recv_frame(mock, 70000))
    ngx.say("  ", table.concat(mock.asked, " "))
end
try("\x81\x00")
try("\x81\x02", "hi")
try("\x01\x82", "key!\3\12")
try("\x82\xfe", "\0\2", "key!\3\12")
try("\x82\x7f", "\0\0\0\0\0\0\0\1", "x")
try("\x88\x80", "key!")
try("\x8a\xff", "\0\0\0\0\0\0\0\3", "\0\0\0\0abc")
--- response_body
"" "text" nil
  2
"hi" "text" nil
  2 2
"hi" "text" "again"
  2 6
"hi" "binary" nil
  2 2 6
"x" "binary" nil
  2 8 1
"" "close" nil
  2 4
"abc" "pong" nil
  2 8 7



=== TEST 2: every error of recv_frame, in the order of its steps
--- client
local function try(force, ...)
    local mock = t.mock(...)
    t.say(protocol.recv_frame(mock, 200, force))
    assert(#mock.script == 0, "something was left unread")
end
try(false, { "closed" })
try(false, { "timeout" })
try(false, { "closed", "\x81" })
try(false, {})
try(true, "\xc3\x00")
try(true, "\xb3\x00")
try(true, "\x93\x00")
try(true, "\x83\x00")
try(true, "\x87\x00")
try(true, "\x8b\x00")
try(true, "\x8f\x00")
try(true, "\x0b\x7e")
try(true, "\x81\x00")
try(true, "\x09\x7e")
try(false, "\x89\x7e", { "closed" })
try(false, "\x81\x7e", {})
try(false, "\x89\x7f", { "connection reset by peer" })
try(false, "\x81\x7f", {})
try(false, "\x09\x7f", "\0\0\0\0\x80\0\0\0")
try(false, "\x81\x7f", "\0\0\0\1\0\0\0\0")
try(false, "\x81\x7f", "\1\0\0\0\0\0\0\0")
try(false, "\x09\x7e", "\0\x7e")
try(false, "\x89\x7e", "\xff\xff")
try(false, "\x09\x01")
try(false, "\x08\x7e", "\0\1")
try(false, "\x81\x7e", "\0\xc9")
try(false, "\x81\x7f", "\0\0\0\0\x7f\xff\xff\xff")
try(false, "\x81\x05", { "closed", "he" })
try(true, "\x81\x80", { "client aborted" })
try(false, "\x81\x01", {})
try(false, "\x88\x01", "x")
try(true, "\x88\x81", "key!x")
--- response_body
nil nil "failed to receive the first 2 bytes: closed"
nil nil "failed to receive the first 2 bytes: timeout"
nil nil "failed to receive the first 2 bytes: closed"
nil nil "failed to receive the first 2 bytes: unknown"
nil nil "bad RSV1, RSV2, or RSV3 bits"
nil nil "bad RSV1, RSV2, or RSV3 bits"
nil nil "bad RSV1, RSV2, or RSV3 bits"
nil nil "reserved non-control frames"
nil nil "reserved non-control frames"
nil nil "reserved control frames"
nil nil "reserved control frames"
nil nil "reserved control frames"
nil nil "frame unmasked"
nil nil "frame unmasked"
nil nil "failed to receive the 2 byte payload length: closed"
nil nil "failed to receive the 2 byte payload length: unknown"
nil nil "failed to receive the 8 byte payload length: connection reset by peer"
nil nil "failed to receive the 8 byte payload length: unknown"
nil nil "payload len too large"
nil nil "payload len too large"
nil nil "payload len too large"
nil nil "too long payload for control frame"
nil nil "too long payload for control frame"
nil nil "fragmented control frame"
nil nil "fragmented control frame"
nil nil "exceeding max payload len"
nil nil "exceeding max payload len"
nil nil "failed to read masking-len and payload: closed"
nil nil "failed to read masking-len and payload: client aborted"
nil nil "failed to read masking-len and payload: unknown"
nil nil "close frame with a body must carry a 2-byte status code"
nil nil "close frame with a body must carry a 2-byte status code"



=== TEST 3: the limit itself
--- client
local function try(max, ...)
    local data, typ, err = protocol.recv_frame(t.mock(...), max)
    t.say(data and #data, typ, err)
end
try(0, "\x81\x00")
try(0, "\x81\x01")
try(125, "\x81\x7d", ("x"):rep(125))
try(124, "\x81\x7d")
try(2147483647, "\x81\x7f", "\0\0\0\0\0\0\0\2", "xx")
try(math.huge, "\x81\x01", "x")
try(-1, "\x81\x01")
try(5.5, "\x81\x05", "xxxxx")
try(5.5, "\x81\x06")
--- response_body
0 "text" nil
nil nil "exceeding max payload len"
125 "text" nil
nil nil "exceeding max payload len"
2 "text" nil
1 "text" nil
nil nil "exceeding max payload len"
5 "text" nil
nil nil "exceeding max payload len"



=== TEST 4: a time-out keeps what came, in every field
--- client
local mock = t.mock({ "timeout", "\x82" }, { "timeout", "" }, "\xfe",
                    { "timeout" }, { "timeout", "\0" }, "\5",
                    { "timeout", "ke" }, { "timeout", "" }, { "timeout", "y!\0\0\0" }, "\0\0",
                    "\x81\x01", "y")
for _ = 1, 9 do
    t.say(protocol.recv_frame(mock, 100))
end
ngx.say(table.concat(mock.asked, " "))
t.say(protocol.recv_frame(mock, 100))
--- response_body
nil nil "failed to receive the first 2 bytes: timeout"
nil nil "failed to receive the first 2 bytes: timeout"
nil nil "failed to receive the 2 byte payload length: timeout"
nil nil "failed to receive the 2 byte payload length: timeout"
nil nil "failed to read masking-len and payload: timeout"
nil nil "failed to read masking-len and payload: timeout"
nil nil "failed to read masking-len and payload: timeout"
"key!k" "binary" nil
"y" "text" nil
2 1 1 2 2 1 9 7 7 2 2 1
nil nil "failed to receive the first 2 bytes: unknown"



=== TEST 5: any other error forgets it, and so does a new connection of the object
--- client
local mock = t.mock("\x81\x05", { "timeout", "he" }, { "closed", "l" }, "\x81\x01", "x")
for _ = 1, 3 do
    t.say(protocol.recv_frame(mock, 100))
end

local mock = t.mock("\x81\x05", { "timeout", "he" }, "\x81\x01", "x")
local function connect(self, ...)
    self.connected = t.line(...)
    return 1, "two", nil
end
mock.connect = connect
local keepalive = function () return 1 end
mock.setkeepalive = keepalive
t.say(protocol.recv_frame(mock, 100))
t.say(mock:setkeepalive())
t.say(mock:connect("host", nil))
t.say(mock.connected, mock.connect == connect, mock.setkeepalive == keepalive)
t.say(mock:setkeepalive())
t.say(protocol.recv_frame(mock, 100))
--- response_body
nil nil "failed to read masking-len and payload: timeout"
nil nil "failed to read masking-len and payload: closed"
"x" "text" nil
nil nil "failed to read masking-len and payload: timeout"
nil "unread data in buffer"
1 "two" nil
""host" nil" true true
1
"x" "text" nil



=== TEST 6: nothing is kept where nothing had come
--- client
local mock = t.mock({ "timeout" }, { "timeout", "" })
local before = {}
for key, value in pairs(mock) do
    before[key] = value
end
for _ = 1, 2 do
    t.say(protocol.recv_frame(mock, 100))
end
for key, value in pairs(mock) do
    assert(before[key] == value)
end
-- An object that cannot hold anything.
local proxy = newproxy(true)
local script = { "\x81\x05", nil }
getmetatable(proxy).__index = { receive = function () return table.remove(script, 1), "timeout", "he" end }
t.say(protocol.recv_frame(proxy, 100))
--- response_body
nil nil "failed to receive the first 2 bytes: timeout"
nil nil "failed to receive the first 2 bytes: timeout"
nil nil "failed to read masking-len and payload: timeout"



=== TEST 7: an object that breaks its word, and arguments that are missing
--- client
local function try(f, ...)
    t.say((t.raised(f, ...):gsub("^.-: ", "")))
end
local function giving(...)
    local script = { ... }
    return { receive = function () return table.remove(script, 1) end }
end
try(protocol.recv_frame, giving("\x81"), 100)
try(protocol.recv_frame, giving("\x81\x7e", "x"), 100)
try(protocol.recv_frame, giving("\x81\x81", "x"), 100)
try(protocol.recv_frame, giving("\x81\x01", "x"))
try(protocol.send_frame, t.mock(), true, 1, "x")
try(protocol.send_frame, t.mock(), true, nil, "x", 100)
try(protocol.build_frame, true, 1, nil, "x")
try(protocol.build_frame, true, 1, -1, "x")
try(protocol.build_frame, true, "one", 1, "x")
try(protocol.build_frame, true, 1, 5, "four", true)
try(protocol.build_frame, true, 1, 1, nil, true)
try(protocol.build_frame, true, 1, 1, {})
try(protocol.build_frame, true, 1, 1, true)
try(protocol.build_frame, true, 1, 1, print, true)
--- response_body
"the socket returned less than the 2 bytes asked for"
"the socket returned less than the 2 bytes asked for"
"the socket returned less than the 5 bytes asked for"
"bad "max_payload_len" argument (number expected)"
"bad "max_payload_len" argument (number expected)"
"bad "opcode" argument (number from 0 to 255 expected)"
"bad "payload_len" argument (number expected)"
"bad "payload_len" argument (number expected)"
"bad "opcode" argument (number from 0 to 255 expected)"
"bad "payload" argument (shorter than payload_len)"
"bad "payload" argument (shorter than payload_len)"
"bad "payload" argument (string expected)"
"bad "payload" argument (string expected)"
"bad "payload" argument (string expected)"



=== TEST 8: build_frame, unmasked: the length is the caller's word
--- client
local function try(...)
    t.say(protocol.build_frame(...))
end
try(true, 1, 2, "hi")
try(false, 2, 2, "hi")
try(nil, 0, 0, "")
try(true, 8, 0)
try(true, "1", 2, "hi")
try(true, 2, 2, 42)
try(true, 0x71, 1, "longer than it says")
try(true, 1, 125, "")
try(true, 1, 126, "")
try(true, 1, 65535, "")
try(true, 1, 65536, "")
try(true, 1, 2147483647, "")
try(true, 1, 2147483648, "")
try(true, 1, 1e15, "", true)
t.say(select("#", protocol.build_frame(true, 1, 2, "hi")))
--- response_body
"\x81\x02hi"
"\x02\x02hi"
"\x00\x00"
"\x88\x00"
"\x81\x02hi"
"\x82\x0242"
"\xf1\x01longer than it says"
"\x81}"
"\x81~\x00~"
"\x81~\xff\xff"
"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"
"\x81\x7f\x00\x00\x00\x00\x7f\xff\xff\xff"
nil "payload too big"
nil "payload too big"
1



=== TEST 9: build_frame, masked: other keys, and recv_frame reads it back
--- client
local keys = {}
local count = 0
for _, len in ipairs{ 0, 1, 2, 3, 4, 5, 8, 13, 125, 126, 65535, 65536, 1000001 } do
    local payload = ("0123456789\0\255abc"):rep(len / 15 + 1):sub(1, len)
    -- What is beyond the length is not sent.
    local frame = protocol.build_frame(true, 2, len, payload .. "beyond", true)
    local head = len < 126 and 2 or len < 65536 and 4 or 10
    local key = frame:sub(head + 1, head + 4)
    if not keys[key] then
        keys[key] = true
        count = count + 1
    end
    local parts = { frame:sub(1, 2) }
    if head > 2 then
        parts[2] = frame:sub(3, head)
    end
    parts[#parts + 1] = frame:sub(head + 1)
    local data, typ, err = protocol.recv_frame(t.mock(unpack(parts)), 1000001, true)
    t.say(#frame - len, data == payload, typ, err)
end
t.say(count)
--- response_body
6 true "binary" nil
6 true "binary" nil
6 true "binary" nil
6 true "binary" nil
6 true "binary" nil
6 true "binary" nil
6 true "binary" nil
6 true "binary" nil
6 true "binary" nil
8 true "binary" nil
8 true "binary" nil
14 true "binary" nil
14 true "binary" nil
13



=== TEST 10: send_frame: one string a frame, and every error
--- client
local mock = t.mock()
local function try(...)
    t.say(protocol.send_frame(mock, ...))
end
try(true, 1, "hi", 100)
try(true, 1, nil, 100)
try(false, 0, false, 100)
try(true, 1, true, 100)
try(true, 1, 0.5, 100)
try(true, 3, "x", 1)
try(true, 2, ("x"):rep(101), 100)
try(true, 9, ("x"):rep(126), 126)
try(true, 9, ("x"):rep(126), 125)
try(false, 9, ("x"):rep(126), 126)
try(false, 9, "", 126)
try(true, 1, "masked", 100, true)
ngx.say(t.line(mock.sent[#mock.sent]:sub(1, 2)), #mock.sent)
mock.sent[#mock.sent] = nil
mock.send_error = "broken pipe"
try(true, 1, "hi", 100)
mock.send = function () end
try(true, 1, "hi", 100)
ngx.say(t.line(unpack(mock.sent)))
t.say(select("#", protocol.send_frame(t.mock(), true, 1, "hi", 100)))
--- response_body
4
2
2
6
5
3
nil "payload too big"
nil "too much payload for control frame"
nil "payload too big"
nil "too much payload for control frame"
nil "fragmented control frame"
12
"\x81\x86"7
nil "failed to send frame: broken pipe"
nil "failed to send frame: unknown"
"\x81\x02hi" "\x81\x00" "\x00\x00" "\x81\x04true" "\x81\x030.5" "\x83\x01x" "\x81\x02hi"
1



=== TEST 11: new_tab
--- client
local a, b = protocol.new_tab(10, 0), protocol.new_tab(0, 2)
a[1], b.x = 1, 2
t.say(type(a), type(b), a ~= b, next(protocol.new_tab(3, 3)))
--- response_body
"table" "table" true nil



=== TEST 12: on a request's own cosockets, both ends
--- server
t.accept(sock)
assert(protocol == nil)
local protocol = require "resty.websocket.protocol"
sock:settimeout(20000)
for _ = 1, 4 do
    local data, typ, err = protocol.recv_frame(sock, 1048576, true)
    assert(data, err)
    assert(protocol.send_frame(sock, err ~= "again", typ == "text" and 1 or 2, data, 1048576))
end
t.last = t.line(protocol.recv_frame(sock, 10, true))
--- client
local sock = ngx.socket.tcp()
sock:settimeout(20000)
assert(sock:connect("127.0.0.1", HTTP_PORT))
sock:send("GET /s HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Key: " .. key.key .. "\r\n\r\n")
sock:receiveuntil("\r\n\r\n")()
for _, len in ipairs{ 0, 125, 65535, 1048576 } do
    local payload = ("0123456789\0\255abc"):rep(len / 15 + 1):sub(1, len)
    t.say(protocol.send_frame(sock, len ~= 125, 2, payload, 1048576, true))
    local data, typ, err = protocol.recv_frame(sock, 1048576)
    t.say(data == payload, typ, err)
end
t.say(protocol.send_frame(sock, true, 1, "bare", 10))
t.await_servers()
ngx.say(t.last)
--- response_body
6
true "binary" nil
131
true "binary" "again"
65543
true "binary" nil
1048590
true "binary" nil
6
nil nil "frame unmasked"



=== TEST 13: a number as payload is what tostring() makes of it
--- client
local numbers = { 0, -0, 1, -1, 0.1, 1 / 3, -1 / 3, 100, 1e14, 99999999999999, 1e15, -1e15, 123456789012345678,
                  1e-4, 1.5e-5, 9.9999999999999e13, 9.99999999999995e13, 2 ^ 53, 1e100, -1e-100, 5e-324, 1e308,
                  math.huge, -math.huge, 0 / 0, math.pi, 0.30000000000000004, 1e21 }
math.randomseed(13)
for _ = 1, 2000 do
    numbers[#numbers + 1] = (math.random() - 0.5) * 10 ^ math.random(-20, 20)
end
for _, n in ipairs(numbers) do
    local text = tostring(n)
    local frame = protocol.build_frame(true, 1, #text, n, false)
    if frame:sub(3) ~= text then
        ngx.say(text, " is not ", frame:sub(3))
    end
end
ngx.say(#numbers)
--- response_body
2028
