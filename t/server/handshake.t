# The opening handshake that resty.websocket.server:new() accepts: what the 101 response holds and
# which headers of the request it depends on. Refusals are in t/server/handshake-refused.t.

use Test::Nginx::Socket::Lua;
use t::Wire;

add_block_preprocessor(sub { complete_block(@_) });
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: the response to RFC 6455's example
--- handler
    report(wb:recv_frame())
    report(wb:send_text("hello"))
--- send eval: ::masked(0x81, "first")
--- raw_response_headers_like eval
"\\AHTTP/1\\.1 101 Switching Protocols\r\n"
--- response_headers
Upgrade: websocket
Connection: upgrade
Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=
! Content-Type
! Content-Length
! Transfer-Encoding
! Sec-WebSocket-Protocol
! Sec-WebSocket-Extensions
--- response_body eval: ::plain(0x81, "hello")
--- results
"first" "text" nil
7 nil



=== TEST 2: names and values in another case
--- head
UPGRADE
CONNECTION
SEC-WEBSOCKET-KEY
SEC-WEBSOCKET-VERSION
upgrade: WebSocket
CONNECTION: UPGRADE
sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==
SEC-WEBSOCKET-VERSION: 13
--- handler
    wb:send_text("ok")
--- response_headers
Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=
--- response_body eval: ::plain(0x81, "ok")



=== TEST 3: Connection as Firefox sends it
--- head
Connection: keep-alive, Upgrade
--- handler
    wb:send_text("ok")
--- response_headers
Connection: upgrade
--- response_body eval: ::plain(0x81, "ok")



=== TEST 4: "upgrade" anywhere in Connection will do
--- head
Connection: xupGradex
--- handler
    wb:send_text("ok")
--- response_body eval: ::plain(0x81, "ok")



=== TEST 5: of repeated headers the first counts
--- head
Upgrade: websocket
Upgrade: h2c
Connection: Upgrade
Connection: close
Sec-WebSocket-Key: one
Sec-WebSocket-Key: two
Sec-WebSocket-Version: 13
Sec-WebSocket-Version: 8
--- handler
    wb:send_text("ok")
--- response_headers eval
"Sec-WebSocket-Accept: " . ::accept_value("one")
--- response_body eval: ::plain(0x81, "ok")



=== TEST 6: a key is not looked into
--- head
Sec-WebSocket-Key: !
--- handler
    wb:send_text("ok")
--- response_headers eval
"Sec-WebSocket-Accept: " . ::accept_value("!")
--- response_body eval: ::plain(0x81, "ok")



=== TEST 7: an empty key
--- head eval
"Sec-WebSocket-Key: \n"
--- handler
    wb:send_text("ok")
--- response_headers eval
"Sec-WebSocket-Accept: " . ::accept_value("")
--- response_body eval: ::plain(0x81, "ok")



=== TEST 8: a key of 4000 bytes
--- head eval
"Sec-WebSocket-Key: " . "k" x 4000
--- handler
    wb:send_text("ok")
--- response_headers eval
"Sec-WebSocket-Accept: " . ::accept_value("k" x 4000)
--- response_body eval: ::plain(0x81, "ok")



=== TEST 9: nothing else is asked for: method, Origin, extensions
--- raw_request eval
my $head = ::upgrade("Origin: null", "Sec-WebSocket-Extensions: permessage-deflate");
$head =~ s/^GET/DELETE/;
$head . ::masked(0x81, "x");
--- handler
    report(ngx.req.get_method(), wb:recv_frame())
    wb:send_text("ok")
--- error_code: 101
--- response_headers
! Sec-WebSocket-Extensions
--- response_body eval: ::plain(0x81, "ok")
--- results
"DELETE" "x" "text" nil



=== TEST 10: POST with a body, frames right behind it
--- raw_request eval
my $head = ::upgrade("Content-Length: 5");
$head =~ s/^GET/POST/;
$head . "a=b&c" . ::masked(0x81, "x");
--- handler
    report(ngx.req.get_body_data())
    report(wb:recv_frame())
    wb:send_text("ok")
--- error_code: 101
--- response_body eval: ::plain(0x81, "ok")
--- results
"a=b&c"
"x" "text" nil



=== TEST 11: a body larger than nginx's buffers, frames behind it
--- raw_request eval
my $head = ::upgrade("Content-Length: 100000");
$head =~ s/^GET/POST/;
$head . "b" x 100000 . ::masked(0x81, "x" x 300) . ::masked(0x82, "y");
--- handler
    report(ngx.req.get_body_file() and "in a file")
    report(wb:recv_frame())
    report(wb:recv_frame())
    wb:send_text("ok")
--- error_code: 101
--- response_body eval: ::plain(0x81, "ok")
--- no_error_log
[error]
--- results eval
"\"in a file\"\n" . ::brief("x" x 300) . " \"text\" nil\n\"y\" \"binary\" nil\n"



=== TEST 12: a chunked body, frames behind it
--- raw_request eval
my $head = ::upgrade("Transfer-Encoding: chunked");
$head =~ s/^GET/POST/;
$head . "3\r\nabc\r\n0\r\n\r\n" . ::masked(0x81, "x");
--- handler
    report(ngx.req.get_body_data())
    report(wb:recv_frame())
    wb:send_text("ok")
--- error_code: 101
--- response_body eval: ::plain(0x81, "ok")
--- results
"abc"
"x" "text" nil



=== TEST 13: headers behind the hundredth are seen (lua-resty-websocket would not)
--- raw_request eval
my @filler = map { "X-$_: $_" } 1 .. 150;
::upgrade(@filler, "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: late",
    "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: chat");
--- handler
    wb:send_text("ok")
--- error_code: 101
--- response_headers eval
"Sec-WebSocket-Protocol: chat
Sec-WebSocket-Accept: " . ::accept_value("late")
--- response_body eval: ::plain(0x81, "ok")



=== TEST 14: request headers that Lua code set or cleared count
--- head
Upgrade
Connection
Sec-WebSocket-Key: mine
Sec-WebSocket-Version: 8
Sec-WebSocket-Protocol: offered
--- before
    ngx.req.set_header("Upgrade", "websocket")
    ngx.req.set_header("Connection", "upgrade")
    ngx.req.set_header("Sec-WebSocket-Key", "other")
    ngx.req.set_header("Sec-WebSocket-Version", "13")
    ngx.req.clear_header("Sec-WebSocket-Protocol")
--- handler
    wb:send_text("ok")
--- response_headers eval
"! Sec-WebSocket-Protocol
Sec-WebSocket-Accept: " . ::accept_value("other")
--- response_body eval: ::plain(0x81, "ok")



=== TEST 15: the subprotocol is echoed
--- head
Sec-WebSocket-Protocol: chat.v1
--- handler
    wb:send_text("ok")
--- response_headers
Sec-WebSocket-Protocol: chat.v1
--- response_body eval: ::plain(0x81, "ok")



=== TEST 16: a list of subprotocols is echoed as it is
--- head
Sec-WebSocket-Protocol: chat, superchat;x="1"
--- handler
    wb:send_text("ok")
--- response_headers
Sec-WebSocket-Protocol: chat, superchat;x="1"
--- response_body eval: ::plain(0x81, "ok")
--- grep_error_log eval: qr/\[notice\].*websocket: a list of subprotocols was answered as it came/
--- grep_error_log_out eval
# Once in a worker, which is another one for each block.
[qr/\A[^\n]*answered as it came\n\z/, ""]



=== TEST 17: of several subprotocol headers the first is echoed
--- head
Sec-WebSocket-Protocol: first
Sec-WebSocket-Protocol: second
--- handler
    wb:send_text("ok")
--- response_headers
Sec-WebSocket-Protocol: first
--- response_body eval: ::plain(0x81, "ok")



=== TEST 18: choosing a subprotocol by ngx.req.set_header
--- head
Sec-WebSocket-Protocol: a, b
--- before
    ngx.req.set_header("Sec-WebSocket-Protocol", "b")
--- handler
    wb:send_text("ok")
--- response_headers
Sec-WebSocket-Protocol: b
--- response_body eval: ::plain(0x81, "ok")



=== TEST 19: the echo overwrites the response header the user set
--- head
Sec-WebSocket-Protocol: offered
--- before
    ngx.header["Sec-WebSocket-Protocol"] = "chosen"
--- handler
    wb:send_text("ok")
--- response_headers
Sec-WebSocket-Protocol: offered
--- response_body eval: ::plain(0x81, "ok")



=== TEST 20: without an offer the user's own response header stays
--- before
    ngx.header["Sec-WebSocket-Protocol"] = "chosen"
--- handler
    wb:send_text("ok")
--- response_headers
Sec-WebSocket-Protocol: chosen
--- response_body eval: ::plain(0x81, "ok")



=== TEST 21: other response headers are kept, the status and the type are not
--- directives
    add_header X-From-Nginx yes always;
    default_type text/html;
--- before
    ngx.header["X-My-Custom-Header"] = "value"
    ngx.header["Set-Cookie"] = { "a=1", "b=2" }
    ngx.header["Content-Type"] = "text/plain"
    ngx.header["Sec-WebSocket-Accept"] = "wrong"
    ngx.status = 404
--- handler
    wb:send_text("ok")
--- response_headers
X-My-Custom-Header: value
X-From-Nginx: yes
Set-Cookie: a=1, b=2
Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=
! Content-Type
--- response_body eval: ::plain(0x81, "ok")



=== TEST 22: the response is sent before the handler goes on
--- handler
    report(wb:recv_frame())
--- client
    -- connect() returns once the whole head of the response is there.
    local p = peer.connect()
    ngx.say(p.head)
    p:send(peer.frame(0x81, "after the head"))
    peer.say(p:rest())
--- response_body_like: ^HTTP/1.1 101 Switching Protocols.*\n"" "closed"$
--- results
"after the head" "text" nil



=== TEST 23: new(nil, opts) is new(opts) called as a method
--- config
    location = /u {
        content_by_lua_block {
            local wb = assert(require("resty.websocket.server").new(nil, { max_payload_len = 7 }))
            wb:send_text(tostring(wb.max_recv_len))
        }
    }
--- raw_request eval
my $head = ::upgrade();
$head =~ s{/ws}{/u};
$head;
--- error_code: 101
--- response_body eval: ::plain(0x81, "7")



=== TEST 24: what must not stand in a header is escaped in the echo
--- head eval: "Sec-WebSocket-Protocol: a\x01b\tc\x7f"
--- handler
    wb:send_text("ok")
--- raw_response_headers_like: Sec-WebSocket-Protocol: a%01b\tc%7F\r\n
--- response_body eval: ::plain(0x81, "ok")
