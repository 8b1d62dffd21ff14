# Frames of a connected resty.websocket.client: what its methods return, what goes over the wire,
# every limit and error text of sending and receiving, and the flags they leave behind. The peer is
# a raw socket; against our own server see server.t.

use Test::Nginx::Socket::Lua;
use t::Client;

add_block_preprocessor(sub { complete_block(@_) });
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: every kind of frame that is sent, masked, with another key each
--- server
t.accept(sock)
t.frames, t.keys = {}, {}
while true do
    local first, payload, mask = t.receive(sock)
    if not first then
        break
    end
    t.frames[#t.frames + 1] = ("%02x %s"):format(first, t.line(payload))
    t.keys[mask or "none"] = true
end
--- client
local wb = client:new()
wb:connect(url)
t.say(wb:send_text("text"))
t.say(wb:send_binary("\0\255"))
t.say(wb:send_ping())
t.say(wb:send_ping("p"))
t.say(wb:send_pong())
t.say(wb:send_pong("q"))
t.say(wb:send_text())
t.say(wb:send_text(nil))
t.say(wb:send_text(false))
t.say(wb:send_text(true))
t.say(wb:send_text(12.5))
t.say(wb:send_text(setmetatable({}, { __tostring = function () return "object" end })))
t.say(wb:send_frame(false, 1, "fragment"))
t.say(wb:send_frame(true, 0, "rest"))
t.say(wb:send_frame(nil, 2, "x"))
t.say(wb:send_frame(true, 3, "reserved"))
t.say(wb:send_frame(true, 0x11, "rsv"))
t.say(wb:send_frame(1, 1.5, ""))
t.say(wb:send_close(1000, "bye"))
wb.sock:close()
t.await_servers()
ngx.say(table.concat(t.frames, "\n"))
local keys = 0
for key in pairs(t.keys) do
    assert(#key == 4, key)
    keys = keys + 1
end
t.say(keys)
--- response_body
10 nil
8 nil
6 nil
7 nil
6 nil
7 nil
6 nil
6 nil
6 nil
10 nil
10 nil
12 nil
14 nil
10 nil
7 nil
14 nil
9 nil
6 nil
11 nil
81 "text"
82 "\x00\xff"
89 ""
89 "p"
8a ""
8a "q"
81 ""
81 ""
81 ""
81 "true"
81 "12.5"
81 "object"
01 "fragment"
80 "rest"
02 "x"
83 "reserved"
91 "rsv"
82 ""
88 "\x03\xe8bye"
19



=== TEST 2: every class of length, sent
--- server
t.accept(sock)
t.sums = {}
while true do
    local first, payload = t.receive(sock)
    if not first then
        break
    end
    t.sums[#t.sums + 1] = ngx.md5(payload)
end
--- client
local wb = client:new{ max_payload_len = 1048576 }
wb:connect(url)
local expected = {}
for _, len in ipairs{ 0, 1, 3, 125, 126, 127, 65535, 65536, 1048576 } do
    local payload = ("0123456789\0\255abc"):rep(len / 15 + 1):sub(1, len)
    expected[#expected + 1] = ngx.md5(payload)
    t.say(wb:send_binary(payload))
end
wb.sock:close()
t.await_servers()
t.say(table.concat(t.sums, " ") == table.concat(expected, " "))
--- response_body
6 nil
7 nil
9 nil
131 nil
134 nil
135 nil
65543 nil
65550 nil
1048590 nil
true



=== TEST 3: unmasked, if that is wanted
--- server
t.accept(sock)
t.frames = { t.line(t.receive(sock)), t.line(t.receive(sock)) }
t.drain(sock)
--- client
local wb = client:new{ send_unmasked = true }
wb:connect(url)
t.say(wb:send_text("bare"))
wb.send_unmasked = false
t.say(wb:send_text("masked"))
wb.sock:close()
t.await_servers()
ngx.say(t.frames[1])
ngx.say((t.frames[2]:gsub('" ".*', '" a key')))
--- response_body
6 nil
12 nil
129 "bare" nil
129 "masked" a key



=== TEST 4: send_close()
--- server
t.accept(sock)
t.payloads = t.payloads or {}
local first, payload = t.receive(sock)
t.payloads[#t.payloads + 1] = ("%s %s"):format(tostring(first), t.line(payload))
t.drain(sock)
--- client
t.payloads = {}
local function try(...)
    local wb = client:new()
    assert(wb:connect(url))
    local bytes, err = wb:send_close(...)
    t.say(bytes, err)
    if not wb.closed then
        t.say(wb.fatal)
        t.say(wb:send_text("usable"))
    end
    wb.sock:close()
    t.await_servers()
    ngx.say("  ", t.payloads[#t.payloads])
end
try()
try(nil, "ignored")
try(1000)
try(4999, "reason")
try(0x7fff)
try(0, 17)
try(-1)
try(1000.7)
try(0x8000)
try("1000")
try({})
try(true)
try(1000, ("r"):rep(123))
try(1000, ("r"):rep(124))
--- response_body eval
my $long = 'r' x 123;
qq{6 nil
  136 ""
6 nil
  136 ""
8 nil
  136 "\\x03\\xe8"
14 nil
  136 "\\x13\\x87reason"
8 nil
  136 "\\x7f\\xff"
10 nil
  136 "\\x00\\x0017"
8 nil
  136 "\\xff\\xff"
8 nil
  136 "\\x03\\xe9"
} . qq{nil "bad status code"
nil
12 nil
  129 "usable"
} x 4 . qq{131 nil
  136 "\\x03\\xe8$long"
nil "too much payload for control frame"
  nil "closed"
}



=== TEST 5: after send_close() the peer is still heard, but nothing more is sent
--- server
t.accept(sock)
t.receive(sock)
sock:send("\x81\x05later\x88\x05\x03\xe8bye")
t.drain(sock)
--- client
local wb = client:new()
wb:connect(url)
t.say(wb:send_close(1000, "enough"))
t.say(wb.closed, wb.fatal)
t.say(wb:send_text("x"))
t.say(wb:send_ping())
t.say(wb.closed, wb.fatal)
t.say(wb:recv_frame())
t.say(wb:recv_frame())
t.say(wb:close())
t.say(wb:close())
--- response_body
14 nil
true nil
nil "already closed"
nil "already closed"
true nil
"later" "text" nil
"bye" "close" 1000
1
nil "closed"



=== TEST 6: send_close() a second time is an error that ends the object
--- server
t.accept(sock)
t.drain(sock)
--- client
local wb = client:new()
wb:connect(url)
t.say(wb:send_close())
t.say(wb:send_close())
t.say(wb.closed, wb.fatal)
t.say(wb:close())
wb.sock:close()
--- response_body
6 nil
nil "already closed"
true true
nil "fatal error already happened"



=== TEST 7: close() sends a close frame and closes
--- server
t.accept(sock)
t.got = t.line(t.receive(sock)):gsub('" ".*', '" a key')
t.after = t.line(t.receive(sock))
--- client
local wb = client:new()
wb:connect(url)
t.say(wb:close(1000, "arguments are not looked at"))
t.say(wb.closed, wb.fatal)
t.await_servers()
ngx.say(t.got)
ngx.say(t.after)
--- response_body
1
true nil
136 "" a key
nil "closed"



=== TEST 8: what a debug build logs
--- server
t.accept(sock, "\x81\x01x\x81\x81kkkky")
t.drain(sock)
--- client
if not ngx.config.debug then
    ngx.log(ngx.DEBUG, "recv_frame: mask bit: 0")
    ngx.log(ngx.DEBUG, "recv_frame: mask bit: 1")
    ngx.log(ngx.DEBUG, "sending the close frame")
end
local wb = client:new()
wb:connect(url)
wb:recv_frame()
wb:recv_frame()
wb:close()
--- grep_error_log eval: qr/recv_frame: mask bit: \d|sending the close frame/
--- grep_error_log_out eval
[("recv_frame: mask bit: 0\nrecv_frame: mask bit: 1\nsending the close frame\n") x 2]
--- no_error_log
[error]
--- response_body



=== TEST 9: what may not be sent
--- server
t.accept(sock)
t.first = t.receive(sock)
t.drain(sock)
--- client
local function try(opts, name, ...)
    local wb = client:new(opts)
    assert(wb:connect(url))
    t.say(wb[name](wb, ...))
    t.say(wb.fatal)
    if wb.fatal then
        t.say(wb:send_text("x"))
        t.say(wb:recv_frame())
        t.say(wb:close())
    end
    wb.sock:close()
    t.await_servers()
    assert((t.first == nil) == (wb.fatal == true), "something was sent")
end
try({ max_send_len = 200 }, "send_text", ("x"):rep(200))
try({ max_send_len = 200 }, "send_text", ("x"):rep(201))
try({ max_payload_len = 5 }, "send_binary", "123456")
try({ max_payload_len = 5, max_send_len = 6 }, "send_binary", "123456")
try({ max_send_len = 0 }, "send_text", "")
try({}, "send_text", ("x"):rep(65536))
try({}, "send_ping", ("x"):rep(125))
try({}, "send_ping", ("x"):rep(126))
try({}, "send_pong", ("x"):rep(126))
try({ max_send_len = 100 }, "send_pong", ("x"):rep(126))
try({}, "send_frame", false, 8, "")
try({}, "send_frame", false, 9, ("x"):rep(126))
try({}, "send_frame", false, 0xf, "x")
--- response_body eval
my $after = qq{true
nil "fatal error already happened"
nil nil "fatal error already happened"
nil "fatal error already happened"
};
qq{208 nil
nil
nil "payload too big"
${after}nil "payload too big"
${after}12 nil
nil
6 nil
nil
nil "payload too big"
${after}131 nil
nil
nil "too much payload for control frame"
${after}nil "too much payload for control frame"
${after}nil "payload too big"
${after}nil "fragmented control frame"
${after}nil "too much payload for control frame"
${after}nil "fragmented control frame"
$after}



=== TEST 10: what is raised
--- server
t.accept(sock)
t.drain(sock)
--- client
local wb = client:new()
wb:connect(url)
for _, opcode in ipairs{ "x", -1, 256, 1e300, 0 / 0, {} } do
    t.say((t.raised(wb.send_frame, wb, true, opcode, ""):gsub("^.-: ", "")))
end
t.say(wb.fatal)
t.say((t.raised(wb.set_timeout, wb, -1):gsub("^.-: ", "")))
t.say(select("#", wb:set_timeout(1)), select("#", wb:set_timeout(nil)), select("#", wb:set_timeout(0)))
wb:close()
--- response_body
"bad "opcode" argument (number from 0 to 255 expected)"
"bad "opcode" argument (number from 0 to 255 expected)"
"bad "opcode" argument (number from 0 to 255 expected)"
"bad "opcode" argument (number from 0 to 255 expected)"
"bad "opcode" argument (number from 0 to 255 expected)"
"bad "opcode" argument (number from 0 to 255 expected)"
nil
"bad timeout value"
0 0 0



=== TEST 11: every kind of frame that is received, masked or not
--- server
local m = "\x80\x01\xff\x7f"
local function masked(first, payload)
    return string.char(first, 128 + #payload) .. m .. t.mask(m, payload)
end
t.accept(sock, "\x81\x04text\x82\x02\0\255\x01\x03one\x00\x03two\x80\x05three\x02\x00\x80\x00"
    .. "\x89\x00\x8a\x00\x89\x04ping\x8a\x04pong"
    .. masked(0x81, "text") .. masked(0x82, "\0\255") .. masked(0x01, "a") .. masked(0x80, "")
    .. masked(0x89, "ping") .. masked(0x8a, "") .. masked(0x88, "\3\233why")
    .. "\x88\x00\x88\x02\x03\xed\x88\x06\x00\x00\xff\xfe\xfd\xfc" .. masked(0x88, "") .. masked(0x88, "\255\255"))
t.drain(sock)
--- client
local wb = client:new()
wb:connect(url)
for _ = 1, 23 do
    t.say(wb:recv_frame())
end
t.say(wb.fatal, wb.closed)
t.say(wb:close())
--- response_body
"text" "text" nil
"\x00\xff" "binary" nil
"one" "text" "again"
"two" "continuation" "again"
"three" "continuation" nil
"" "binary" "again"
"" "continuation" nil
"" "ping" nil
"" "pong" nil
"ping" "ping" nil
"pong" "pong" nil
"text" "text" nil
"\x00\xff" "binary" nil
"a" "text" "again"
"" "continuation" nil
"ping" "ping" nil
"" "pong" nil
"why" "close" 1001
"" "close" nil
"" "close" 1005
"\xff\xfe\xfd\xfc" "close" 0
"" "close" nil
"" "close" 65535
nil nil
1



=== TEST 12: every class of length, received, masked and not
--- server
local function head(first, mask, len)
    if len < 126 then
        return string.char(first, mask + len)
    elseif len < 65536 then
        return string.char(first, mask + 126, math.floor(len / 256), len % 256)
    end
    return string.char(first, mask + 127, 0, 0, 0, 0, 0, math.floor(len / 65536), math.floor(len / 256) % 256, len % 256)
end
t.accept(sock)
for _, len in ipairs{ 0, 1, 2, 3, 5, 125, 126, 127, 1023, 65535, 65536, 1048576 } do
    local payload = ("0123456789\0\255abc"):rep(len / 15 + 1):sub(1, len)
    sock:send(head(0x81, 0, len) .. payload .. head(0x82, 128, len) .. "k\0\255\1" .. t.mask("k\0\255\1", payload))
end
t.drain(sock)
--- client
local wb = client:new{ max_payload_len = 1048576 }
wb:connect(url)
for _, len in ipairs{ 0, 1, 2, 3, 5, 125, 126, 127, 1023, 65535, 65536, 1048576 } do
    local payload = ("0123456789\0\255abc"):rep(len / 15 + 1):sub(1, len)
    local data, typ = wb:recv_frame()
    local data2, typ2 = wb:recv_frame()
    t.say(#data, data == payload, typ, #data2, data2 == payload, typ2)
end
t.say(wb:close())
--- response_body
0 true "text" 0 true "binary"
1 true "text" 1 true "binary"
2 true "text" 2 true "binary"
3 true "text" 3 true "binary"
5 true "text" 5 true "binary"
125 true "text" 125 true "binary"
126 true "text" 126 true "binary"
127 true "text" 127 true "binary"
1023 true "text" 1023 true "binary"
65535 true "text" 65535 true "binary"
65536 true "text" 65536 true "binary"
1048576 true "text" 1048576 true "binary"
1



=== TEST 13: what may not be received, and what happens to the object
--- server
local bytes = {
    "\xc1\x00", "\xa1\x00", "\x91\x00", "\xf3\x00",
    "\x83\x00", "\x87\x00", "\x8b\x00", "\x8f\x00",
    "\x82\x7f\0\0\0\0\x80\0\0\0", "\x82\x7f\0\0\0\1\0\0\0\0", "\x82\x7f\x80\0\0\0\0\0\0\0",
    "\x89\x7e\x00\x7e", "\x88\x7f\0\0\0\0\0\1\0\0", "\x09\x00", "\x08\x7e\x01\x00",
    "\x82\x7e\x01\x01", "\x82\x7f\0\0\0\0\x7f\xff\xff\xff", "\x88\x01x", "\x88\x81kkkkx",
}
t.accept(sock, bytes[tonumber(ngx.var.arg_n)])
t.drain(sock)
--- client
for n = 1, 19 do
    local wb = client:new{ max_recv_len = 256 }
    wb:connect(url .. "?n=" .. n)
    t.say(wb:recv_frame())
    assert(wb.fatal)
    assert(select(3, wb:recv_frame()) == "fatal error already happened")
    assert(select(2, wb:send_text("x")) == "fatal error already happened")
    wb.sock:close()
end
--- response_body
nil nil "bad RSV1, RSV2, or RSV3 bits"
nil nil "bad RSV1, RSV2, or RSV3 bits"
nil nil "bad RSV1, RSV2, or RSV3 bits"
nil nil "bad RSV1, RSV2, or RSV3 bits"
nil nil "reserved non-control frames"
nil nil "reserved non-control frames"
nil nil "reserved control frames"
nil nil "reserved control frames"
nil nil "payload len too large"
nil nil "payload len too large"
nil nil "payload len too large"
nil nil "too long payload for control frame"
nil nil "too long payload for control frame"
nil nil "fragmented control frame"
nil nil "too long payload for control frame"
nil nil "exceeding max payload len"
nil nil "exceeding max payload len"
nil nil "close frame with a body must carry a 2-byte status code"
nil nil "close frame with a body must carry a 2-byte status code"



=== TEST 14: the limit is met exactly, for each frame by itself, and lengths may be written long
--- server
t.accept(sock, "\x01\x04four\x80\x04more\x82\x7e\x00\x02ab\x82\x7f\0\0\0\0\0\0\0\1c\x89\x04ping\x89\x05pings")
t.drain(sock)
--- client
local wb = client:new{ max_payload_len = 9, max_recv_len = 4 }
wb:connect(url)
for _ = 1, 6 do
    t.say(wb:recv_frame())
end
wb.sock:close()
--- response_body
"four" "text" "again"
"more" "continuation" nil
"ab" "binary" nil
"c" "binary" nil
"ping" "ping" nil
nil nil "exceeding max payload len"



=== TEST 15: no order among frames is demanded
--- server
t.accept(sock, "\x80\x01a\x01\x01b\x81\x01c\x02\x01d\x88\x00\x81\x01e")
t.drain(sock)
--- client
local wb = client:new()
wb:connect(url)
for _ = 1, 6 do
    t.say(wb:recv_frame())
end
wb:close()
--- response_body
"a" "continuation" nil
"b" "text" "again"
"c" "text" nil
"d" "binary" "again"
"" "close" nil
"e" "text" nil



=== TEST 16: the peer ends the connection, anywhere in a frame
--- server
local frame = "\x82\xff\0\0\0\0\0\0\0\3key!abc"
if ngx.var.arg_short then
    frame = "\x82\xfe\0\3key!abc"
end
t.accept(sock, frame:sub(1, tonumber(ngx.var.arg_n)))
--- client
for n = 0, 17 do
    local wb = client:new()
    wb:connect(url .. "?n=" .. n)
    t.say(n, wb:recv_frame())
    assert(wb.fatal == (n < 17 or nil))
end
for n = 2, 10 do
    local wb = client:new()
    wb:connect(url .. "?short=1&n=" .. n)
    t.say(n, wb:recv_frame())
end
--- response_body eval
my $text = '';
$text .= "$_ nil nil \"failed to receive the first 2 bytes: closed\"\n" for 0, 1;
$text .= "$_ nil nil \"failed to receive the 8 byte payload length: closed\"\n" for 2 .. 9;
$text .= "$_ nil nil \"failed to read masking-len and payload: closed\"\n" for 10 .. 16;
$text .= "17 \"\\x0a\\x07\\x1a\" \"binary\" nil\n";
$text .= "$_ nil nil \"failed to receive the 2 byte payload length: closed\"\n" for 2, 3;
$text .= "$_ nil nil \"failed to read masking-len and payload: closed\"\n" for 4 .. 10;
$text



=== TEST 17: two light threads, one reading and one writing; a second reader is refused
--- server
t.accept(sock)
for i = 1, 50 do
    local _, payload = t.receive(sock)
    assert(sock:send("\x82" .. string.char(#payload) .. payload))
end
t.drain(sock)
--- client
local wb = client:new()
wb:connect(url)
local reader = ngx.thread.spawn(function ()
    local sum = 0
    for i = 1, 50 do
        sum = sum + #assert(wb:recv_frame())
    end
    return sum
end)
for i = 1, 50 do
    assert(wb:send_binary(("x"):rep(i)))
end
t.say(ngx.thread.wait(reader))
reader = ngx.thread.spawn(function () return wb:recv_frame() end)
t.say(wb:recv_frame())
t.say(wb.fatal)
ngx.thread.kill(reader)
wb.sock:close()
--- response_body
true 1275
nil nil "failed to receive the first 2 bytes: socket busy reading"
true
