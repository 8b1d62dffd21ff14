# Frames a handler sends: the bytes on the wire and the value returned, for every function, every
# class of length, masked frames and payloads that are no strings.

use Test::Nginx::Socket::Lua;
use t::Wire;

add_block_preprocessor(sub { complete_block(@_) });
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: every function
--- handler
    report(wb:send_text("t"))
    report(wb:send_binary("b"))
    report(wb:send_continue("c"))
    report(wb:send_ping("pi"))
    report(wb:send_pong("po"))
    report(wb:send_close(1000, "bye"))
    report(wb:send_frame(true, 0x1, "f"))
--- response_body eval
"\x81\x01t\x82\x01b\x80\x01c\x89\x02pi\x8a\x02po\x88\x05\x03\xe8bye\x81\x01f"
--- results
3 nil
3 nil
3 nil
4 nil
4 nil
7 nil
3 nil



=== TEST 2: empty payloads
--- handler
    report(wb:send_text(""))
    report(wb:send_binary(""))
    report(wb:send_continue(""))
    report(wb:send_ping(""))
    report(wb:send_pong(""))
    report(wb:send_close())
    report(wb:send_frame(true, 0x2, ""))
--- response_body eval
"\x81\0\x82\0\x80\0\x89\0\x8a\0\x88\0\x82\0"
--- results eval
"2 nil\n" x 7



=== TEST 3: lengths in 7 and 16 bits
--- handler
    for _, len in ipairs({ 1, 125, 126, 127, 128, 65534, 65535 }) do
        report((wb:send_binary(("x"):rep(len))))
    end
--- response_body eval
CORE::join "", map { ::plain(0x82, "x" x $_) } 1, 125, 126, 127, 128, 65534, 65535
--- results
3
127
130
131
132
65538
65539



=== TEST 4: lengths in 64 bits
--- options: { max_send_len = 1048576 }
--- handler
    for _, len in ipairs({ 65536, 65537, 1048576 }) do
        report((wb:send_text(("x"):rep(len))))
    end
--- response_body_filters
md5_hex
--- response_body eval
Digest::MD5::md5_hex(CORE::join "", map { ::plain(0x81, "x" x $_) } 65536, 65537, 1048576)
--- results
65546
65547
1048586



=== TEST 5: 16 MiB, with small frames around it
--- options: { max_payload_len = 16 * 1024 * 1024 }
--- handler
    report((wb:send_text("before")))
    report((wb:send_binary(("0123456789abcdef"):rep(1024 * 1024))))
    report((wb:send_text("after")))
--- response_body_filters
md5_hex
--- response_body eval
Digest::MD5::md5_hex(::plain(0x81, "before") . ::plain(0x82, "0123456789abcdef" x 1048576) . ::plain(0x81, "after"))
--- results
8
16777226
7
--- timeout: 20



=== TEST 6: many frames at once keep their order
--- handler
    local sum = 0
    for i = 1, 5000 do
        sum = sum + wb:send_text("frame " .. i)
    end
    report(sum)
--- response_body_filters
md5_hex
--- response_body eval
Digest::MD5::md5_hex(CORE::join "", map { ::plain(0x81, "frame $_") } 1 .. 5000)
--- results
58893



=== TEST 7: small and large frames by turns keep their order
--- options: { max_payload_len = 200000 }
--- handler
    for i = 1, 50 do
        wb:send_text("small " .. i)
        wb:send_binary((string.char(65 + i % 26)):rep(i * 3000))
    end
    report("sent")
--- response_body_filters
md5_hex
--- response_body eval
Digest::MD5::md5_hex(CORE::join "",
    map { ::plain(0x81, "small $_") . ::plain(0x82, chr(65 + $_ % 26) x ($_ * 3000)) } 1 .. 50)
--- results
"sent"



=== TEST 8: FIN not set, continued by send_frame and by send_continue
--- handler
    report(wb:send_frame(false, 0x1, "a"))
    report(wb:send_frame(false, 0x0, "b"))
    report(wb:send_ping("now"))
    report(wb:send_continue("c"))
--- response_body eval
"\x01\x01a\0\x01b\x89\x03now\x80\x01c"
--- results
3 nil
3 nil
5 nil
3 nil



=== TEST 9: what counts as FIN is Lua's notion of true
--- handler
    wb:send_frame(nil, 0x1, "a")
    wb:send_frame(0, 0x1, "b")
    wb:send_frame("", 0x1, "c")
--- response_body eval
"\x01\x01a\x81\x01b\x81\x01c"



=== TEST 10: the opcode is not looked at
--- handler
    report(wb:send_frame(true, 0x3, "x"))
    report(wb:send_frame(true, 0x7, "x"))
    report(wb:send_frame(true, 0xb, "x"))
    report(wb:send_frame(true, 0xf, "x"))
    report(wb:send_frame(true, 0x11, "x"))
    report(wb:send_frame(false, 0x41, "x"))
    report(wb:send_frame(true, "1", "x"))
    report(wb:send_frame(true, "0x2", "x"))
    wb.send_masked = false
    report(wb:send_frame(true, 1.6, "x"))
--- response_body eval
"\x83\x01x\x87\x01x\x8b\x01x\x8f\x01x\x91\x01x\x41\x01x\x81\x01x\x82\x01x\x82\x01x"
--- results eval
"3 nil\n" x 9



=== TEST 11: payloads that are no strings
--- handler
    report(wb:send_text(nil))
    report(wb:send_text())
    report(wb:send_text(false))
    report(wb:send_text(true))
    report(wb:send_binary(42))
    report(wb:send_ping(1.5))
    report(wb:send_pong(-0.25))
    report(wb:send_continue(nil))
    report(wb:send_frame(true, 0x1))
    report(wb:send_text(setmetatable({}, { __tostring = function () return "object" end })))
    report(wb:send_text(ngx.null))
--- response_body eval
"\x81\0\x81\0\x81\0\x81\x04true\x82\x0242\x89\x031.5\x8a\x05-0.25\x80\0\x81\0\x81\x06object"
. ::plain(0x81, "userdata: NULL")
--- results
2 nil
2 nil
2 nil
6 nil
4 nil
5 nil
7 nil
2 nil
2 nil
8 nil
16 nil



=== TEST 12: bytes of every value
--- handler
    local all = {}
    for i = 0, 255 do
        all[#all + 1] = string.char(i)
    end
    wb:send_text(table.concat(all))
--- response_body eval
::plain(0x81, CORE::join "", map { chr } 0 .. 255)



=== TEST 13: masked, a length in 7 bits
--- options: { send_masked = true }
--- handler
    report((wb:send_text("hello")))
    report((wb:send_ping("")))
--- client
    local bytes = peer.connect():rest()
    peer.say(peer.unmask(bytes:sub(1, 11), "\x81\x05"))
    peer.say((peer.unmask(bytes:sub(12), "\x89\0")))
--- response_body_like
^"hello" .*
""$
--- results
11
6



=== TEST 14: masked, the other lengths
--- options: { send_masked = true, max_payload_len = 70000 }
--- handler
    for _, len in ipairs({ 126, 200, 65535, 65536, 70000 }) do
        report((wb:send_binary(("0123456789"):rep(len / 10 + 1):sub(1, len))))
    end
--- client
    local bytes = peer.connect():rest()
    local from = 1
    for _, len in ipairs({ 126, 200, 65535, 65536, 70000 }) do
        local head = peer.frame(0x82, ("x"):rep(len)):sub(1, len > 65535 and 10 or 4)
        head = head:sub(1, 1) .. string.char(head:byte(2) - 128) .. head:sub(3)
        local frame = bytes:sub(from, from + #head + 4 + len - 1)
        local payload = peer.unmask(frame, head)
        peer.say(#payload, payload == ("0123456789"):rep(len / 10 + 1):sub(1, len))
        from = from + #frame
    end
    peer.say(#bytes - from + 1)
--- response_body
126 true
200 true
65535 true
65536 true
70000 true
0
--- results
134
208
65543
65550
70014



=== TEST 15: masking keys are not repeated
--- options: { send_masked = true }
--- handler
    math.randomseed(0)
    for _ = 1, 600 do
        wb:send_text("same")
    end
--- client
    local seen, keys, ones = {}, 0, 0
    for _ = 1, 2 do
        math.randomseed(0)
        local bytes = peer.connect():rest()
        assert(#bytes == 600 * 10)
        for i = 1, #bytes, 10 do
            local data, key = peer.unmask(bytes:sub(i, i + 9), "\x81\x04")
            assert(data == "same")
            if not seen[key] then
                seen[key] = true
                keys = keys + 1
            end
            if key:byte(1) >= 128 then
                ones = ones + 1
            end
        end
    end
    -- 1200 draws of 2^32 values: a second repetition has a chance below one in a million. The top
    -- bit is set in half of them; 400 and 800 are eleven standard deviations away.
    peer.say(keys >= 1199, ones > 400 and ones < 800)
--- response_body
true true



=== TEST 16: the program's string is not changed by masking
--- options: { send_masked = true }
--- handler
    local data = ("keep"):rep(5000)
    wb:send_text(data)
    report(data == ("keep"):rep(5000))
--- ignore_response
--- results
true



=== TEST 17: masked frames do not come from math.random
--- options: { send_masked = true }
--- handler
    math.randomseed(7)
    local expected = math.random()
    math.randomseed(7)
    wb:send_text("x")
    report(math.random() == expected)
--- ignore_response
--- results
true



=== TEST 18: max_send_len, reached
--- options: { max_send_len = 200, max_recv_len = 1 }
--- handler
    report(wb:send_text(("x"):rep(200)))
--- response_body eval: ::plain(0x81, "x" x 200)
--- results
204 nil



=== TEST 19: control frames of 125 bytes
--- handler
    report(wb:send_ping(("i"):rep(125)))
    report(wb:send_pong(("o"):rep(125)))
    report(wb:send_close(1000, ("c"):rep(123)))
--- response_body eval
::plain(0x89, "i" x 125) . ::plain(0x8a, "o" x 125) . ::plain(0x88, "\x03\xe8" . "c" x 123)
--- results
127 nil
127 nil
127 nil



=== TEST 20: a frame is on its way before the handler waits for something else
--- handler
    wb:send_text("question")
    report(wb:recv_frame())
    wb:send_text("pause")
    ngx.sleep(0.001)
    wb:send_text("end")
    report(wb:recv_frame())
--- client
    local p = peer.connect()
    peer.say(p:receive())
    p:send(peer.frame(0x81, "answer"))
    peer.say(p:receive())
    peer.say(p:receive())
    p:send(peer.frame(0x81, "bye"))
    peer.say(p:rest())
--- response_body
129 "question"
129 "pause"
129 "end"
"" "closed"
--- results
"answer" "text" nil
"bye" "text" nil
