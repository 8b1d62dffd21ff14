# Close frames in both directions: codes and reasons as they come and as they are given, and that
# closing is left to the program: nothing is answered, and both directions go on afterwards.

use Test::Nginx::Socket::Lua;
use t::Wire;

add_block_preprocessor(sub { complete_block(@_) });
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: received, without a payload
--- handler
    report(wb:recv_frame())
    report(wb.fatal)
--- send eval: ::masked(0x88, "")
--- response_body
--- results
"" "close" nil
nil



=== TEST 2: received, with a code
--- handler
    report(wb:recv_frame())
--- send eval: ::masked(0x88, "\x03\xe8")
--- response_body
--- results
"" "close" 1000



=== TEST 3: received, with code and reason
--- handler
    report(wb:recv_frame())
--- send eval: ::masked(0x88, "\x03\xe9going away")
--- response_body
--- results
"going away" "close" 1001



=== TEST 4: received, with the longest reason
--- handler
    report(wb:recv_frame())
--- send eval: ::masked(0x88, "\x0f\xa0" . "r" x 123)
--- results eval
::brief("r" x 123) . " \"close\" 4000\n"



=== TEST 5: received, with codes that must not be sent
--- handler
    for _ = 1, 8 do
        report(wb:recv_frame())
    end
--- send eval
CORE::join "", map { ::masked(0x88, pack "n", $_) } 0, 1, 999, 1004, 1005, 1006, 1015, 65535
--- results
"" "close" 0
"" "close" 1
"" "close" 999
"" "close" 1004
"" "close" 1005
"" "close" 1006
"" "close" 1015
"" "close" 65535



=== TEST 6: received, with a reason that is no UTF-8
--- handler
    local reason, typ, code = wb:recv_frame()
    report(reason == "\255\254", typ, code)
--- send eval: ::masked(0x88, "\x03\xed\xff\xfe")
--- results
true "close" 1005



=== TEST 7: sent, without a code
--- handler
    report(wb:send_close())
    report(wb:send_close(nil, "a reason without a code is left out"))
    report(wb:send_close(false, "too"))
--- response_body eval: "\x88\0" x 3
--- results
2 nil
2 nil
2 nil



=== TEST 8: sent, with a code
--- handler
    report(wb:send_close(1000))
    report(wb:send_close(1000, nil))
    report(wb:send_close(1000, ""))
--- response_body eval: "\x88\x02\x03\xe8" x 3
--- results
4 nil
4 nil
4 nil



=== TEST 9: sent, with code and reason
--- handler
    report(wb:send_close(1001, "server, going away"))
    report(wb:send_close(1000, "\255 no UTF-8 \0"))
    report(wb:send_close(1000, 42))
--- response_body eval
::plain(0x88, "\x03\xe9server, going away") . ::plain(0x88, "\x03\xe8\xff no UTF-8 \0")
. ::plain(0x88, "\x03\xe842")
--- results
22 nil
16 nil
6 nil



=== TEST 10: sent, with codes of every kind
--- handler
    for _, code in ipairs({ 0, 1, 999, 1005, 1006, 4999, 5000, 0x7fff, -1, -2, -65536, 1000.4,
                            1000.7, 1000.5, 1001.5, 32767 }) do
        report((wb:send_close(code)))
    end
--- response_body eval
CORE::join "", map { ::plain(0x88, pack "n", $_) }
    0, 1, 999, 1005, 1006, 4999, 5000, 0x7fff, 0xffff, 0xfffe, 0, 1000, 1001, 1000, 1002, 32767
--- results eval
"4\n" x 16



=== TEST 11: codes that are refused leave the object as it was
--- handler
    report(wb:send_close(0x8000))
    report(wb:send_close(65535, "reason"))
    report(wb:send_close(32767.25))
    report(wb:send_close("1000"))
    report(wb:send_close("normal", "bye"))
    report(wb:send_close(true))
    report(wb:send_close({}))
    report(wb:send_close(math.huge))
    report(wb.fatal)
    report(wb:recv_frame())
    report(wb:send_close(1000))
--- send eval: ::masked(0x81, "still here")
--- response_body eval: "\x88\x02\x03\xe8"
--- results
nil "bad status code"
nil "bad status code"
nil "bad status code"
nil "bad status code"
nil "bad status code"
nil "bad status code"
nil "bad status code"
nil "bad status code"
nil
"still here" "text" nil
4 nil



=== TEST 12: a bad code comes before anything else that may be wrong
--- handler
    wb.fatal = true
    report(wb:send_close(0x8000))
    report(wb:send_close(1000))
    report(setmetatable({}, getmetatable(wb)):send_close(0x8000))
--- response_body
--- results
nil "bad status code"
nil "fatal error already happened"
nil "bad status code"



=== TEST 13: the limit of 125 bytes includes the code
--- handler
    report((wb:send_close(1000, ("r"):rep(123))))
    report(wb:send_close(1000, ("r"):rep(124)))
    report(wb.fatal)
--- response_body eval
::plain(0x88, "\x03\xe8" . "r" x 123)
--- results
127
nil "too much payload for control frame"
true



=== TEST 14: max_send_len includes the code
--- options: { max_send_len = 3 }
--- handler
    report(wb:send_close(1000, "r"))
    report(wb:send_close(1000, "rr"))
--- response_body eval
::plain(0x88, "\x03\xe8r")
--- results
5 nil
nil "payload too big"



=== TEST 15: masked
--- options: { send_masked = true }
--- handler
    report(wb:send_close(1000, "bye"))
--- client
    peer.say((peer.unmask(peer.connect():rest(), "\x88\x05")))
--- response_body eval
::brief("\x03\xe8bye") . "\n"
--- results
11 nil



=== TEST 16: sending and receiving go on after send_close
--- handler
    report(wb:send_close(1000, "bye"))
    report(wb:send_text("more"))
    report(wb:recv_frame())
    report(wb:recv_frame())
    report(wb:send_close(1000))
    report(wb.fatal)
--- send eval
::masked(0x81, "on its way") . ::masked(0x88, "\x03\xe8bye")
--- response_body eval
::plain(0x88, "\x03\xe8bye") . ::plain(0x81, "more") . ::plain(0x88, "\x03\xe8")
--- results
7 nil
6 nil
"on its way" "text" nil
"bye" "close" 1000
4 nil
nil



=== TEST 17: a handler that returns ends the connection without a close frame
--- handler
    wb:send_text("bye")
--- response_body eval: ::plain(0x81, "bye")



=== TEST 18: a full closing handshake, begun by the client
--- handler
    local reason, typ, code = wb:recv_frame()
    report(reason, typ, code)
    report(wb:send_close(code, reason))
--- client
    local p = peer.connect(peer.frame(0x88, "\15\160done"))
    local first, data = p:receive()
    peer.say(first, data == "\15\160done")
    peer.say(p:rest())
--- response_body
136 true
"" "closed"
--- results
"done" "close" 4000
8 nil



=== TEST 19: a full closing handshake, begun by the handler
--- handler
    report(wb:send_close(1000, "done"))
    report(wb:recv_frame())
--- client
    local p = peer.connect()
    peer.say(p:receive() == 0x88)
    p:send(peer.frame(0x88, "\3\232"))
    peer.say(p:rest())
--- response_body
true
"" "closed"
--- results
8 nil
"" "close" 1000



=== TEST 20: a reason that is no text raises an error, without harm to the object
--- handler
    for _, reason in ipairs({ {}, true, print }) do
        local ok, err = pcall(function ()
            wb:send_close(1000, reason)
        end)
        report(ok, err:match("^content_by_lua%b():%d+: (.*)$"))
    end
    report(wb:send_close(1000, false))
--- response_body eval: "\x88\x02\x03\xe8"
--- results
false "bad "msg" argument (string expected)"
false "bad "msg" argument (string expected)"
false "bad "msg" argument (string expected)"
4 nil
