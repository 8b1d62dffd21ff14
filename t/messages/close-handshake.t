# Closing, by either side: which codes go out, what recv(), close(), close_info() and state() say,
# and how TCP ends (RFC 6455 5.5.1, 7.1).

use Test::Nginx::Socket::Lua;
use t::Message;

add_block_preprocessor(sub { complete_message_block(@_) });
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: the peer closes: its code is echoed, without its reason
--- handler
    report(ws:recv())
    report(ws:close_info())
    report(ws:state())
--- send eval: ::masked(0x88, "\x03\xe9going away")
--- frames
close 1001 ""
--- results
nil "closed" 1001 "going away"
1001 "going away" true
"closed"



=== TEST 2: the peer closes without a code
--- handler
    report(ws:recv())
    report(ws:close_info())
--- send eval: ::masked(0x88, "")
--- frames
close ""
--- results
nil "closed" 1005 ""
1005 "" true



=== TEST 3: every code a peer may send
--- client
    local codes = { 1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999 }
    for _, code in ipairs(codes) do
        local bytes = string.char(math.floor(code / 256), code % 256)
        local p = peer.connect(peer.frame(0x88, bytes .. "r"))
        local first, payload = p:receive()
        assert(first == 0x88 and payload == bytes, code)
        say(code, p:rest())
        p:close()
    end
--- handler
    local _, err, code, reason = ws:recv()
    assert(err == "closed" and reason == "r")
--- response_body eval
CORE::join '', map { "$_ \"\" \"closed\"\n" } 1000 .. 1003, 1007 .. 1014, 3000, 3999, 4000, 4999



=== TEST 4: the longest reason, and one in other characters
--- handler
    report(ws:recv())
--- send eval: ::masked(0x88, "\x0f\xa0" . "r" x 120 . "\xe2\x82\xac")
--- frames
close 4000 ""
--- results eval
qq{nil "closed" 4000 } . ::brief("r" x 120 . "\xe2\x82\xac") . "\n"



=== TEST 5: the peer closes while nobody reads: it is answered all the same
--- client
    local p = peer.connect(peer.frame(0x88, "\3\232"))
    say(p:receive())
    say(p:rest())
    go:post()
    p:close()
--- http_config
    init_by_lua_block { go = require("ngx.semaphore").new() }
--- handler
    go:wait(60)
    report(ws:state())
    report(ws:send("x"))
    report(ws:recv())
--- response_body eval
qq{136 } . ::brief("\x03\xe8") . qq{\n"" "closed"\n}
--- results
"closed"
nil "closed"
nil "closed" 1000 ""



=== TEST 6: our close: 1000 without a reason by default, and the peer's answer is awaited
--- client
    local p = peer.connect()
    say(p:receive())
    say(closing.ws:state(), closing.ws:close_info())
    say(closing.ws:send("x"))
    p:send(peer.frame(0x88, "\3\232"))
    say(p:rest())
    p:close()
--- http_config
    init_by_lua_block { closing = {} }
--- handler
    closing.ws = ws
    report(ws:close())
    report(ws:state())
    report(ws:close_info())
    report(ws:recv())
--- response_body eval
qq{136 } . ::brief("\x03\xe8") . qq{\n"closing"\nnil "closed"\n"" "closed"\n}
--- results
true
"closed"
1000 "" true
nil "closed" 1000 ""



=== TEST 7: our code and reason; the peer answers with another
--- client
    local p = peer.connect()
    say(p:receive())
    p:send(peer.frame(0x88, "\15\161mine"))
    say(p:rest())
    p:close()
--- handler
    report(ws:close(4000, "enough", 60000))
    report(ws:close_info())
--- response_body eval
qq{136 } . ::brief("\x0f\xa0enough") . qq{\n"" "closed"\n}
--- results
true
4001 "mine" true



=== TEST 8: what the peer sends before its close frame is passed over
--- client
    local p = peer.connect()
    p:receive()
    p:send(peer.frame(0x81, "late") .. peer.frame(0x89, "late") .. peer.frame(0x01, "half") .. peer.frame(0x88, ""))
    say(p:rest())
    p:close()
--- handler
    report(ws:close())
    report(ws:recv())
--- response_body
"" "closed"
--- results
true
nil "closed" 1005 ""



=== TEST 9: the peer does not answer
--- client
    local p = peer.connect()
    say(p:receive())
    say(p:rest())
    p:close()
--- handler
    report(ws:close(1001, "bye", 20))
    report(ws:state())
    report(ws:close_info())
    report(ws:recv())
    report(ws:close())
--- response_body eval
qq{136 } . ::brief("\x03\xe9bye") . qq{\n"" "closed"\n}
--- results
nil "timeout"
"closed"
1006 "closed" false
nil "closed" 1006 "closed"
true



=== TEST 10: a time-out of 0 does not wait
--- handler
    report(ws:close(1000, "", 0))
    report(ws:state())
--- frames
close 1000 ""
--- results
nil "timeout"
"closed"



=== TEST 11: the peer goes away instead of answering
--- client
    local p = peer.connect()
    say(p:receive())
    p:close()
--- handler
    report(ws:close())
    report(ws:close_info())
--- response_body eval
qq{136 } . ::brief("\x03\xe8") . "\n"
--- results
true
1006 "connection lost" false



=== TEST 12: closing twice, and closing what is closed
--- handler
    report(ws:recv())
    report(ws:close())
    report(ws:close(4000))
    report(ws:close_info())
--- send eval: ::masked(0x88, "\x03\xe9")
--- frames
close 1001 ""
--- results
nil "closed" 1001 ""
true
true
1001 "" true



=== TEST 13: both close at the same moment: one close frame each
--- client
    local p = peer.connect()
    p:send(peer.frame(0x88, "\3\233"))
    say(#(p:rest()))
    p:close()
--- handler
    report(ws:close(4000))
    report(ws:close_info())
--- response_body
4
--- results
true
1001 "" true



=== TEST 14: close() while another light thread receives
--- client
    local p = peer.connect(peer.frame(0x81, "one"))
    say(p:receive())
    p:send(peer.frame(0x88, "\3\232ok"))
    say(p:rest())
    p:close()
--- handler
    local reader = ngx.thread.spawn(function()
        for data in ws:messages() do report(data) end
        return ws:close_info()
    end)
    report(ws:close(1000, "bye"))
    report(ngx.thread.wait(reader))
--- response_body eval
qq{136 } . ::brief("\x03\xe8bye") . qq{\n"" "closed"\n}
--- results
"one"
true
true 1000 "ok" true



=== TEST 15: two light threads close
--- client
    local p = peer.connect()
    say(p:receive())
    p:send(peer.frame(0x88, "\3\232"))
    say(p:rest())
    p:close()
--- handler
    local other = ngx.thread.spawn(function() return ws:close(4001) end)
    report(ws:close(4002))
    report(ngx.thread.wait(other))
--- response_body eval
qq{136 } . ::brief("\x0f\xa1") . qq{\n"" "closed"\n}
--- results
true
true true



=== TEST 16: shutdown() drops the connection at once, without a close frame
--- client
    local p = peer.connect()
    say(p:rest())
    p:close()
--- handler
    ws:send("never sent")
    ws:shutdown()
    report(ws:state())
    report(ws:close_info())
    report(ws:recv())
    report(ws:send("x"))
    report(ws:buffered())
    ws:shutdown()
--- response_body
"" "closed"
--- results
"closed"
1006 "closed" false
nil "closed" 1006 "closed"
nil "closed"
0



=== TEST 17: shutdown() wakes the light thread that receives
--- handler
    local reader = ngx.thread.spawn(function() return ws:recv() end)
    ws:shutdown()
    report(ngx.thread.wait(reader))
--- frames
--- results
true nil "closed" 1006 "closed"



=== TEST 18: what was sent leaves before the close frame of a handler that ends
--- handler
    ws:send("bye")
--- frames
text "bye"
close 1000 ""



=== TEST 19: codes that must not be sent, and other wrong arguments
--- handler
    local function try(...)
        local ok, err = pcall(function(...) ws:close(...) return 1 end, ...)
        report((tostring(err):gsub("^content_by_lua%b():%d+: ", "here: ")))
    end
    for _, code in ipairs { 0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65536, -1, 1000.5, 0/0 } do
        try(code)
    end
    try("1000")
    try(1000, {})
    try(1000, 5)
    try(1000, ("r"):rep(124))
    try(1000, "\255")
    try(1000, "r", "1s")
    try(1000, "r", -1)
    report(ws:state())
--- frames
close 1000 ""
--- results
"here: bad "code" argument: not a close code that may be sent"
"here: bad "code" argument: not a close code that may be sent"
"here: bad "code" argument: not a close code that may be sent"
"here: bad "code" argument: not a close code that may be sent"
"here: bad "code" argument: not a close code that may be sent"
"here: bad "code" argument: not a close code that may be sent"
"here: bad "code" argument: not a close code that may be sent"
"here: bad "code" argument: not a close code that may be sent"
"here: bad "code" argument: not a close code that may be sent"
"here: bad "code" argument: not a close code that may be sent"
"here: bad "code" argument: not a close code that may be sent"
"here: bad "code" argument: not a close code that may be sent"
"here: bad "code" argument: not a close code that may be sent"
"here: bad "code" argument: number expected, got string"
"here: bad "reason" argument: string expected, got table"
"here: bad "reason" argument: string expected, got number"
"here: bad "reason" argument: longer than 123 bytes"
"here: bad "reason" argument: invalid utf-8"
"here: bad "timeout" argument: milliseconds expected"
"here: bad "timeout" argument: milliseconds expected"
"open"



=== TEST 20: the longest reason
--- handler
    report(ws:close(4999, ("r"):rep(123), 1))
--- frames eval
'close 4999 ' . ::brief("r" x 123) . "\n"
--- results
nil "timeout"



=== TEST 21: queued messages go out before the close frame
--- handler
    for n = 1, 3 do ws:send("message " .. n) end
    ws:close(1000, "", 10)
--- frames
text "message 1"
text "message 2"
text "message 3"
close 1000 ""



=== TEST 22: close() in the middle of the peer's message
--- client
    local p = peer.connect(peer.frame(0x01, "half"))
    p:receive()
    p:send(peer.frame(0x80, "other half") .. peer.frame(0x88, "\3\232"))
    say(p:rest())
    p:close()
--- handler
    report(ws:close(1000, "", 60000))
    report(ws:close_info())
--- response_body
"" "closed"
--- results
true
1000 "" true



=== TEST 23: who closes as well is told of the time-out, too
--- client
    local p = peer.connect()
    say(p:receive_close())
    p:close()
--- handler
    local second = ngx.thread.spawn(function()
        ngx.sleep(0.01)
        return ws:close(4000, "", 60000)
    end)
    report(ws:close(1000, "", 100))
    report(select(2, ngx.thread.wait(second)))
--- response_body
1000 "" "" "closed"
--- results
nil "timeout"
nil "timeout"
