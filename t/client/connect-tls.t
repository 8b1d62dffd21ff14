# websocket.connect() over TLS: certificates are verified unless it is told not to. What the drop-in
# client does with names and client certificates is in tls.t.

use Test::Nginx::Socket::Lua;
use t::Connect;

certificates();
add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(tls => 1);
    complete_connect_block($block);
});
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: a verified certificate
--- directives: lua_ssl_trusted_certificate CERT_DIR/ca.pem;
--- client
    local ws = assert(websocket.connect("wss://127.0.0.1:TLS_PORT/ws", { server_name = "ws.test" }))
    ws:send("over TLS")
    say(ws:recv())
    local large = ("x"):rep(2^20)
    ws:send(large, "binary")
    say((ws:recv()) == large)
    say(ws:close())
    say(ws:close_info())
--- response_body
"over TLS" "text"
true
true
1000 "" true



=== TEST 2: a certificate nobody signed is refused by default
--- directives: lua_ssl_trusted_certificate CERT_DIR/ca.pem;
--- client
    say(websocket.connect("wss://127.0.0.1:TLS_PORT/ws", { server_name = "self.test" }))
--- response_body
nil "ssl handshake failed: 18: self-signed certificate"
--- no_error_log
[alert]



=== TEST 3: without anybody to trust every certificate is refused
--- client
    say(websocket.connect("wss://127.0.0.1:TLS_PORT/ws", { server_name = "ws.test" }))
--- response_body
nil "ssl handshake failed: 20: unable to get local issuer certificate"
--- no_error_log
[alert]



=== TEST 4: another name than the certificate's
--- directives: lua_ssl_trusted_certificate CERT_DIR/ca.pem;
--- client
    say(websocket.connect("wss://127.0.0.1:TLS_PORT/ws"))
--- response_body
nil "ssl handshake failed: certificate host mismatch"
--- no_error_log
[alert]



=== TEST 5: ssl_verify = false takes any
--- client
    local ws = assert(websocket.connect("wss://127.0.0.1:TLS_PORT/ws", { ssl_verify = false, server_name = "self.test" }))
    ws:send("unverified")
    say(ws:recv())
    say(ws:close())
--- response_body
"unverified" "text"
true



=== TEST 6: by an IPv6 address
--- directives: lua_ssl_trusted_certificate CERT_DIR/ca.pem;
--- client
    local ws = assert(websocket.connect("wss://[::1]:TLS_PORT/ws", { server_name = "ws.test" }))
    ws:send("six")
    say(ws:recv())
    say(ws:close())
--- response_body
"six" "text"
true



=== TEST 7: compressed, and with a heartbeat
--- options: { compression = true }
--- directives: lua_ssl_trusted_certificate CERT_DIR/ca.pem;
--- client
    local ws = assert(websocket.connect("wss://127.0.0.1:TLS_PORT/ws", { server_name = "ws.test", compression = true, ping_interval = 10, ping_timeout = 2000 }))
    say(ws.extensions)
    local text = ("compressed "):rep(1000)
    say(ws:send(text) < 200)
    say(ws:recv() == text)
    say(ws:recv(50))
    say(ws:close())
--- response_body
"permessage-deflate"
true
true
nil "timeout"
true
