# Messages and the end of the conversation in one packet: a handler that answers at once is heard
# before the close frame, whichever side ended it; a handler that is busy holds nothing up.

use Test::Nginx::Socket::Lua;
use t::Message;

add_block_preprocessor(sub { complete_message_block(@_) });
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: a message and a broken rule
--- handler
    report(ws:send("re: " .. ws:recv()))
    report(ws:recv())
    report(ws:close_info())
--- send eval: ::masked(0x81, "one") . ::masked(0xb1, "two") . ::masked(0x89, "ping")
--- frames
text "re: one"
close 1002 "bad RSV1, RSV2, or RSV3 bits"
--- results
9
nil "bad RSV1, RSV2, or RSV3 bits" 1002 "bad RSV1, RSV2, or RSV3 bits"
1002 "bad RSV1, RSV2, or RSV3 bits" false
--- info
websocket peer broke a rule: bad RSV1, RSV2, or RSV3 bits (rsv)



=== TEST 2: a message and a close frame
--- handler
    report(ws:send("re: " .. ws:recv()))
    report(ws:recv())
    report(ws:close_info())
--- send eval: ::masked(0x81, "one") . ::masked(0x88, "\x03\xe8bye")
--- frames
text "re: one"
close 1000 ""
--- results
9
nil "closed" 1000 "bye"
1000 "bye" true



=== TEST 3: pings before and after, in their order
--- handler
    for data in ws:messages() do
        ws:send(data)
    end
    report(ws:close_info())
--- send eval: ::masked(0x89, "a") . ::masked(0x81, "one") . ::masked(0x81, "two") . ::masked(0x89, "b") . ::masked(0x88, "")
--- frames
pong "a"
text "one"
text "two"
pong "b"
close ""
--- results
1005 "" true



=== TEST 4: invalid UTF-8 behind a message
--- handler
    for data in ws:messages() do
        ws:send(data)
    end
    report(ws:close_info())
--- send eval: ::masked(0x81, "one") . ::masked(0x01, "\xff")
--- frames
text "one"
close 1007 "invalid utf-8"
--- results
1007 "invalid utf-8" false



=== TEST 5: a busy handler holds no close frame up, and still gets what came before it
--- http_config
    init_by_lua_block { seen = require("ngx.semaphore").new() }
--- handler
    seen:wait(10)
    report(ws:send("too late"))
    report(ws:recv())
    report(ws:recv())
--- client
    local p = peer.connect(peer.frame(0x81, "one") .. peer.frame(0x88, "\3\232bye"))
    local first, payload = p:receive()
    say(first, payload == "\3\232")
    seen:post()
    say(p:rest())
    p:close()
--- response_body
136 true
"" "closed"
--- results
nil "closed"
"one" "text"
nil "closed" 1000 "bye"



=== TEST 6: the handler closes with its own code when it has read the message
--- handler
    report(ws:recv())
    report(ws:close(4001, "enough"))
    report(ws:close_info())
--- send eval: ::masked(0x81, "one") . ::masked(0x88, "\x03\xe8bye")
--- frames
close 4001 "enough"
--- results
"one" "text"
true
1000 "bye" true



=== TEST 7: a light thread that waits for something else between two messages
--- handler
    report(ws:recv())
    ngx.sleep(0.001)
    report(ws:recv())
    report(ws:recv())
--- send eval: ::masked(0x81, "one") . ::masked(0x81, "two") . ::masked(0x88, "\x03\xe8bye")
--- frames
close 1000 ""
--- results
"one" "text"
"two" "text"
nil "closed" 1000 "bye"
