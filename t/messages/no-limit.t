# Times of 0: no limit in directives and options, a look without waiting for recv(0). No loop of the
# module's own keeps other events from running.

use Test::Nginx::Socket::Lua;
use t::Message;

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(http_config => 'init_by_lua_block { go = require("ngx.semaphore").new() }')
      if !defined $block->http_config;
    complete_message_block($block);
});
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: timeout = 0: recv waits for as long as it takes
--- options: { timeout = 0 }
--- client
    local p = peer.connect()
    say(go:wait(5))
    ngx.sleep(0.05)
    p:send(peer.frame(0x81, "late"))
    p:rest()
    p:close()
--- handler
    go:post()
    report(ws:recv())
--- response_body
true
--- results
"late" "text"



=== TEST 2: websocket_recv_timeout 0: messages() waits, and other requests are answered
--- directives: websocket_recv_timeout 0;
--- client
    local p = peer.connect()
    say(go:wait(5))
    ngx.sleep(0.05)
    p:send(peer.frame(0x81, "late") .. peer.frame(0x88, ""))
    p:rest()
    p:close()
--- handler
    go:post()
    for data, typ in ws:messages() do
        report(data, typ)
    end
    report(ws:close_info())
--- response_body
true
--- results
"late" "text"
1005 "" true



=== TEST 3: recv(0) looks, and does not wait
--- options: { timeout = 0 }
--- client
    local p = peer.connect()
    say(go:wait(5))
    p:send(peer.frame(0x81, "here"))
    p:rest()
    p:close()
--- handler
    report(ws:recv(0))
    go:post()
    local data, typ
    repeat
        ngx.sleep(0.001)
        data, typ = ws:recv(0)
    until data
    report(data, typ)
--- response_body
true
--- results
nil "timeout"
"here" "text"



=== TEST 4: a drop-in object without any time: messages() lets other events run all the same
--- config
    location = /drop-in {
        lua_socket_read_timeout 0;
        content_by_lua_block {
            local wb = assert(require("resty.websocket.server"):new())
            go:post()
            for data in wb:messages() do
                wb:send(data)
            end
        }
    }
--- client
    local p = peer.connect(nil, "/drop-in")
    say(go:wait(5))
    ngx.sleep(0.05)
    p:send(peer.frame(0x81, "late"))
    say(p:receive())
    p:close()
--- response_body
true
129 "late"



=== TEST 5: send_timeout = 0: a sender waits for as long as the peer does not read
--- options: { send_timeout = 0 }
--- client
    local p = peer.connect()
    say(go:wait(5))
    ngx.sleep(0.05)
    local all = p:rest()
    say(#all > 8 * 1024 * 1024)
    p:close()
--- handler
    go:post()
    report(ws:send(("x"):rep(8 * 1024 * 1024)) ~= nil)
--- response_body
true
true
--- results
true



=== TEST 6: ping_timeout = 0: who is silent is pinged again and again, and kept
--- options: { ping_interval = 10, ping_timeout = 0 }
--- client
    local p = peer.connect()
    for _ = 1, 4 do
        say(p:receive())
    end
    p:send(peer.frame(0x81, "still here"))
    p:rest()
    p:close()
--- handler
    report(ws:recv())
--- response_body
137 ""
137 ""
137 ""
137 ""
--- results
"still here" "text"



=== TEST 7: connect(): timeout = 0 waits too, send_timeout = 0 is taken
--- config
    location = /late {
        content_by_lua_block {
            local ws = assert(require("resty.websocket").accept())
            go:wait(5)
            ngx.sleep(0.05)
            ws:send("late")
        }
    }
--- client
    local ws = assert(websocket.connect("ws://127.0.0.1:" .. ngx.var.server_port .. "/late",
                                        { timeout = 0, send_timeout = 0 }))
    say(ws:recv(0))
    go:post()
    say(ws:recv())
    ws:close()
--- response_body
nil "timeout"
"late" "text"
