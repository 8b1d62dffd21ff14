# recv() and messages(): whole messages whatever way their bytes come, control frames served on the
# side, time-outs that lose nothing, and who may call. Broken rules are in broken-rules.t, limits in
# limits.t.

use Test::Nginx::Socket::Lua;
use t::Message;

add_block_preprocessor(sub { complete_message_block(@_) });
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: text and binary
--- handler
    for _ = 1, 4 do report(ws:recv()) end
--- send eval
::masked(0x81, "text") . ::masked(0x82, "binary") . ::masked(0x81, "") . ::masked(0x82, "")
--- results
"text" "text"
"binary" "binary"
"" "text"
"" "binary"



=== TEST 2: every class of length
--- options: { max_message_size = "2m" }
--- handler
    for _ = 1, 7 do report(ws:recv()) end
--- send eval
CORE::join "", map { ::masked(0x82, ::pattern($_)) } 125, 126, 127, 65535, 65536, 131072, 1048576
--- results eval
CORE::join "", map { ::brief(::pattern($_)) . " \"binary\"\n" } 125, 126, 127, 65535, 65536, 131072, 1048576



=== TEST 3: 16 MiB, and what follows it
--- options: { max_message_size = "16m" }
--- handler
    report(ws:recv())
    report(ws:recv())
--- send eval
::masked(0x82, ::pattern(16 * 1024 * 1024)) . ::masked(0x81, "after")
--- results eval
::brief(::pattern(16 * 1024 * 1024)) . " \"binary\"\n\"after\" \"text\"\n"
--- timeout: 20



=== TEST 4: fragments are joined
--- handler
    for _ = 1, 3 do report(ws:recv()) end
--- send eval
::masked(0x01, "one ") . ::masked(0x00, "two ") . ::masked(0x80, "three")
. ::masked(0x02, "") . ::masked(0x00, "") . ::masked(0x80, "")
. ::masked(0x02, ::pattern(70000)) . ::masked(0x80, ::pattern(70000))
--- results eval
"\"one two three\" \"text\"\n\"\" \"binary\"\n" . ::brief(::pattern(70000) x 2) . " \"binary\"\n"



=== TEST 5: a character cut between fragments
--- handler
    report(ws:recv())
--- send eval
::masked(0x01, "\xe2") . ::masked(0x00, "") . ::masked(0x00, "\x82") . ::masked(0x80, "\xac!")
--- results eval
::brief("\xe2\x82\xac!") . " \"text\"\n"



=== TEST 6: control frames between fragments
--- handler
    report(ws:recv())
--- send eval
::masked(0x01, "a") . ::masked(0x89, "p1") . ::masked(0x00, "b") . ::masked(0x8a, "p2") . ::masked(0x89, "") . ::masked(0x80, "c")
--- frames
pong "p1"
pong ""
close 1000 ""
--- results
"abc" "text"



=== TEST 7: byte by byte
--- handler
    report(ws:recv())
    report(ws:recv())
--- send eval
::bytewise(::masked(0x01, "one "), ::masked(0x89, "ping"), ::masked(0x80, "two"), ::masked(0x82, "x" x 130))
--- frames
pong "ping"
close 1000 ""
--- results eval
"\"one two\" \"text\"\n" . ::brief("x" x 130) . " \"binary\"\n"



=== TEST 8: pings are answered while the handler sleeps, and when it never reads
--- client
    local p = peer.connect()
    p:send(peer.frame(0x89, "anybody there?"))
    say(p:receive())
    p:send(peer.frame(0x89, "") .. peer.frame(0x89, ("x"):rep(125)))
    say(p:receive())
    say(p:receive())
    wake:post()
    say(p:receive_close())
    p:close()
--- http_config
    init_by_lua_block { wake = require("ngx.semaphore").new() }
--- handler
    wake:wait(5)
    report(ws:state())
--- response_body eval
qq{138 "anybody there?"\n138 ""\n138 } . ::brief("x" x 125) . qq{\n1000 "" "" "closed"\n}
--- results
"open"



=== TEST 9: pongs, asked for or not, are no messages
--- handler
    report(ws:recv())
--- send eval
::masked(0x8a, "") . ::masked(0x8a, "unasked") . ::masked(0x81, "message")
--- frames
close 1000 ""
--- results
"message" "text"



=== TEST 10: messages() until the peer closes
--- handler
    for data, typ in ws:messages() do report(data, typ) end
    report(ws:close_info())
    report(ws:state())
--- send eval
::masked(0x81, "a") . ::masked(0x82, "b") . ::masked(0x88, "\x03\xe8bye")
--- frames
close 1000 ""
--- results
"a" "text"
"b" "binary"
1000 "bye" true
"closed"



=== TEST 11: messages() goes on over time-outs
--- options: { timeout = 1 }
--- client
    local p = peer.connect()
    idle:wait(5)
    p:send(peer.frame(0x81, "late"))
    say(p:receive())
    p:close()
--- http_config
    init_by_lua_block { idle = require("ngx.semaphore").new() }
--- handler
    ngx.timer.at(0.02, function() idle:post() end)
    for data in ws:messages() do ws:send(data) end
    report(ws:close_info())
--- response_body
129 "late"
--- results
1006 "connection lost" false



=== TEST 12: a time-out, and the same object goes on
--- client
    local p = peer.connect("\x81\x85\0\0\0\0he")
    idle:wait(5)
    p:send("llo")
    say(p:receive())
    p:close()
--- http_config
    init_by_lua_block { idle = require("ngx.semaphore").new() }
--- handler
    report(ws:recv(10))
    report(ws:recv(0))
    report(ws:state(), ws:close_info())
    idle:post()
    report(ws:recv(5000))
    ws:send("hello")
--- response_body
129 "hello"
--- results
nil "timeout"
nil "timeout"
"open"
"hello" "text"



=== TEST 13: a time-out of 0 takes what is there
--- handler
    report(ws:recv())
    report(ws:recv(0))
    report(ws:recv(0))
--- send eval: ::masked(0x81, "one") . ::masked(0x81, "two")
--- results
"one" "text"
"two" "text"
nil "timeout"



=== TEST 14: the time-out counts from the call, whatever comes meanwhile
--- client
    local p = peer.connect()
    repeat
        p:send(peer.frame(0x89, ""))
    until not p:receive()
    p:close()
    say("over")
--- handler
    local began = ngx.now()
    report(ws:recv(50))
    ngx.update_time()
    report(ngx.now() - began >= 0.045)
--- response_body
"over"
--- results
nil "timeout"
true



=== TEST 15: a second receiver is refused, the first gets its message
--- client
    local p = peer.connect()
    say(p:receive())
    p:send(peer.frame(0x81, "for the first"))
    say(p:receive())
    p:close()
--- handler
    local first = ngx.thread.spawn(function() return ws:recv() end)
    report(ws:recv())
    report(ws:recv(0))
    ws:send("go")
    report(ngx.thread.wait(first))
    report(ws:send("end"))
--- response_body
129 "go"
129 "end"
--- results
nil "socket busy reading"
nil "socket busy reading"
true "for the first" "text"
5



=== TEST 16: a receiver that was killed leaves the place free
--- handler
    local first = ngx.thread.spawn(function() return ws:recv() end)
    report(ngx.thread.kill(first))
    report(ws:recv(0))
    ws:send("go")
    report(ws:recv(10))
--- frames
text "go"
close 1000 ""
--- results
1
nil "timeout"
nil "timeout"



=== TEST 17: one light thread receives while another sends
--- client
    local p = peer.connect()
    for n = 1, 100 do
        p:send(peer.frame(0x81, "in " .. n))
    end
    local seen = 0
    for n = 1, 100 do
        local first, data = p:receive()
        assert(first == 0x81 and data == "out " .. n)
        seen = seen + 1
    end
    say(seen)
    p:close()
--- handler
    local reader = ngx.thread.spawn(function()
        for n = 1, 100 do assert(ws:recv() == "in " .. n) end
        return "all read"
    end)
    for n = 1, 100 do
        assert(ws:send("out " .. n))
        if n % 10 == 0 then ngx.sleep(0.001) end
    end
    report(ngx.thread.wait(reader))
--- response_body
100
--- results
true "all read"



=== TEST 18: received in another request of the worker
--- client
    local p = peer.connect(peer.frame(0x81, "shared"))
    shared.ready:wait(5)
    say(shared.ws:recv())
    say(shared.ws:send("from elsewhere"))
    say(p:receive())
    shared.over:post()
    say(p:receive_close())
    say(shared.ws:recv())
    say(shared.ws:send("x"))
    say(shared.ws:ping())
    say(shared.ws:pong())
    say(shared.ws:send_stream("text"))
    say(shared.ws:state())
    say(shared.ws:buffered())
    say(shared.ws:close())
    say(shared.ws:shutdown())
    say(shared.ws:close_info())
    for _ in shared.ws:messages() do say("a message") end
    p:close()
--- http_config
    init_by_lua_block {
        local semaphore = require "ngx.semaphore"
        shared = { ready = semaphore.new(), over = semaphore.new() }
    }
--- handler
    shared.ws = ws
    shared.ready:post()
    shared.over:wait(5)
--- response_body
"shared" "text"
16
129 "from elsewhere"
1000 "" "" "closed"
nil "closed" 1000 ""
nil "closed"
nil "closed"
nil "closed"
nil "closed"
"closed"
0
nil "closed"

1000 "" false



=== TEST 19: received in a timer
--- client
    local p = peer.connect()
    p:send(peer.frame(0x81, "to the timer"))
    say(p:receive())
    say(p:receive_close())
    p:close()
--- handler
    local semaphore = require("ngx.semaphore").new()
    ngx.timer.at(0, function()
        local data, typ = ws:recv()
        ws:send(data .. ", " .. typ)
        semaphore:post()
    end)
    semaphore:wait(5)
    report(ws:state())
--- response_body
129 "to the timer, text"
1000 "" "" "closed"
--- results
"open"



=== TEST 20: a receiver elsewhere wakes up when the request ends
--- client
    local p = peer.connect()
    say(p:receive_close())
    ended:wait(5)
    p:close()
--- http_config
    init_by_lua_block {
        local semaphore = require "ngx.semaphore"
        waiting, ended = semaphore.new(), semaphore.new()
    }
--- handler
    ngx.timer.at(0, function()
        -- Who is woken by this runs once recv() has parked.
        waiting:post()
        local ok, err, code = ws:recv()
        ngx.log(ngx.INFO, "result: ", ok, " ", err, " ", code, ", client: none")
        ended:post()
    end)
    waiting:wait(5)
--- response_body
1000 "" "" "closed"
--- results
nil closed 1000
--- timeout: 10



=== TEST 21: messages that were not taken before the request ended
--- client
    local p = peer.connect(peer.frame(0x81, "one") .. peer.frame(0x81, "two"))
    say(p:receive_close())
    say(ws_of_old:recv())
    p:close()
--- http_config
    init_by_lua_block { ws_of_old = false }
--- handler
    ws_of_old = ws
    report(ws:recv())
--- response_body
1000 "" "" "closed"
nil "closed" 1000 ""
--- results
"one" "text"



=== TEST 22: messages before the close frame are handed out first
--- handler
    ngx.sleep(0.01)
    report(ws:state())
    report(ws:recv())
    report(ws:recv())
    report(ws:recv())
    report(ws:recv())
--- send eval
::masked(0x81, "one") . ::masked(0x82, "two") . ::masked(0x88, "\x0f\xa0why")
--- frames
close 4000 ""
--- results
"closed"
"one" "text"
"two" "binary"
nil "closed" 4000 "why"
nil "closed" 4000 "why"



=== TEST 23: nothing that follows the close frame is read
--- handler
    report(ws:recv())
    report(ws:recv())
--- send eval
::masked(0x88, "") . ::masked(0x81, "after") . ::masked(0x89, "after") . "\xff\xff\xff"
--- frames
close ""
--- results
nil "closed" 1005 ""
nil "closed" 1005 ""



=== TEST 24: wrong arguments
--- handler
    local function try(f, ...)
        local _, err = pcall(f, ...)
        report((tostring(err):gsub("^.-:%d+: ", "")))
    end
    try(ws.recv, ws, "1")
    try(ws.recv, ws, -1)
    try(ws.recv, ws, 0/0)
    try(ws.recv, ws, 2^31)
    try(ws.recv)
    try(ws.recv, {})
--- results
"bad "timeout" argument: milliseconds expected"
"bad "timeout" argument: milliseconds expected"
"bad "timeout" argument: milliseconds expected"
"bad "timeout" argument: milliseconds expected"
"attempt to index local 'self' (a nil value)"
"not initialized yet"



=== TEST 25: the connection is lost without a close frame
--- handler
    report(ws:recv())
    report(ws:recv())
    report(ws:close_info())
    report(ws:send("x"))
    report(ws:state())
--- client
    local p = peer.connect(peer.frame(0x81, "last"))
    p:close()
    say("gone")
--- response_body
"gone"
--- results
"last" "text"
nil "connection lost" 1006 "connection lost"
1006 "connection lost" false
nil "closed"
"closed"



=== TEST 26: the connection is lost in the middle of a message
--- handler
    report(ws:recv())
--- client
    local p = peer.connect("\x81\x85\0\0\0\0he")
    p:close()
    say("gone")
--- response_body
"gone"
--- results
nil "connection lost" 1006 "connection lost"



=== TEST 27: thousands of messages in one packet
--- handler
    local n, bytes = 0, 0
    for data in ws:messages() do n, bytes = n + 1, bytes + #data end
    report(n, bytes)
--- send eval
(CORE::join "", map { ::masked(0x81, "m" x ($_ % 50)) } 1 .. 5000) . ::masked(0x88, "\x03\xe8")
--- frames
close 1000 ""
--- results
5000 122500
