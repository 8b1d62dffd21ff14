# Requests that resty.websocket.server:new() refuses: each check with its exact text, in its order,
# and that nothing has been sent when it fails, so that the response is the caller's.

use Test::Nginx::Socket::Lua;
use t::Wire;

# The response is what the handler makes of the refusal, unless the block says otherwise.
add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(handler => 'report("not refused")') if !defined $block->handler;
    complete_block($block);
});
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: no Upgrade header
--- head
Upgrade
--- error_code:
--- response_body
--- results
"new" "bad "upgrade" request header: nil"



=== TEST 2: another Upgrade
--- head
Upgrade: h2c
--- error_code:
--- response_body
--- results
"new" "bad "upgrade" request header: h2c"



=== TEST 3: a list in Upgrade
--- head
Upgrade: websocket, foo
--- error_code:
--- response_body
--- results
"new" "bad "upgrade" request header: websocket, foo"



=== TEST 4: an empty Upgrade
--- head eval
"Upgrade: \n"
--- error_code:
--- response_body
--- results
"new" "bad "upgrade" request header: "



=== TEST 5: Upgrade right in its second line only
--- head
Upgrade: h2c
Upgrade: websocket
--- error_code:
--- response_body
--- results
"new" "bad "upgrade" request header: h2c"



=== TEST 6: bytes that are no text in Upgrade come back as they are
--- head eval
"Upgrade: web\xffsocket"
--- refusal: ngx.print(err)
--- directives
    keepalive_timeout 0;
--- error_code: 200
--- response_body eval
"bad \"upgrade\" request header: web\xffsocket"



=== TEST 7: no Connection header
--- head
Connection
--- error_code:
--- response_body
--- results
"new" "bad "connection" request header"



=== TEST 8: another Connection
--- head
Connection: keep-alive
--- error_code:
--- response_body
--- results
"new" "bad "connection" request header"



=== TEST 9: Connection right in its second line only
--- head
Connection: keep-alive
Connection: Upgrade
--- error_code:
--- response_body
--- results
"new" "bad "connection" request header"



=== TEST 10: an empty Connection
--- head eval
"Connection: \n"
--- error_code:
--- response_body
--- results
"new" "bad "connection" request header"



=== TEST 11: no Sec-WebSocket-Key
--- head
Sec-WebSocket-Key
--- error_code:
--- response_body
--- results
"new" "bad "sec-websocket-key" request header"



=== TEST 12: no Sec-WebSocket-Version
--- head
Sec-WebSocket-Version
--- error_code:
--- response_body
--- results
"new" "bad "sec-websocket-version" request header"



=== TEST 13: an older version
--- head
Sec-WebSocket-Version: 8
--- error_code:
--- response_body
--- results
"new" "bad "sec-websocket-version" request header"



=== TEST 14: 13 among others
--- head
Sec-WebSocket-Version: 13, 8
--- error_code:
--- response_body
--- results
"new" "bad "sec-websocket-version" request header"



=== TEST 15: 13 written otherwise
--- head
Sec-WebSocket-Version: 013
--- error_code:
--- response_body
--- results
"new" "bad "sec-websocket-version" request header"



=== TEST 16: 13 in the second line only
--- head
Sec-WebSocket-Version: 8
Sec-WebSocket-Version: 13
--- error_code:
--- response_body
--- results
"new" "bad "sec-websocket-version" request header"



=== TEST 17: HTTP/1.0
--- raw_request eval
my $head = ::upgrade();
$head =~ s{HTTP/1.1}{HTTP/1.0};
$head;
--- error_code:
--- response_body
--- results
"new" "bad http version"



=== TEST 18: the order: HTTP version before all headers
--- raw_request eval
"GET /ws HTTP/1.0\r\n\r\n"
--- error_code:
--- response_body
--- results
"new" "bad http version"



=== TEST 19: the order: Upgrade next
--- head
Upgrade
Connection
Sec-WebSocket-Key
Sec-WebSocket-Version
--- error_code:
--- response_body
--- results
"new" "bad "upgrade" request header: nil"



=== TEST 20: the order: then Connection
--- head
Connection
Sec-WebSocket-Key
Sec-WebSocket-Version
--- error_code:
--- response_body
--- results
"new" "bad "connection" request header"



=== TEST 21: the order: then the key
--- head
Sec-WebSocket-Key
Sec-WebSocket-Version
--- error_code:
--- response_body
--- results
"new" "bad "sec-websocket-key" request header"



=== TEST 22: the order: the body is read before anything is checked
--- raw_request eval
"POST /ws HTTP/1.0\r\nContent-Length: 4\r\n\r\nbody"
--- refusal: ngx.say(err, ", ", ngx.req.get_body_data())
--- error_code: 200
--- response_body
bad http version, body
--- results
"new" "bad http version"



=== TEST 23: the order: headers already sent comes first
--- raw_request eval
"GET /ws HTTP/1.0\r\n\r\n"
--- before: ngx.send_headers()
--- refusal: ngx.say(err)
--- error_code: 200
--- response_body
response header already sent
--- results
"new" "response header already sent"



=== TEST 24: headers already sent by ngx.say
--- directives
    keepalive_timeout 0;
--- before: ngx.say("early")
--- refusal: ngx.say(err)
--- error_code: 200
--- response_body
early
response header already sent
--- results
"new" "response header already sent"



=== TEST 25: a second new() in the same request
--- handler
    report(require("resty.websocket.server"):new())
    -- The first object is none the worse.
    report(wb:recv_frame())
    wb:send_text("ok")
--- send eval: ::masked(0x81, "x")
--- response_body eval: ::plain(0x81, "ok")
--- results
nil "response header already sent"
"x" "text" nil



=== TEST 26: a refusal answered with 400
--- head
Upgrade
--- refusal: ngx.exit(400)
--- error_code: 400
--- response_headers
Content-Type: text/html
! Upgrade
! Sec-WebSocket-Accept
--- response_body_like: 400 Bad Request
--- results
"new" "bad "upgrade" request header: nil"



=== TEST 27: after a refusal answered with content the connection is good for more
--- refusal
    ngx.say(err)
--- client
    local sock = ngx.socket.tcp()
    sock:settimeout(2000)
    assert(sock:connect(ngx.var.server_addr, tonumber(ngx.var.server_port)))
    for _ = 1, 3 do
        assert(sock:send("GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\n"))
        ngx.say((assert(sock:receiveuntil("\r\n0\r\n\r\n")()):gsub("\r\n.*\r\n", ": "):gsub("\n$", "")))
    end
    sock:close()
--- response_body
HTTP/1.1 200 OK: bad "upgrade" request header: h2c
HTTP/1.1 200 OK: bad "upgrade" request header: h2c
HTTP/1.1 200 OK: bad "upgrade" request header: h2c
--- results
"new" "bad "upgrade" request header: h2c"
"new" "bad "upgrade" request header: h2c"
"new" "bad "upgrade" request header: h2c"



=== TEST 28: frames sent to a handler that refuses
--- head
Sec-WebSocket-Version: 12
--- send eval: ::masked(0x81, "x") x 100
--- error_code:
--- response_body
--- results
"new" "bad "sec-websocket-version" request header"



=== TEST 29: a body larger than allowed
--- directives
    client_max_body_size 3;
--- raw_request eval
my $head = ::upgrade("Content-Length: 5");
$head =~ s/^GET/POST/;
$head . "a=b&c";
--- error_code: 413
--- response_body_like: 413
--- no_error_log
result:



=== TEST 30: headers beyond nginx's limits never get here
--- head eval
"Sec-WebSocket-Key: " . "k" x 40000
--- error_code: 400
--- response_body_like: 400 Request Header Or Cookie Too Large
