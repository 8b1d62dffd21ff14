# What may not be sent: the texts in the order of the checks, that nothing of it reaches the wire,
# and that the object is fatal afterwards. Only a bad close code leaves it usable (t/server/close.t).

use Test::Nginx::Socket::Lua;
use t::Wire;

# `attempt` is an expression; behind it every block makes sure that the object is fatal.
add_block_preprocessor(sub {
    my $block = shift;
    if (defined(my $attempt = $block->attempt)) {
        $attempt =~ s/\s+\z//;
        $block->set_value(handler => <<"END");
            report($attempt)
            report(wb.fatal)
            report(wb:send_text("x"))
            report(wb:send_close())
            report(wb:recv_frame())
END
        $block->set_value(send => masked(0x81, 'unread'));
        $block->set_value(response_body => '');
        $block->set_value(results => $block->results . <<'END');
true
nil "fatal error already happened"
nil "fatal error already happened"
nil nil "fatal error already happened"
END
    }
    complete_block($block);
});
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: one byte more than by default
--- attempt: wb:send_text(("x"):rep(65536))
--- results
nil "payload too big"



=== TEST 2: one byte more than max_send_len
--- options: { max_send_len = 200 }
--- attempt: wb:send_binary(("x"):rep(201))
--- results
nil "payload too big"



=== TEST 3: one byte more than max_payload_len
--- options: { max_payload_len = 2, max_recv_len = 100 }
--- attempt: wb:send_continue("abc")
--- results
nil "payload too big"



=== TEST 4: anything where nothing is allowed
--- options: { max_send_len = 0 }
--- attempt: wb:send_text("x")
--- results
nil "payload too big"



=== TEST 5: a number counts as its text
--- options: { max_send_len = 3 }
--- attempt: wb:send_text(1234)
--- results
nil "payload too big"



=== TEST 6: a ping of 126 bytes
--- attempt: wb:send_ping(("x"):rep(126))
--- results
nil "too much payload for control frame"



=== TEST 7: a pong of 126 bytes
--- attempt: wb:send_pong(("x"):rep(126))
--- results
nil "too much payload for control frame"



=== TEST 8: a close reason of 124 bytes
--- attempt: wb:send_close(1000, ("x"):rep(124))
--- results
nil "too much payload for control frame"



=== TEST 9: a control frame that is not final
--- attempt: wb:send_frame(false, 0x9, "x")
--- results
nil "fragmented control frame"



=== TEST 10: a reserved control frame that is not final
--- attempt: wb:send_frame(false, 0xf, "")
--- results
nil "fragmented control frame"



=== TEST 11: opcode 0x18 has the bit of control frames
--- attempt: wb:send_frame(false, 0x18, "")
--- results
nil "fragmented control frame"



=== TEST 12: the order: max_send_len before the control frame's own limit
--- options: { max_send_len = 125 }
--- attempt: wb:send_ping(("x"):rep(126))
--- results
nil "payload too big"



=== TEST 13: the order: a control frame's length before its FIN bit
--- attempt: wb:send_frame(false, 0xa, ("x"):rep(126))
--- results
nil "too much payload for control frame"



=== TEST 14: frames sent before the failure arrive
--- options: { max_send_len = 4 }
--- handler
    wb:send_text("one")
    wb:send_text("two")
    report(wb:send_text("three"))
--- response_body eval
::plain(0x81, "one") . ::plain(0x81, "two")
--- results
nil "payload too big"



=== TEST 15: an opcode that fits no byte raises an error, without harm to the object
--- handler
    for _, opcode in ipairs{ "text", {}, 256, -1, "256" } do
        local ok, err = pcall(wb.send_frame, wb, true, opcode, "x")
        report(ok, (err:gsub("^.-:%d+: ", "")))
    end
    report(wb:send_text("ok"))
--- response_body eval: ::plain(0x81, "ok")
--- results
false "bad "opcode" argument (number from 0 to 255 expected)"
false "bad "opcode" argument (number from 0 to 255 expected)"
false "bad "opcode" argument (number from 0 to 255 expected)"
false "bad "opcode" argument (number from 0 to 255 expected)"
false "bad "opcode" argument (number from 0 to 255 expected)"
4 nil



=== TEST 16: a payload whose tostring fails raises its error, without harm to the object
--- handler
    local bad = setmetatable({}, { __tostring = function () error("no text", 0) end })
    report(pcall(wb.send_text, wb, bad))
    report(wb:send_text("ok"))
--- response_body eval: ::plain(0x81, "ok")
--- results
false "no text"
4 nil



=== TEST 17: a peer that reset the connection
--- options: { max_send_len = 1000000, timeout = 2000 }
--- handler
    wb:send_binary(("x"):rep(100000))
    report((wb:recv_frame()))
    -- The peer closes without having read everything, which makes a reset of it.
    report(wb:recv_frame())
    wb.fatal = nil
    -- As with every socket the failure of one write is reported by the next: this one is only
    -- queued, and leaves when the handler waits.
    wb:send_text("x")
    ngx.sleep(0.001)
    report(wb:send_text("y"))
    report(wb.fatal)
--- client
    local p = peer.connect()
    p:send(peer.frame(0x81, "go on"))
    p.sock:receive(1)
    p:close()
    ngx.print("left")
--- response_body chop
left
--- results
"go on"
nil nil "failed to receive the first 2 bytes: connection reset by peer"
nil "failed to send frame: broken pipe"
true
