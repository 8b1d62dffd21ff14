# The end of a handler that has not closed: 1000 where it returns, 1011 where it fails
# (websocket_handler_close).

use Test::Nginx::Socket::Lua;
use t::Message;

add_block_preprocessor(sub { complete_message_block(@_) });
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: it returns
--- handler
    report(ws:recv())
--- send eval: ::masked(0x81, "a")
--- frames
close 1000 ""
--- results
"a" "text"



=== TEST 2: it returns at once, behind what it sent
--- handler
    ws:send("last")
--- send
--- frames
text "last"
close 1000 ""
--- results



=== TEST 3: it returns after something else than the connection has woken it
--- handler
    ws:send("first")
    ngx.sleep(0.01)
    report(ws:state())
--- send
--- frames
text "first"
close 1000 ""
--- results
"open"



=== TEST 4: it raises
--- handler
    ws:recv()
    error("no more")
--- send eval: ::masked(0x81, "a")
--- frames
close 1011 ""
--- no_error_log
[alert]
[crit]
--- error_log
no more



=== TEST 5: ngx.exit(444) says nothing
--- handler
    ws:send("last")
    ws:recv()
    ngx.exit(444)
--- send eval: ::masked(0x81, "a")
--- frames
text "last"



=== TEST 6: websocket_handler_close off
--- directives
    websocket_handler_close off;
--- handler
    ws:recv()
--- send eval: ::masked(0x81, "a")
--- frames



=== TEST 7: a handler that has closed says nothing more
--- handler
    ws:close(4000, "bye", 0)
--- send
--- frames
close 4000 "bye"



=== TEST 8: nor one whose peer has closed
--- handler
    report(ws:recv())
--- send eval: ::masked(0x88, "\x03\xe9")
--- frames
close 1001 ""
--- results
nil "closed" 1001 ""



=== TEST 9: the handler ends with its last light thread
--- handler
    ngx.thread.spawn(function()
        ngx.sleep(0.01)
        ws:send("later")
    end)
--- send
--- frames
text "later"
close 1000 ""



=== TEST 10: a light thread that raises is no handler that does
--- handler
    ngx.thread.wait(ngx.thread.spawn(function() error("no more") end))
--- send
--- frames
close 1000 ""
--- no_error_log
[alert]
--- error_log
no more



=== TEST 11: what was sent waits behind a peer that does not read, and the close frame behind that
--- client
    local p = peer.connect()
    go:wait(5)
    local n = 0
    repeat
        local first, data = p:receive()
        n = n + #data
    until first ~= 0x82
    say(n)
    say(p:rest())
    p:close()
--- http_config
    init_by_lua_block { go = require("ngx.semaphore").new() }
--- directives
    websocket_send_buffer 16m;
--- handler
    for _ = 1, 8 do ws:send(("x"):rep(65535), "binary") end
    go:post()
--- response_body
524282
"" "closed"



=== TEST 12: ngx.exit(ngx.OK) is a return; ngx.exit(ngx.ERROR), 408 and 499 say that the handler failed
--- client
    local function ended(path)
        local p = peer.connect(nil, path)
        say(p:receive_close())
        p:close()
    end
    ended("/ok")
    for _, status in ipairs { ngx.ERROR, 408, 499 } do
        ended("/fails?" .. status)
    end
--- config
    location = /ok {
        content_by_lua_block {
            assert(require("resty.websocket").accept())
            ngx.exit(ngx.OK)
        }
    }
    location = /fails {
        content_by_lua_block {
            assert(require("resty.websocket").accept())
            ngx.exit(tonumber(ngx.var.args))
        }
    }
--- response_body
1000 "" "" "closed"
1011 "" "" "closed"
1011 "" "" "closed"
1011 "" "" "closed"



=== TEST 13: a drop-in object sends nothing by itself, whatever it is read with
--- client
    local p = peer.connect(peer.frame(0x81, "a"), "/drop-in")
    say(p:rest())
    p:close()
--- config
    location = /drop-in {
        content_by_lua_block {
            local wb = assert(require("resty.websocket.server"):new())
            wb:recv()
        }
    }
--- response_body
"" "closed"
