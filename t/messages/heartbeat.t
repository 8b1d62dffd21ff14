# ping_interval and ping_timeout: who is pinged and when, who is given up, and that no Lua code takes
# part. Times are short; what they are compared with leaves room for a busy machine.

use Test::Nginx::Socket::Lua;
use t::Message;

add_block_preprocessor(sub { complete_message_block(@_) });
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: an idle peer is pinged again and again while it answers
--- options: { ping_interval = 10, ping_timeout = 30000 }
--- client
    local p = peer.connect()
    for _ = 1, 5 do
        say(p:receive())
        p:send(peer.frame(0x8a, ""))
    end
    p:send(peer.frame(0x88, ""))
    p:rest()
    p:close()
--- handler
    report(ws:recv())
--- response_body
137 ""
137 ""
137 ""
137 ""
137 ""
--- results
nil "closed" 1005 ""



=== TEST 2: pings need no Lua: the handler neither reads nor sends
--- options: { ping_interval = 10, ping_timeout = 30000 }
--- client
    local p = peer.connect()
    for _ = 1, 3 do
        say(p:receive())
        p:send(peer.frame(0x8a, ""))
    end
    go:post()
    p:close()
--- http_config
    init_by_lua_block { go = require("ngx.semaphore").new() }
--- handler
    go:wait(5)
--- response_body
137 ""
137 ""
137 ""



=== TEST 3: a dead peer is given up after interval and time-out, and not before
--- options: { ping_interval = 40, ping_timeout = 60 }
--- client
    local p = peer.connect()
    local bytes, how = p:rest()
    say(bytes == "\137\0", how)
    p:close()
--- handler
    local began = ngx.now()
    report(ws:recv())
    ngx.update_time()
    local took = ngx.now() - began
    report(took >= 0.055)
    report(ws:close_info())
    report(ws:state())
    report(ws:send("x"))
    report(ws:recv())
--- response_body
true "closed"
--- results
nil "ping timeout" 1006 "ping timeout"
true
1006 "ping timeout" false
"closed"
nil "closed"
nil "ping timeout" 1006 "ping timeout"



=== TEST 4: a dead peer is dropped while the handler does something else
--- options: { ping_interval = 10, ping_timeout = 10 }
--- client
    local p = peer.connect()
    p:rest()
    go:post()
    p:close()
    say("dropped")
--- http_config
    init_by_lua_block { go = require("ngx.semaphore").new() }
--- handler
    report(go:wait(30))
    report(ws:recv())
--- response_body
"dropped"
--- results
true
nil "ping timeout" 1006 "ping timeout"



=== TEST 5: a sender that waits for a dead peer is told
--- options: { ping_interval = 10, ping_timeout = 20 }
--- client
    local p = peer.connect()
    gone:wait(30)
    p:close()
    say("over")
--- http_config
    init_by_lua_block { gone = require("ngx.semaphore").new() }
--- handler
    local sent, err
    repeat
        sent, err = ws:send(("x"):rep(2^20), "binary")
    until not sent
    report(err)
    report(ws:close_info())
    gone:post()
--- response_body
"over"
--- results
"closed"
1006 "ping timeout" false
--- timeout: 40



=== TEST 6: a peer that sends is not pinged
--- options: { ping_interval = 1000 * SLOW, ping_timeout = 30000 }
--- client
    local p = peer.connect()
    local until_ = ngx.now() + 1.5 * SLOW
    repeat
        p:send(peer.frame(0x81, "busy"))
        ngx.sleep(0.01)
    until ngx.now() > until_
    p:send(peer.frame(0x88, "\3\232"))
    -- The first ping may come at any time before the client has sent anything.
    say(#(p:rest():gsub("^\137%z", "")))
    p:close()
--- handler
    for _ in ws:messages() do end
    report(ws:close_info())
--- response_body
4
--- results
1000 "" true



=== TEST 7: parts of a frame are a sign of life too
--- options: { ping_interval = 1000, ping_timeout = 30000 }
--- client
    local p = peer.connect()
    p:send("\130\254\1\0\0\0\0\0")
    for _ = 1, 0x100 / 4 do
        p:send("part")
        ngx.sleep(0.025)
    end
    p:send(peer.frame(0x88, "\3\232"))
    -- The first ping may come at any time before the client has sent anything.
    say(#(p:rest():gsub("^\137%z", "")))
    p:close()
--- handler
    local data = ws:recv()
    report(#data)
    report(ws:recv())
--- response_body
4
--- results
256
nil "closed" 1000 ""



=== TEST 8: after a ping any byte counts as the answer
--- options: { ping_interval = 20, ping_timeout = 30000 }
--- client
    local p = peer.connect()
    for _ = 1, 3 do
        say(p:receive())
        p:send(peer.frame(0x81, "no pong"))
    end
    p:send(peer.frame(0x88, ""))
    p:rest()
    p:close()
--- handler
    for data in ws:messages() do report(data) end
--- response_body
137 ""
137 ""
137 ""
--- results
"no pong"
"no pong"
"no pong"



=== TEST 9: off by default
--- client
    local p = peer.connect()
    p.sock:settimeout(100)
    say(p:receive())
    p:close()
--- handler
    ws:recv()
--- response_body
nil "timeout"



=== TEST 10: by directives
--- directives
    websocket_ping_interval 20ms;
    websocket_ping_timeout 30ms;
--- handler
    report(ws:recv())
--- frames
ping ""
--- results
nil "ping timeout" 1006 "ping timeout"



=== TEST 11: the option goes before the directive: off
--- directives: websocket_ping_interval 10ms;
--- options: { ping_interval = 0 }
--- client
    local p = peer.connect()
    p.sock:settimeout(100)
    say(p:receive())
    p:close()
--- handler
    ws:recv()
--- response_body
nil "timeout"



=== TEST 12: the option goes before the directive: sooner
--- directives
    websocket_ping_interval 1h;
    websocket_ping_timeout 1h;
--- options: { ping_interval = 10, ping_timeout = 20 }
--- handler
    report(ws:recv())
--- frames
ping ""
--- results
nil "ping timeout" 1006 "ping timeout"



=== TEST 13: a full inbox stops the clock: the peer cannot be heard
--- options: { ping_interval = 20, ping_timeout = 20 }
--- client
    local p = peer.connect(peer.frame(0x81, "x"):rep(64) .. peer.frame(0x8a, ""))
    ngx.sleep(0.2)
    say(slow.ws:state())
    slow.go:post()
    say(p:receive())
    say(p:rest())
    p:close()
--- http_config
    init_by_lua_block { slow = { go = require("ngx.semaphore").new() } }
--- handler
    slow.ws = ws
    slow.go:wait(30)
    local n = 0
    for data in ws:messages() do n = n + 1 end
    report(n, ws:close_info())
--- response_body
"open"
137 ""
"" "closed"
--- results
64 1006 "ping timeout" false



=== TEST 14: no ping follows our close frame
--- options: { ping_interval = 10, ping_timeout = 10 }
--- handler
    report(ws:close(1000, "", 100))
--- frames
close 1000 ""
--- results
nil "timeout"



=== TEST 15: pings go between the fragments of a stream
--- options: { ping_interval = 10, ping_timeout = 30000 }
--- client
    local p = peer.connect()
    say(p:receive())
    say(p:receive())
    go:post()
    repeat
        local first, data = p:receive()
    until first ~= 137
    say("end of the stream")
    p:close()
--- http_config
    init_by_lua_block { go = require("ngx.semaphore").new() }
--- handler
    local writer = ws:send_stream("text")
    writer:write("a")
    go:wait(5)
    writer:finish()
--- response_body
1 "a"
137 ""
"end of the stream"



=== TEST 16: pings and time-outs are counted
--- options: { ping_interval = 10, ping_timeout = 10 }
--- handler
    local before = websocket.info()
    ws:recv()
    local after = websocket.info()
    report(after.pings_sent - before.pings_sent, after.ping_timeouts - before.ping_timeouts)
--- results
1 1
