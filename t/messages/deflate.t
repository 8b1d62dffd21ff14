# permessage-deflate on a connection: RFC 7692 7.2.3's own messages, context takeover both ways, what
# is compressed and what is not, the reserved bit, bad data, and a bomb. zlib on the other side.

use Test::Nginx::Socket::Lua;
use t::Message;

add_block_preprocessor(sub {
    my $block = shift;
    my $offer = $block->offer // 'permessage-deflate; client_max_window_bits';
    $block->set_value(head    => "Sec-WebSocket-Extensions: $offer");
    $block->set_value(options => '{ compression = { threshold = 0 } }') if !defined $block->options;
    if (!defined $block->handler && !defined $block->config) {
        $block->set_value(handler => "    for data, typ in ws:messages() do report(data, typ) end\n"
              . "    report(ws:close_info())\n");
        my $send = $block->send // '';
        $block->set_value(send => [ref $send ? @$send : $send, masked(0x88, "\x03\xe8")]);
    }
    complete_message_block($block);
});
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: RFC 7692 7.2.3.1: one compressed block
--- send eval: ::masked(0xc1, "\xf2\x48\xcd\xc9\xc9\x07\x00")
--- results
"Hello" "text"
1000 "" true



=== TEST 2: 7.2.3.1: in two fragments
--- send eval: ::masked(0x41, "\xf2\x48\xcd") . ::masked(0x80, "\xc9\xc9\x07\x00")
--- results
"Hello" "text"
1000 "" true



=== TEST 3: 7.2.3.2: the window goes over to the next message
--- send eval
::masked(0xc1, "\xf2\x48\xcd\xc9\xc9\x07\x00") . ::masked(0xc1, "\xf2\x00\x11\x00\x00")
--- results
"Hello" "text"
"Hello" "text"
1000 "" true



=== TEST 4: 7.2.3.3: a block without compression
--- send eval: ::masked(0xc1, "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00")
--- results
"Hello" "text"
1000 "" true



=== TEST 5: 7.2.3.4: a block with BFINAL
--- send eval
::masked(0xc1, "\xf3\x48\xcd\xc9\xc9\x07\x00\x00") . ::masked(0xc1, "\xf2\x48\xcd\xc9\xc9\x07\x00")
--- results
"Hello" "text"
"Hello" "text"
1000 "" true



=== TEST 6: 7.2.3.5: two blocks
--- send eval: ::masked(0xc1, "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00")
--- results
"Hello" "text"
1000 "" true



=== TEST 7: 7.2.3.6: an empty message
--- send eval: ::masked(0xc1, "\x00") . ::masked(0xc2, "\x02\x00")
--- results
"" "text"
"" "binary"
1000 "" true



=== TEST 8: uncompressed messages between compressed ones
--- send eval
::masked(0x81, "plain") . ::masked(0xc1, "\xf2\x48\xcd\xc9\xc9\x07\x00") . ::masked(0x81, "plain") . ::masked(0xc1, "\xf2\x00\x11\x00\x00")
--- results
"plain" "text"
"Hello" "text"
"plain" "text"
"Hello" "text"
1000 "" true



=== TEST 9: pings between the fragments of a compressed message
--- send eval
::masked(0x41, "\xf2\x48\xcd") . ::masked(0x89, "p") . ::masked(0x00, "") . ::masked(0x8a, "") . ::masked(0x80, "\xc9\xc9\x07\x00")
--- frames
pong "p"
close 1000 ""
--- results
"Hello" "text"
1000 "" true



=== TEST 10: large messages of every level's kind, by zlib
--- options: { compression = true, max_message_size = "2m" }
--- send eval
CORE::join '', map { ::masked(0xc2, ::deflated($_)) } ::pattern(1 << 20), "\0" x (1 << 20), "abc" x 100000
--- results eval
(CORE::join '', map { ::brief($_) . qq{ "binary"\n} } ::pattern(1 << 20), "\0" x (1 << 20), "abc" x 100000) . qq{1000 "" true\n}



=== TEST 11: byte by byte
--- send eval: ::bytewise(::masked(0xc1, ::deflated("byte by byte, by byte")))
--- results
"byte by byte, by byte" "text"
1000 "" true



=== TEST 12: our messages: compressed, and by the window of the ones before
--- handler
    report(ws:send("Hello"))
    report(ws:send("Hello") < 9)
    report(ws:send(("compressible "):rep(1000)) < 200)
    report(ws:send(("\0\255"):rep(10), "binary") < 15)
--- frames eval
qq{text deflated "Hello"\ntext deflated "Hello"\ntext deflated } . ::brief("compressible " x 1000)
. "\nbinary deflated " . ::brief("\0\xff" x 10) . qq{\nclose 1000 ""\n}
--- results
9
true
true
true



=== TEST 13: server_no_context_takeover: every message by itself
--- offer: permessage-deflate; server_no_context_takeover
--- handler
    local first = ws:send(("Hello "):rep(10))
    report(ws:send(("Hello "):rep(10)) == first)
--- frames eval
('text deflated ' . ::brief("Hello " x 10) . "\n") . ('text deflated ' . ::brief("Hello " x 10) . qq{\nclose 1000 ""\n})
--- results
true



=== TEST 14: with context takeover the second is shorter
--- handler
    local text = "something that does not repeat itself: 0123456789"
    local first = ws:send(text)
    report(ws:send(text) < first - 20)
--- frames
text deflated "something that does not repeat itself: 0123456789"
text deflated "something that does not repeat itself: 0123456789"
close 1000 ""
--- results
true



=== TEST 15: client_no_context_takeover: a message that refers to the one before is bad data
--- offer: permessage-deflate; client_no_context_takeover
--- send eval
::masked(0xc1, "\xf2\x48\xcd\xc9\xc9\x07\x00") . ::masked(0xc1, "\xf2\x00\x11\x00\x00")
--- frames
close 1007 "bad compressed data"
--- results
"Hello" "text"
1007 "bad compressed data" false
--- info: websocket peer broke a rule: bad compressed data (compression)



=== TEST 16: messages below the threshold go as they are
--- options: { compression = { threshold = 100 } }
--- handler
    ws:send(("x"):rep(99))
    ws:send(("x"):rep(100))
--- frames eval
'text ' . ::brief("x" x 99) . "\ntext deflated " . ::brief("x" x 100) . qq{\nclose 1000 ""\n}



=== TEST 17: the default threshold is 256
--- options: { compression = true }
--- handler
    ws:send(("x"):rep(255))
    ws:send(("x"):rep(256))
--- frames eval
'text ' . ::brief("x" x 255) . "\ntext deflated " . ::brief("x" x 256) . qq{\nclose 1000 ""\n}



=== TEST 18: the level
--- options: { compression = { level = 9 } }
--- client
    local sizes = {}
    for level = 1, 9, 8 do
        local p = peer.connect(nil, "/ws?" .. level, nil, "Sec-WebSocket-Extensions: permessage-deflate\r\n")
        local first, data = p:receive()
        assert(first == 0xc1)
        sizes[#sizes + 1] = #data
        p:close()
    end
    say(sizes[2] < sizes[1])
--- config
    location = /ws {
        content_by_lua_block {
            local ws = require("resty.websocket").accept { compression = { level = tonumber(ngx.var.args) } }
            local words = {}
            for n = 1, 3000 do words[n] = "word" .. n * n % 997 .. " is " .. n % 31 end
            ws:send(table.concat(words, " "))
        }
    }
--- response_body
true



=== TEST 19: control frames are never compressed
--- options: { compression = { threshold = 0 } }
--- handler
    ws:ping(("p"):rep(125))
    ws:close(1000, ("r"):rep(100), 1)
--- send eval: ::masked(0x89, "q" x 125)
--- frames eval
'ping ' . ::brief("p" x 125) . "\nclose 1000 " . ::brief("r" x 100) . "\n"



=== TEST 20: a stream is not compressed
--- handler
    local writer = ws:send_stream("text")
    writer:write(("x"):rep(1000))
    writer:finish()
    ws:send("Hello")
--- frames eval
'text ... ' . ::brief("x" x 1000) . qq{\ncontinuation ""\ntext deflated "Hello"\nclose 1000 ""\n}



=== TEST 21: RSV1 of a continuation
--- send eval: ::masked(0x41, "\xf2\x48\xcd") . ::masked(0xc0, "\xc9\xc9\x07\x00")
--- frames
close 1002 "bad RSV1, RSV2, or RSV3 bits"
--- results
1002 "bad RSV1, RSV2, or RSV3 bits" false



=== TEST 22: RSV1 of a control frame
--- send eval: ::masked(0xc9, "")
--- frames
close 1002 "bad RSV1, RSV2, or RSV3 bits"
--- results
1002 "bad RSV1, RSV2, or RSV3 bits" false



=== TEST 23: RSV2 beside RSV1
--- send eval: ::masked(0xe1, "\x00")
--- frames
close 1002 "bad RSV1, RSV2, or RSV3 bits"
--- results
1002 "bad RSV1, RSV2, or RSV3 bits" false



=== TEST 24: RSV1 where the offer was declined
--- offer: permessage-deflate; unknown
--- send eval: ::masked(0xc1, "\xf2\x48\xcd\xc9\xc9\x07\x00")
--- frames
close 1002 "bad RSV1, RSV2, or RSV3 bits"
--- results
1002 "bad RSV1, RSV2, or RSV3 bits" false



=== TEST 25: data that is no DEFLATE
--- send eval: ::masked(0xc2, "\xff\xff\xff\xff")
--- frames
close 1007 "bad compressed data"
--- results
1007 "bad compressed data" false
--- info: websocket peer broke a rule: bad compressed data (compression)



=== TEST 26: a reference to bytes that were never sent
--- send eval: ::masked(0xc1, "\xf2\x00\x11\x00\x00")
--- frames
close 1007 "bad compressed data"
--- results
1007 "bad compressed data" false



=== TEST 27: text that is not UTF-8 once inflated, and fails fast
--- client
    local p = peer.connect(nil, nil, nil, "Sec-WebSocket-Extensions: permessage-deflate\r\n")
    -- A stored block of five bytes, the third of them wrong, of a frame whose rest does not come.
    p:send("\xc1\xfe\0\200\0\0\0\0" .. "\0\5\0\250\255ab\255cd\0\0\0\255\255")
    local first, payload = p:receive()
    say(first, payload:sub(3))
    p:close()
--- response_body
136 "invalid utf-8"
--- results
1007 "invalid utf-8" false



=== TEST 28: a character cut between two compressed fragments
--- send eval
my $all = ::deflated("\xe2\x82\xac");
::masked(0x41, substr $all, 0, 2) . ::masked(0x80, substr $all, 2)
--- results eval
::brief("\xe2\x82\xac") . qq{ "text"\n1000 "" true\n}



=== TEST 29: the limit is on the inflated message
--- options: { compression = true, max_message_size = 1000 }
--- send eval: ::masked(0xc2, ::deflated("x" x 1000)) . ::masked(0xc2, ::deflated("x" x 1001))
--- frames
close 1009 "exceeding max message len"
--- results eval
::brief("x" x 1000) . qq{ "binary"\n1009 "exceeding max message len" false\n}
--- info: websocket peer broke a rule: exceeding max message len (message_size)



=== TEST 30: a bomb: 256 MiB in 256 KiB
--- options: { compression = true }
--- send eval: ::masked(0xc2, ::deflated("\0" x (1 << 28)))
--- frames
close 1009 "exceeding max message len"
--- results
1009 "exceeding max message len" false
--- timeout: 20



=== TEST 31: the limit on frames is on what comes
--- options: { compression = true, max_message_size = "1m", max_frame_size = 100 }
--- send eval: ::masked(0xc2, ::deflated("x" x 10000)) . ::masked(0xc2, "x" x 101)
--- frames
close 1009 "exceeding max payload len"
--- results eval
::brief("x" x 10000) . qq{ "binary"\n1009 "exceeding max payload len" false\n}



=== TEST 32: a small window of the server
--- offer: permessage-deflate; server_max_window_bits=9
--- handler
    for n = 1, 20 do ws:send(("abcdefghij" .. n):rep(100)) end
--- frames eval
(CORE::join '', map { 'text deflated ' . ::brief("abcdefghij$_" x 100) . "\n" } 1 .. 20) . qq{close 1000 ""\n}



=== TEST 33: large messages both ways with the smallest windows
--- options: { compression = { threshold = 0, server_max_window_bits = 8, client_max_window_bits = 9 }, max_message_size = "1m" }
--- handler
    local data, typ = ws:recv()
    report(data, typ)
    ws:send(data, typ)
--- send eval: ::masked(0xc2, ::deflated("0123456789" x 10000, bits => 9))
--- frames eval
'binary deflated ' . ::brief("0123456789" x 10000) . qq{\nclose 1000 ""\n}
--- results eval
::brief("0123456789" x 10000) . qq{ "binary"\n}
