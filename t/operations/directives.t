# The directives that concern one connection: what each does, that http, server and location inherit
# from each other, and that options of a handler go before them. How nginx refuses wrong ones is in
# directives-refused.t; the hub's directives have files of their own.

use Test::Nginx::Socket::Lua;
use t::Message;

add_block_preprocessor(sub {
    my $block = shift;
    # Three levels: the location of the handler and two more, in the same and in another server.
    if (defined(my $levels = $block->levels)) {
        my ($http, $server, $location) = map { ($_ // '') =~ s/^\s+|\s+$//gr } (split /\n/, $levels, 3)[0 .. 2];
        my $location_code = 'content_by_lua_block { ' . $block->probe . ' }';
        my $port = server_port();
        $block->set_value(http_config => <<"END");
    $http
    server {
        listen $port;
        server_name other.test;
        location = /from-http { $location_code }
    }
END
        $block->set_value(config => <<"END");
        $server
        location = /from-server { $location_code }
        location = /own { $location $location_code }
        location /outer {
            $location
            location = /outer/inner { $location_code }
        }
        location = /t {
            lua_socket_log_errors off;
            content_by_lua_block {
                local peer = require "t.peer"
                local lines = "Sec-WebSocket-Extensions: permessage-deflate\\r\\n"
                for _, path in ipairs { "/from-http", "/from-server", "/own", "/outer/inner" } do
                    local host = path == "/from-http" and "other.test" or "localhost"
                    local sock = ngx.socket.tcp()
                    sock:connect("127.0.0.1", $port)
                    sock:send("GET " .. path .. " HTTP/1.1\\r\\nHost: " .. host .. "\\r\\n"
                        .. "Upgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
                        .. "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n"
                        .. "Sec-WebSocket-Version: 13\\r\\n" .. lines .. "\\r\\n"
                        .. peer.frame(0x82, ("x"):rep(1000)))
                    local head = sock:receiveuntil("\\r\\n\\r\\n")()
                    ngx.say(path, ": ", sock:receive("*a") or "", head:match("Extensions: ([^\\r]*)"))
                end
            }
        }
END
        $block->set_value(request => "GET /t\n");
    }
    complete_message_block($block);
});
repeat_each(2);
plan('no_plan');
no_long_string();
our $TOO_LONG = "\x88\x1b\x03\xf1exceeding max payload lennil";
run_tests();

__DATA__

=== TEST 1: websocket_max_message_size: inheritance
--- levels
websocket_max_message_size 10;
websocket_max_message_size 1000;
websocket_max_message_size 2k;
--- probe
local ws = require("resty.websocket").accept { compression = false }
local data, err = ws:recv()
ngx.log(ngx.INFO, "result: ", ngx.var.uri, " ", data and #data or err)
ws:shutdown()
--- response_body eval
"/from-http: $::TOO_LONG\n/from-server: nil\n/own: nil\n/outer/inner: nil\n"
--- grep_error_log eval: qr/(?<=result: ).*?(?=, client: )/
--- grep_error_log_out
/from-http exceeding max payload len
/from-server 1000
/own 1000
/outer/inner 1000



=== TEST 2: websocket_max_message_size: what is not given comes from above
--- levels
websocket_max_message_size 10;


--- probe
local ws = require("resty.websocket").accept { compression = false }
local data, err = ws:recv()
ngx.log(ngx.INFO, "result: ", ngx.var.uri, " ", data and #data or err)
ws:shutdown()
--- response_body eval
"/from-http: $::TOO_LONG\n/from-server: $::TOO_LONG\n/own: $::TOO_LONG\n/outer/inner: $::TOO_LONG\n"
--- grep_error_log eval: qr/(?<=result: ).*?(?=, client: )/
--- grep_error_log_out
/from-http exceeding max payload len
/from-server exceeding max payload len
/own exceeding max payload len
/outer/inner exceeding max payload len



=== TEST 3: websocket_recv_timeout and websocket_ping_*: inheritance
--- levels
websocket_recv_timeout 10ms; websocket_ping_interval 1h; websocket_ping_timeout 1h;
websocket_recv_timeout 1h; websocket_ping_interval 20ms; websocket_ping_timeout 10ms;
websocket_recv_timeout 30ms; websocket_ping_interval 0;
--- probe
local ws = require("resty.websocket").accept { compression = false }
ws:recv()
local _, err = ws:recv()
ngx.log(ngx.INFO, "result: ", ngx.var.uri, " ", err)
ws:shutdown()
--- response_body eval
"/from-http: nil\n/from-server: \x89\0nil\n/own: nil\n/outer/inner: nil\n"
--- grep_error_log eval: qr/(?<=result: ).*?(?=, client: )/
--- grep_error_log_out
/from-http timeout
/from-server ping timeout
/own timeout
/outer/inner timeout



=== TEST 4: websocket_compression: inheritance, all parameters at once
--- levels
websocket_compression on server_no_context_takeover server_max_window_bits=10;
websocket_compression off;
websocket_compression on client_no_context_takeover=on server_no_context_takeover=off level=1 threshold=0 client_max_window_bits=9;
--- probe
local ws = require("resty.websocket").accept()
ws:shutdown()
--- response_body
/from-http: permessage-deflate; server_no_context_takeover; server_max_window_bits=10
/from-server: nil
/own: permessage-deflate; client_no_context_takeover
/outer/inner: permessage-deflate; client_no_context_takeover



=== TEST 5: websocket_compression: threshold and level
--- directives: websocket_compression on threshold=10 level=9;
--- head
Sec-WebSocket-Extensions: permessage-deflate
--- handler
    ws:send(("x"):rep(9))
    ws:send(("x"):rep(10))
    ws:send(("abc"):rep(1000))
--- frames eval
qq{text "xxxxxxxxx"\ntext deflated "xxxxxxxxxx"\ntext deflated } . ::brief("abc" x 1000) . qq{\nclose 1000 ""\n}



=== TEST 6: websocket_recv_timeout: the option goes before it, and recv()'s argument before both
--- directives: websocket_recv_timeout 1h;
--- options: { timeout = 10 }
--- handler
    report(ws:recv())
    local began = ngx.now()
    report(ws:recv(60))
    ngx.update_time()
    report(ngx.now() - began >= 0.055)
--- results
nil "timeout"
nil "timeout"
true



=== TEST 7: websocket_recv_timeout: in seconds without a unit
--- directives: websocket_recv_timeout 1;
--- handler
    report(ws:recv())
--- results
nil "timeout"



=== TEST 8: websocket_send_timeout: the option goes before it
--- directives: websocket_send_timeout 1h;
--- options: { send_timeout = 50 }
--- client
    local p = peer.connect()
    over:wait(5)
    p:close()
    say("over")
--- http_config
    init_by_lua_block { over = require("ngx.semaphore").new() }
--- handler
    local ok, err
    repeat
        ok, err = ws:send(("x"):rep(1000000), "binary")
    until not ok
    report(err)
    report(ws:state())
    over:post()
--- response_body
"over"
--- results
"timeout"
"open"
--- timeout: 10



=== TEST 9: websocket_send_timeout and websocket_send_buffer
--- directives
    websocket_send_timeout 50ms;
    websocket_send_buffer 64k;
--- client
    local p = peer.connect()
    over:wait(5)
    p:close()
    say("over")
--- http_config
    init_by_lua_block { over = require("ngx.semaphore").new() }
--- handler
    local ok, err
    repeat
        ok, err = ws:send(("x"):rep(50000), "binary")
    until not ok
    report(err)
    report(ws:buffered() > 65536, ws:buffered() <= 65536 + 50010)
    over:post()
--- response_body
"over"
--- results
"timeout"
true true
--- timeout: 10



=== TEST 10: the directives say nothing about drop-in objects' limits and times
--- directives
    websocket_max_message_size 1;
    websocket_recv_timeout 1ms;
    websocket_ping_interval 1ms;
    websocket_ping_timeout 1ms;
    websocket_compression on;
--- config
    location = /ws {
        websocket_max_message_size 1;
        websocket_recv_timeout 1ms;
        websocket_ping_interval 1ms;
        websocket_ping_timeout 1ms;
        websocket_compression on;
        content_by_lua_block {
            local peer = require "t.peer"
            local wb = require("resty.websocket.server"):new { timeout = 5000 }
            peer.report(wb:recv_frame())
            peer.report(wb:recv_frame())
        }
    }
--- head
Sec-WebSocket-Extensions: permessage-deflate
--- send eval: [::masked(0x81, "message"), ::masked(0x81, "another")]
--- raw_request_middle_delay: 0.05
--- response_headers
! Sec-WebSocket-Extensions
--- response_body
--- results
"message" "text" nil
"another" "text" nil
