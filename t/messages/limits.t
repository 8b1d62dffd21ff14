# Limits on what a peer sends: message, frame, fragments; 1009 before anything is stored. By option
# and by directive, whole and in fragments. How much memory a bomb takes is in back-pressure.t.

use Test::Nginx::Socket::Lua;
use t::Message;

my $TOO_LONG = 'exceeding max message len';

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(handler => "    report(ws:recv())\n    report(ws:recv())\n")
      if !defined $block->handler;
    complete_message_block($block);
});
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: a message of exactly the limit, and one byte more
--- options: { max_message_size = 100 }
--- send eval: ::masked(0x82, "x" x 100) . ::masked(0x81, "x" x 101)
--- frames
close 1009 "exceeding max payload len"
--- results eval
::brief("x" x 100) . qq{ "binary"\nnil "exceeding max payload len" 1009 "exceeding max payload len"\n}
--- info: websocket peer broke a rule: exceeding max payload len (frame_size)



=== TEST 2: fragments are counted together
--- options: { max_message_size = 100 }
--- send eval
::masked(0x02, "x" x 50) . ::masked(0x00, "") . ::masked(0x80, "x" x 50) . ::masked(0x02, "x" x 50) . ::masked(0x80, "x" x 51)
--- frames
close 1009 "exceeding max message len"
--- results eval
::brief("x" x 100) . qq{ "binary"\nnil "exceeding max message len" 1009 "exceeding max message len"\n}
--- info: websocket peer broke a rule: exceeding max message len (message_size)



=== TEST 3: a frame's own limit
--- options: { max_message_size = 100, max_frame_size = 40 }
--- send eval
::masked(0x02, "x" x 40) . ::masked(0x80, "x" x 40) . ::masked(0x02, "x" x 41)
--- frames
close 1009 "exceeding max payload len"
--- results eval
::brief("x" x 80) . qq{ "binary"\nnil "exceeding max payload len" 1009 "exceeding max payload len"\n}



=== TEST 4: a frame's limit above that of messages changes nothing
--- options: { max_message_size = 100, max_frame_size = "1k" }
--- send eval: ::masked(0x82, "x" x 100) . ::masked(0x82, "x" x 101)
--- frames
close 1009 "exceeding max message len"
--- results eval
::brief("x" x 100) . qq{ "binary"\nnil "exceeding max message len" 1009 "exceeding max message len"\n}



=== TEST 5: refused by the header alone, before a payload byte has come
--- options: { max_message_size = "64k" }
--- client
    for _, head in ipairs { "\x82\xff\0\0\0\0\0\1\0\1", "\x82\xff\127\255\255\255\255\255\255\255", "\x82\xff\0\0\0\1\0\0\0\0" } do
        local p = peer.connect(head)
        local first, payload = p:receive()
        say(first, payload:byte(1) * 256 + payload:byte(2), payload:sub(3), p:rest())
        p:close()
    end
--- handler
    ws:recv()
--- response_body
136 1009 "exceeding max payload len" "" "closed"
136 1009 "exceeding max payload len" "" "closed"
136 1009 "exceeding max payload len" "" "closed"



=== TEST 6: the limit in nginx's way of writing
--- options: { max_message_size = "64k" }
--- send eval: ::masked(0x82, "x" x 65536) . ::masked(0x82, "x" x 65537)
--- frames
close 1009 "exceeding max payload len"
--- results eval
::brief("x" x 65536) . qq{ "binary"\nnil "exceeding max payload len" 1009 "exceeding max payload len"\n}



=== TEST 7: the default is 1 MiB
--- send eval: ::masked(0x82, "x" x 1048576) . ::masked(0x82, "x" x 1048577)
--- frames
close 1009 "exceeding max payload len"
--- results eval
::brief("x" x 1048576) . qq{ "binary"\nnil "exceeding max payload len" 1009 "exceeding max payload len"\n}



=== TEST 8: the directive
--- directives: websocket_max_message_size 10;
--- send eval: ::masked(0x82, "x" x 10) . ::masked(0x82, "x" x 11)
--- frames
close 1009 "exceeding max payload len"
--- results eval
::brief("x" x 10) . qq{ "binary"\nnil "exceeding max payload len" 1009 "exceeding max payload len"\n}



=== TEST 9: the option goes before the directive
--- directives: websocket_max_message_size 10;
--- options: { max_message_size = 20 }
--- send eval: ::masked(0x82, "x" x 20) . ::masked(0x82, "x" x 21)
--- frames
close 1009 "exceeding max payload len"
--- results eval
::brief("x" x 20) . qq{ "binary"\nnil "exceeding max payload len" 1009 "exceeding max payload len"\n}



=== TEST 10: a limit of 1 allows empty messages too
--- options: { max_message_size = 1 }
--- send eval: ::masked(0x81, "") . ::masked(0x81, "xx")
--- frames
close 1009 "exceeding max payload len"
--- results
"" "text"
nil "exceeding max payload len" 1009 "exceeding max payload len"



=== TEST 11: control frames have their own limit
--- options: { max_message_size = 1 }
--- send eval: ::masked(0x89, "p" x 125) . ::masked(0x81, "x") . ::masked(0x88, "\x03\xe8reason")
--- frames eval
'pong ' . ::brief("p" x 125) . qq{\nclose 1000 ""\n}
--- results
"x" "text"
nil "closed" 1000 "reason"



=== TEST 12: too many fragments
--- send eval
::masked(0x02, "") . ::masked(0x00, "") x (1 << 20)
--- handler
    report(ws:recv())
--- frames
close 1009 "too many fragments"
--- results
nil "too many fragments" 1009 "too many fragments"
--- info: websocket peer broke a rule: too many fragments (fragments)
--- timeout: 20



=== TEST 13: as many fragments as there may be
--- send eval
::masked(0x02, "a") . ::masked(0x00, "") x ((1 << 20) - 2) . ::masked(0x80, "b")
--- handler
    report(ws:recv())
--- frames
close 1000 ""
--- results
"ab" "binary"
--- timeout: 20



=== TEST 14: what is sent is not limited
--- options: { max_message_size = 1 }
--- handler
    report(ws:send(("x"):rep(100000)))
--- frames eval
'text ' . ::brief("x" x 100000) . qq{\nclose 1000 ""\n}
--- results
100010
