# Opening handshakes that websocket.accept() refuses: RFC 6455 4.2.1 by the letter, origins, and that
# nothing has been sent when it returns, so that ngx.exit(status) or another response is possible.

use Test::Nginx::Socket::Lua;
use t::Message;

# What every block shows: the text, the status, and the whole response by ngx.exit(status).
add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(handler => 'report("not refused")') if !defined $block->handler;
    $block->set_value(directives => 'keepalive_timeout 0;') if !defined $block->directives;
    complete_message_block($block);
});
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: no Upgrade
--- head eval: "Upgrade"
--- error_code: 400
--- results
"refused" "bad "upgrade" request header: nil" 400



=== TEST 2: another Upgrade
--- head eval: "Upgrade: h2c"
--- error_code: 400
--- results
"refused" "bad "upgrade" request header: h2c" 400



=== TEST 3: websocket as a part of a word only
--- head eval: "Upgrade: websockets"
--- error_code: 400
--- results
"refused" "bad "upgrade" request header: websockets" 400



=== TEST 4: no Connection
--- head eval: "Connection"
--- error_code: 400
--- results
"refused" "bad "connection" request header" 400



=== TEST 5: another Connection
--- head eval: "Connection: keep-alive"
--- error_code: 400
--- results
"refused" "bad "connection" request header" 400



=== TEST 6: upgrade as a part of a word only
--- head eval: "Connection: upgraded"
--- error_code: 400
--- results
"refused" "bad "connection" request header" 400



=== TEST 7: no key
--- head eval: "Sec-WebSocket-Key"
--- error_code: 400
--- results
"refused" "bad "sec-websocket-key" request header" 400



=== TEST 8: an empty key
--- head eval: "Sec-WebSocket-Key: "
--- error_code: 400
--- results
"refused" "bad "sec-websocket-key" request header" 400



=== TEST 9: a key of 15 bytes
--- head eval: "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA"
--- error_code: 400
--- results
"refused" "bad "sec-websocket-key" request header" 400



=== TEST 10: a key of 17 bytes
--- head eval: "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAA="
--- error_code: 400
--- results
"refused" "bad "sec-websocket-key" request header" 400



=== TEST 11: a key that is no base64
--- head eval: "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j-Q=="
--- error_code: 400
--- results
"refused" "bad "sec-websocket-key" request header" 400



=== TEST 12: a key without its padding
--- head eval: "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ"
--- error_code: 400
--- results
"refused" "bad "sec-websocket-key" request header" 400



=== TEST 13: two keys
--- head eval: "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
--- error_code: 400
--- results
"refused" "bad "sec-websocket-key" request header" 400



=== TEST 14: no version
--- head eval: "Sec-WebSocket-Version"
--- error_code: 400
--- results
"refused" "bad "sec-websocket-version" request header" 400



=== TEST 15: another version
--- head eval: "Sec-WebSocket-Version: 8"
--- error_code: 426
--- raw_response_headers_like: \r\nSec-WebSocket-Version: 13\r\n
--- results
"refused" "bad "sec-websocket-version" request header" 426



=== TEST 16: a list of versions
--- head eval: "Sec-WebSocket-Version: 13, 8"
--- error_code: 426
--- raw_response_headers_like: \r\nSec-WebSocket-Version: 13\r\n
--- results
"refused" "bad "sec-websocket-version" request header" 426



=== TEST 17: a version with a zero before it
--- head eval: "Sec-WebSocket-Version: 013"
--- error_code: 426
--- raw_response_headers_like: \r\nSec-WebSocket-Version: 13\r\n
--- results
"refused" "bad "sec-websocket-version" request header" 426



=== TEST 18: another version twice
--- head eval: "Sec-WebSocket-Version: 13\nSec-WebSocket-Version: 13"
--- error_code: 400
--- results
"refused" "bad "sec-websocket-version" request header" 400



=== TEST 19: another method
--- raw_request eval: (my $head = ::upgrade()) =~ s/^GET/POST/; $head =~ s/\r\n\r\n/\r\nContent-Length: 0\r\n\r\n/; $head
--- error_code: 400
--- results
"refused" "bad request method" 400



=== TEST 20: HTTP/1.0
--- raw_request eval: (my $head = ::upgrade()) =~ s/HTTP.1.1/HTTP\/1.0/; $head
--- error_code: 400
--- results
"refused" "bad http version" 400



=== TEST 21: HTTP/1.0 without Host
--- raw_request eval: (my $head = ::upgrade("Host")) =~ s/HTTP.1.1/HTTP\/1.0/; $head
--- error_code: 400
--- results
"refused" "bad http version" 400



=== TEST 22: no Host: nginx refuses it before any handler
--- head
Host
--- error_code: 400
--- results



=== TEST 23: Upgrade and Connection as lists, in any case, on any of several lines
--- head eval
"Upgrade: h2c\nUpgrade: foo, WebSocket\nConnection: keep-alive\nConnection:\tclose,UPGRADE ,"
--- error_code: 101
--- results
"not refused"



=== TEST 24: white space around key and version
--- head eval: "Sec-WebSocket-Key:  dGhlIHNhbXBsZSBub25jZQ== \nSec-WebSocket-Version: \t13 "
--- error_code: 101
--- response_headers
Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=
--- results
"not refused"



=== TEST 25: an origin that is not in the list
--- options: { origins = { "https://example.com", "*.example.org" } }
--- head
Origin: https://evil.test
--- error_code: 403
--- results
"refused" "origin not allowed" 403



=== TEST 26: another scheme, and another port
--- client
    for _, origin in ipairs { "http://example.com", "https://example.com:8443", "https://example.com.evil.test", "https://evil.test/https://example.com", "null", "" } do
        peer.say(origin, peer.connect(nil, nil, nil, "Origin: " .. origin .. "\r\n").head:match("^HTTP/1.1 (%d+)"))
    end
--- options: { origins = { "https://example.com" } }
--- response_body
"http://example.com" "403"
"https://example.com:8443" "403"
"https://example.com.evil.test" "403"
"https://evil.test/https://example.com" "403"
"null" "403"
"" "403"



=== TEST 27: hosts that a wildcard does not take
--- client
    for _, origin in ipairs { "https://example.org", "https://.example.org", "https://badexample.org", "https://a.example.org.evil.test", "https://a.example.org@evil.test", "https://evil.test/.example.org", "https://evil.test#.example.org", "a.example.org", "https://a.example.org" } do
        peer.say(origin, peer.connect(nil, nil, nil, "Origin: " .. origin .. "\r\n").head:match("^HTTP/1.1 (%d+)"))
    end
--- options: { origins = { "*.example.org" } }
--- response_body
"https://example.org" "403"
"https://.example.org" "403"
"https://badexample.org" "403"
"https://a.example.org.evil.test" "403"
"https://a.example.org@evil.test" "403"
"https://evil.test/.example.org" "403"
"https://evil.test#.example.org" "403"
"a.example.org" "403"
"https://a.example.org" "101"



=== TEST 28: two Origin lines, of which one is allowed
--- options: { origins = { "https://example.com" } }
--- head eval: "Origin: https://example.com\nOrigin: https://evil.test"
--- error_code: 403
--- results
"refused" "origin not allowed" 403



=== TEST 29: no Origin where there has to be one
--- options: { require_origin = true }
--- error_code: 403
--- results
"refused" "no "origin" request header" 403



=== TEST 30: an empty list of origins allows none
--- options: { origins = {} }
--- head
Origin: https://example.com
--- error_code: 403
--- results
"refused" "origin not allowed" 403



=== TEST 31: nothing has been sent: another response is possible
--- refusal
    report(ngx.headers_sent)
    ngx.status = 200
    return ngx.say("a page: ", err)
--- head
Upgrade
--- error_code: 200
--- response_headers
! Upgrade
! Sec-WebSocket-Accept
--- response_body_like: a page: bad "upgrade" request header: nil
--- results
"refused" "bad "upgrade" request header: nil" 400
false



=== TEST 32: nor are headers set that belong to an upgrade; of another version the client is told ours
--- options: { protocols = "chat", headers = { ["X-One"] = "1" }, compression = true }
--- head eval: "Sec-WebSocket-Protocol: chat\nSec-WebSocket-Extensions: permessage-deflate\nSec-WebSocket-Version: 12"
--- error_code: 426
--- response_headers
Upgrade: websocket
! Sec-WebSocket-Accept
! Sec-WebSocket-Protocol
! Sec-WebSocket-Extensions
! X-One
Sec-WebSocket-Version: 13
--- results
"refused" "bad "sec-websocket-version" request header" 426



=== TEST 33: a connection stays usable for HTTP after a refusal
--- directives: keepalive_timeout 60s;
--- request eval: ["GET /ws", "GET /ws"]
--- error_code eval: [400, 400]



=== TEST 34: a subrequest cannot be upgraded
--- directives
--- config
    location = /main {
        keepalive_timeout 0;
        content_by_lua_block {
            ngx.say(ngx.location.capture("/ws").status)
        }
    }
--- raw_request eval: (my $head = ::upgrade()) =~ s/^GET .ws/GET \/main/; $head
--- error_code: 200
--- response_body
500
--- results
"refused" "a subrequest cannot be upgraded" 500
