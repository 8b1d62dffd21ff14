# Frames that recv_frame() refuses: each rule with its exact text, in the order of the checks, and
# what every refusal has in common: nothing is sent to the peer, nothing is logged above info, and
# the object is fatal from then on. Limits are included; time-outs and a peer that leaves are in
# t/server/timeouts.t.

use Test::Nginx::Socket::Lua;
use t::Wire;

# A block without a handler of its own reads one frame, which has to be refused.
add_block_preprocessor(sub {
    my $block = shift;
    if (!defined $block->handler) {
        my $before = $block->good // 0;
        $block->set_value(handler => <<"END");
            for _ = 1, $before do
                report(wb:recv_frame())
            end
            report(wb:recv_frame())
            report(wb:recv_frame())
            report(wb:send_text("x"))
            report(wb:send_close(1002, "x"))
            report(wb.fatal)
END
        $block->set_value(results => $block->results . <<'END');
nil nil "fatal error already happened"
nil "fatal error already happened"
nil "fatal error already happened"
true
END
        $block->set_value(response_body => '');
    }
    complete_block($block);
});
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: RSV1
--- send eval: ::masked(0xc1, "x")
--- results
nil nil "bad RSV1, RSV2, or RSV3 bits"



=== TEST 2: RSV2
--- send eval: ::masked(0xa1, "x")
--- results
nil nil "bad RSV1, RSV2, or RSV3 bits"



=== TEST 3: RSV3
--- send eval: ::masked(0x91, "x")
--- results
nil nil "bad RSV1, RSV2, or RSV3 bits"



=== TEST 4: RSV1 on a control frame, behind good frames
--- good: 2
--- send eval: ::masked(0x81, "a") . ::masked(0x89, "b") . ::masked(0xc9, "")
--- results
"a" "text" nil
"b" "ping" nil
nil nil "bad RSV1, RSV2, or RSV3 bits"



=== TEST 5: opcode 3
--- send eval: ::masked(0x83, "x")
--- results
nil nil "reserved non-control frames"



=== TEST 6: opcode 7, not final
--- send eval: ::masked(0x07, "x")
--- results
nil nil "reserved non-control frames"



=== TEST 7: opcode 11
--- send eval: ::masked(0x8b, "x")
--- results
nil nil "reserved control frames"



=== TEST 8: opcode 15
--- send eval: ::masked(0x8f, "x")
--- results
nil nil "reserved control frames"



=== TEST 9: the opcodes between them
--- handler
    report(wb:recv_frame())
--- client
    for _, opcode in ipairs({ 4, 5, 6, 12, 13, 14 }) do
        peer.say(peer.connect(peer.frame(0x80 + opcode, "x")):rest())
    end
--- response_body eval
"\"\" \"closed\"\n" x 6
--- results eval
"nil nil \"reserved non-control frames\"\n" x 3 . "nil nil \"reserved control frames\"\n" x 3



=== TEST 10: no mask
--- send eval: ::plain(0x81, "x")
--- results
nil nil "frame unmasked"



=== TEST 11: no mask and no payload
--- send eval: ::plain(0x89, "")
--- results
nil nil "frame unmasked"



=== TEST 12: no mask, a length in 64 bits
--- send eval: ::plain(0x82, "x" x 66000)
--- results
nil nil "frame unmasked"



=== TEST 13: a length of 2^31
--- options: { max_payload_len = math.huge }
--- send eval: "\x82\xff\0\0\0\0\x80\0\0\0"
--- results
nil nil "payload len too large"



=== TEST 14: a length of 2^32
--- send eval: "\x82\xff\0\0\0\1\0\0\0\0"
--- results
nil nil "payload len too large"



=== TEST 15: a length of 2^64 - 1
--- send eval: "\x82\xff" . "\xff" x 8
--- results
nil nil "payload len too large"



=== TEST 16: a length of 2^31 - 1 is only a matter of the limit
--- options: { max_payload_len = 2147483646 }
--- send eval: "\x82\xff\0\0\0\0\x7f\xff\xff\xff"
--- results
nil nil "exceeding max payload len"



=== TEST 17: a control frame of 126 bytes
--- options: { max_payload_len = 1 }
--- send eval: ::masked(0x89, "x" x 126)
--- results
nil nil "too long payload for control frame"



=== TEST 18: a close frame of 65536 bytes
--- send eval: ::masked(0x88, "x" x 65536)
--- results
nil nil "too long payload for control frame"



=== TEST 19: a control frame that is not final
--- send eval: ::masked(0x09, "x")
--- results
nil nil "fragmented control frame"



=== TEST 20: a close frame that is not final
--- send eval: ::masked(0x08, "\x03\xe8")
--- results
nil nil "fragmented control frame"



=== TEST 21: a close frame of one byte
--- send eval: ::masked(0x88, "\x03")
--- results
nil nil "close frame with a body must carry a 2-byte status code"



=== TEST 22: one byte more than allowed by default
--- good: 1
--- send eval: ::masked(0x82, "x" x 65535) . ::masked(0x82, "x" x 65536)
--- results eval
::brief("x" x 65535) . " \"binary\" nil\nnil nil \"exceeding max payload len\"\n"



=== TEST 23: at max_recv_len and over it
--- options: { max_recv_len = 200, max_send_len = 1 }
--- good: 1
--- send eval: ::masked(0x81, "x" x 200) . ::masked(0x81, "x" x 201)
--- results eval
::brief("x" x 200) . " \"text\" nil\nnil nil \"exceeding max payload len\"\n"



=== TEST 24: at max_payload_len and over it
--- options: { max_payload_len = 5 }
--- good: 1
--- send eval: ::masked(0x82, "12345") . ::masked(0x82, "123456")
--- results
"12345" "binary" nil
nil nil "exceeding max payload len"



=== TEST 25: the limit is a frame's, not a message's
--- options: { max_recv_len = 3 }
--- good: 3
--- send eval: ::masked(0x01, "abc") . ::masked(0x00, "def") . ::masked(0x80, "ghi") . ::masked(0x80, "long")
--- results
"abc" "text" "again"
"def" "continuation" "again"
"ghi" "continuation" nil
nil nil "exceeding max payload len"



=== TEST 26: control frames are under the limit too
--- options: { max_recv_len = 3 }
--- send eval: ::masked(0x89, "ping")
--- results
nil nil "exceeding max payload len"



=== TEST 27: a limit of nothing lets empty frames pass
--- options: { max_recv_len = 0 }
--- good: 2
--- send eval: ::masked(0x81, "") . ::masked(0x88, "") . ::masked(0x81, "a")
--- results
"" "text" nil
"" "close" nil
nil nil "exceeding max payload len"



=== TEST 28: the order: RSV bits before the opcode
--- send eval: ::plain(0x73, "")
--- results
nil nil "bad RSV1, RSV2, or RSV3 bits"



=== TEST 29: the order: the opcode before the mask
--- send eval: ::plain(0x0b, "")
--- results
nil nil "reserved control frames"



=== TEST 30: the order: the mask before the length
--- send eval: "\x09\x7f" . "\xff" x 8
--- results
nil nil "frame unmasked"



=== TEST 31: the order: an impossible length before a control frame's own limit
--- send eval: "\x09\xff" . "\xff" x 8
--- results
nil nil "payload len too large"



=== TEST 32: the order: a control frame's length before its FIN bit
--- send eval: ::masked(0x09, "x" x 126)
--- results
nil nil "too long payload for control frame"



=== TEST 33: the order: FIN before the limit
--- options: { max_recv_len = 0 }
--- send eval: ::masked(0x09, "x")
--- results
nil nil "fragmented control frame"



=== TEST 34: the order: the limit before a close frame's payload
--- options: { max_recv_len = 0 }
--- send eval: ::masked(0x88, "x")
--- results
nil nil "exceeding max payload len"



=== TEST 35: a header is refused as soon as it is there, without its payload
--- handler
    report(wb:recv_frame())
--- client
    for _, head in ipairs({ "\xc1\x81", "\x83\x81", "\x8b\x81", "\x81\x01", "\x89\xfe\0\x7e",
                            "\x09\x81", "\x82\xff\0\0\0\0\0\1\0\0" }) do
        peer.say(peer.connect(head):rest())
    end
--- response_body eval
"\"\" \"closed\"\n" x 7
--- results
nil nil "bad RSV1, RSV2, or RSV3 bits"
nil nil "reserved non-control frames"
nil nil "reserved control frames"
nil nil "frame unmasked"
nil nil "too long payload for control frame"
nil nil "fragmented control frame"
nil nil "exceeding max payload len"



=== TEST 36: RSV bits and opcode are refused with the first two bytes
--- handler
    report(wb:recv_frame())
--- client
    peer.say(peer.connect("\xc1\xff"):rest())
    peer.say(peer.connect("\x83\xfe"):rest())
    peer.say(peer.connect("\x82\x7f"):rest())
--- response_body eval
"\"\" \"closed\"\n" x 3
--- results
nil nil "bad RSV1, RSV2, or RSV3 bits"
nil nil "reserved non-control frames"
nil nil "frame unmasked"



=== TEST 37: what was sent before the refusal still arrives
--- handler
    wb:send_text("before")
    report(wb:recv_frame())
    report(wb:send_text("after"))
--- send eval: ::masked(0xf1, "x") . ::masked(0x81, "y")
--- response_body eval: ::plain(0x81, "before")
--- results
nil nil "bad RSV1, RSV2, or RSV3 bits"
nil "fatal error already happened"



=== TEST 38: a length announced takes no memory before its bytes come
--- options: { max_recv_len = 2000000000, timeout = 20 }
--- handler
    local function resident()
        return tonumber(io.open("/proc/self/statm"):read("*a"):match("^%d+ (%d+)")) * 4096
    end
    local before = resident()
    report(wb:recv_frame())
    report(resident() - before < 4 * 1024 * 1024)
--- client
    local p = peer.connect("\x82\xff\0\0\0\0\x77\x35\x94\0\0\0\0\0a few bytes")
    peer.say(p:rest())
--- response_body
"" "closed"
--- results
nil nil "failed to read masking-len and payload: timeout"
true



=== TEST 39: a peer that keeps sending garbage
--- handler
    report(wb:recv_frame())
--- send eval: "\xff" x 3000000
--- response_body
--- results
nil nil "bad RSV1, RSV2, or RSV3 bits"
