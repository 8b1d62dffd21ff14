# Every rule of RFC 6455 that a peer can break: the close frame it gets (1002 or 1007, with the rule
# as the reason), what recv() says, and the line in the info log. Nothing is logged above info, and
# the connection ends. Limits (1009) are in limits.t, compression in deflate.t.

use Test::Nginx::Socket::Lua;
use t::Message;

# `broken`: close code, text, and the name of the rule in the log.
add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(handler => $block->handler // <<'END');
    report(ws:recv())
    report(ws:close_info())
    report(ws:state())
    report(ws:send("too late"))
END
    if (defined(my $broken = $block->broken)) {
        my ($code, $text, $rule) = $broken =~ /\A(\d+) (.*) (\w+)\s*\z/;
        $block->set_value(frames  => ($block->frames // '') . "close $code " . brief($text) . "\n");
        $block->set_value(results => ($block->results // '')
              . qq{nil "$text" $code "$text"\n$code "$text" false\n"closed"\nnil "closed"\n});
        $block->set_value(info => "websocket peer broke a rule: $text ($rule)");
    }
    complete_message_block($block);
});
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: RSV1 without an extension
--- send eval: ::masked(0xc1, "x")
--- broken: 1002 bad RSV1, RSV2, or RSV3 bits rsv



=== TEST 2: RSV2
--- send eval: ::masked(0xa1, "x")
--- broken: 1002 bad RSV1, RSV2, or RSV3 bits rsv



=== TEST 3: RSV3
--- send eval: ::masked(0x91, "x")
--- broken: 1002 bad RSV1, RSV2, or RSV3 bits rsv



=== TEST 4: RSV1 of a control frame
--- send eval: ::masked(0xc9, "x")
--- broken: 1002 bad RSV1, RSV2, or RSV3 bits rsv



=== TEST 5: RSV1 of a continuation
--- send eval: ::masked(0x01, "x") . ::masked(0xc0, "x")
--- broken: 1002 bad RSV1, RSV2, or RSV3 bits rsv



=== TEST 6: opcode 3
--- send eval: ::masked(0x83, "x")
--- broken: 1002 reserved non-control frames opcode



=== TEST 7: opcode 4
--- send eval: ::masked(0x84, "x")
--- broken: 1002 reserved non-control frames opcode



=== TEST 8: opcode 5
--- send eval: ::masked(0x85, "x")
--- broken: 1002 reserved non-control frames opcode



=== TEST 9: opcode 6
--- send eval: ::masked(0x86, "x")
--- broken: 1002 reserved non-control frames opcode



=== TEST 10: opcode 7
--- send eval: ::masked(0x87, "x")
--- broken: 1002 reserved non-control frames opcode



=== TEST 11: opcode 11
--- send eval: ::masked(0x8b, "")
--- broken: 1002 reserved control frames opcode



=== TEST 12: opcode 12
--- send eval: ::masked(0x8c, "")
--- broken: 1002 reserved control frames opcode



=== TEST 13: opcode 13
--- send eval: ::masked(0x8d, "")
--- broken: 1002 reserved control frames opcode



=== TEST 14: opcode 14
--- send eval: ::masked(0x8e, "")
--- broken: 1002 reserved control frames opcode



=== TEST 15: opcode 15
--- send eval: ::masked(0x8f, "")
--- broken: 1002 reserved control frames opcode



=== TEST 16: a frame without a mask
--- send eval: ::plain(0x81, "x")
--- broken: 1002 frame unmasked masking



=== TEST 17: an empty frame without a mask
--- send eval: ::plain(0x81, "")
--- broken: 1002 frame unmasked masking



=== TEST 18: a close frame without a mask
--- send eval: ::plain(0x88, "")
--- broken: 1002 frame unmasked masking



=== TEST 19: a ping without FIN
--- send eval: ::masked(0x09, "x")
--- broken: 1002 fragmented control frame control



=== TEST 20: a close frame without FIN
--- send eval: ::masked(0x08, "")
--- broken: 1002 fragmented control frame control



=== TEST 21: a ping of 126 bytes
--- send eval: ::masked(0x89, "x" x 126)
--- broken: 1002 too long payload for control frame control



=== TEST 22: a pong with a 64-bit length
--- send eval: ::masked(0x8a, "x" x 65536)
--- broken: 1002 too long payload for control frame control



=== TEST 23: a length of 125 in 16 bits
--- send eval: ::masked(0x81, "x" x 125, 16)
--- broken: 1002 payload len not in its shortest form length



=== TEST 24: a length of 0 in 64 bits
--- send eval: ::masked(0x81, "", 64)
--- broken: 1002 payload len not in its shortest form length



=== TEST 25: a length of 65535 in 64 bits
--- send eval: ::masked(0x81, "x" x 65535, 64)
--- broken: 1002 payload len not in its shortest form length



=== TEST 26: a length with its top bit set
--- send eval: "\x82\xff\x80\0\0\0\0\0\0\1\0\0\0\0x"
--- broken: 1002 payload len with its top bit set length



=== TEST 27: a continuation of nothing
--- send eval: ::masked(0x80, "x")
--- broken: 1002 continuation without a message sequence



=== TEST 28: a continuation of nothing, without FIN
--- send eval: ::masked(0x00, "x")
--- broken: 1002 continuation without a message sequence



=== TEST 29: a continuation after a whole message
--- send eval: ::masked(0x81, "x") . ::masked(0x80, "x")
--- broken: 1002 continuation without a message sequence
--- handler
    report(ws:recv())
    report(ws:recv())
    report(ws:close_info())
    report(ws:state())
    report(ws:send("too late"))
--- results
"x" "text"



=== TEST 30: a text inside a fragmented text
--- send eval: ::masked(0x01, "a") . ::masked(0x81, "b")
--- broken: 1002 new message inside a fragmented one sequence



=== TEST 31: a binary inside a fragmented text
--- send eval: ::masked(0x01, "a") . ::masked(0x00, "b") . ::masked(0x02, "c")
--- broken: 1002 new message inside a fragmented one sequence



=== TEST 32: a close frame of one byte
--- send eval: ::masked(0x88, "\x03")
--- broken: 1002 close frame with a body must carry a 2-byte status code close



=== TEST 33: a close reason that is not UTF-8
--- send eval: ::masked(0x88, "\x03\xe8\xff")
--- broken: 1007 invalid utf-8 utf8



=== TEST 34: a close reason cut inside a character
--- send eval: ::masked(0x88, "\x03\xe8\xe2\x82")
--- broken: 1007 invalid utf-8 utf8



=== TEST 35: a text that is not UTF-8
--- send eval: ::masked(0x81, "ab\xff")
--- broken: 1007 invalid utf-8 utf8



=== TEST 36: a text cut inside a character
--- send eval: ::masked(0x81, "ab\xe2\x82")
--- broken: 1007 invalid utf-8 utf8



=== TEST 37: an overlong character
--- send eval: ::masked(0x81, "\xc0\x80")
--- broken: 1007 invalid utf-8 utf8



=== TEST 38: half of a surrogate pair
--- send eval: ::masked(0x81, "\xed\xa0\x80")
--- broken: 1007 invalid utf-8 utf8



=== TEST 39: a character above U+10FFFF
--- send eval: ::masked(0x81, "\xf4\x90\x80\x80")
--- broken: 1007 invalid utf-8 utf8



=== TEST 40: a character broken between fragments
--- send eval: ::masked(0x01, "\xe2\x82") . ::masked(0x80, "x")
--- broken: 1007 invalid utf-8 utf8



=== TEST 41: a fragmented text cut inside a character
--- send eval: ::masked(0x01, "\xe2") . ::masked(0x80, "\x82")
--- broken: 1007 invalid utf-8 utf8



=== TEST 42: a fragment that is not UTF-8, the message unfinished
--- send eval: ::masked(0x01, "ok") . ::masked(0x00, "\xff")
--- broken: 1007 invalid utf-8 utf8



=== TEST 43: close codes that must not stand in a frame
--- client
    for _, code in ipairs { 0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535 } do
        local p = peer.connect(peer.frame(0x88, string.char(math.floor(code / 256), code % 256)))
        local first, payload = p:receive()
        say(code, first, payload:byte(1) * 256 + payload:byte(2), payload:sub(3), p:rest())
        p:close()
    end
--- handler
    local data, err, code = ws:recv()
    assert(err == "bad close code" and code == 1002)
--- response_body eval
CORE::join '', map { qq{$_ 136 1002 "bad close code" "" "closed"\n} } 0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535
--- info: websocket peer broke a rule: bad close code (close)



=== TEST 44: binary data need not be UTF-8
--- send eval: ::masked(0x02, "\xff") . ::masked(0x80, "\xc0\x80")
--- handler
    report(ws:recv())
--- frames
close 1000 ""
--- results eval
::brief("\xff\xc0\x80") . " \"binary\"\n"



=== TEST 45: what came before is handed out, what comes after is not looked at
--- send eval
::masked(0x81, "one") . ::masked(0x89, "ping") . ::masked(0x82, "two") . ::masked(0x83, "") . ::masked(0x81, "three") . ::masked(0x88, "")
--- handler
    report(ws:recv())
    report(ws:recv())
    report(ws:recv())
    report(ws:recv())
--- frames
pong "ping"
close 1002 "reserved non-control frames"
--- results
"one" "text"
"two" "binary"
nil "reserved non-control frames" 1002 "reserved non-control frames"
nil "reserved non-control frames" 1002 "reserved non-control frames"



=== TEST 46: a text fails fast: the close frame comes before the rest of its frame
--- client
    local p = peer.connect("\x81\xfe\xff\xff\0\0\0\0" .. "fine so far \x80")
    local first, payload = p:receive()
    say(first, payload:byte(1) * 256 + payload:byte(2), payload:sub(3))
    say(p:rest())
    p:close()
--- handler
    report(ws:recv())
--- response_body
136 1007 "invalid utf-8"
"" "closed"
--- results
nil "invalid utf-8" 1007 "invalid utf-8"



=== TEST 47: it fails at the byte that makes it hopeless, and not one earlier
--- client
    local p = peer.connect()
    local function fragment(bytes)
        p:send(peer.frame(0x01 - (p.begun or 0), bytes) .. peer.frame(0x89, ""))
        p.begun = 1
        local first, payload = p:receive()
        say(first, #payload > 2 and payload:sub(3) or payload)
    end
    fragment("\xf4\x8f\xbf")
    fragment("\xbf")
    fragment("\xed")
    fragment("\xa0")
    p:close()
--- handler
    report(ws:recv())
--- response_body
138 ""
138 ""
138 ""
136 "invalid utf-8"
--- results
nil "invalid utf-8" 1007 "invalid utf-8"



=== TEST 48: a rule broken while nobody receives: the peer is told at once
--- client
    local p = peer.connect(peer.frame(0x83, ""))
    local first, payload = p:receive()
    say(first, payload:byte(1) * 256 + payload:byte(2), payload:sub(3))
    say(p:rest())
    go:post()
    p:close()
--- http_config
    init_by_lua_block { go = require("ngx.semaphore").new() }
--- handler
    go:wait(5)
    report(ws:state())
    report(ws:recv())
--- response_body
136 1002 "reserved non-control frames"
"" "closed"
--- results
"closed"
nil "reserved non-control frames" 1002 "reserved non-control frames"



=== TEST 49: a rule broken inside of an open stream of ours
--- client
    local p = peer.connect()
    say(p:receive())
    p:send(peer.frame(0x83, ""))
    local first, payload = p:receive()
    say(first, payload:sub(3))
    p:close()
--- handler
    local writer = ws:send_stream("text")
    report(writer:write("a"))
    report(ws:recv())
    report(writer:write("b"))
    report(writer:finish())
--- response_body
1 "a"
136 "reserved non-control frames"
--- results
3
nil "reserved non-control frames" 1002 "reserved non-control frames"
nil "closed"
nil "closed"



=== TEST 50: the peer breaks a rule instead of answering our close frame
--- client
    local p = peer.connect()
    p:receive()
    p:send(peer.frame(0x83, ""))
    say(p:rest())
    p:close()
--- handler
    report(ws:close())
    report(ws:close_info())
--- response_body
"" "closed"
--- results
true
1002 "reserved non-control frames" false



=== TEST 51: others are not disturbed
--- client
    local good, bad = peer.connect(), peer.connect()
    bad:send(peer.frame(0x83, ""))
    say(bad:receive())
    good:send(peer.frame(0x81, "fine"))
    say(good:receive())
    bad:close()
    good:close()
--- handler
    for data in ws:messages() do ws:send(data) end
--- response_body eval
qq{136 } . ::brief("\x03\xeareserved non-control frames") . qq{\n129 "fine"\n}
