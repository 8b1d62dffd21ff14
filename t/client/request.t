# The request of resty.websocket.client:connect(): exact bytes and header order, what the options
# put there, how a URI is read. The peer is a server that notes what it was sent.

use Test::Nginx::Socket::Lua;
use t::Client;

# `head`: the lines of the request that is expected; `connect`: arguments of connect().
add_block_preprocessor(sub {
    my $block = shift;
    if (defined $block->head) {
        my @lines = split /\n/, $block->head;
        my $port = mock_port();
        s/\bMOCK_PORT\b/$port/g for @lines;
        $block->set_value(tcp_query => request_head(@lines));
        $block->set_value(tcp_reply => response());
        $block->set_value(tcp_listen => $port) if !defined $block->tcp_listen;
    }
    my $connect = $block->connect;
    my $before  = $block->before // '';
    $block->set_value(client => <<"END") if defined $connect;
            $before
            local wb = client:new{ timeout = 20000 }
            t.say(wb:connect($connect))
END
    $block->set_value(response_body => <<'END')
1 nil "HTTP/1.1 101 Switching Protocols\x0d\x0aUpgrade: websocket\x0d\x0aConnection: Upgrade\x0d\x0aSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
END
      if defined $connect && !defined $block->response_body_like;
    complete_block($block);
});

repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: the least there is
--- connect: "ws://127.0.0.1:MOCK_PORT/s", key
--- head
GET /s HTTP/1.1
Upgrade: websocket
Host: 127.0.0.1:MOCK_PORT
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
Sec-WebSocket-Version: 13
Connection: Upgrade



=== TEST 2: every option, and the order of the headers
--- connect
"ws://127.0.0.1:MOCK_PORT/a/b?c=d", {
    key = "dGhlIHNhbXBsZSBub25jZQ==", host = "other.test", origin = "http://page.test",
    protocols = { "v2", "v1" }, headers = { "X-One: 1", "Cookie: a=b; c=d" },
    server_name = "unused.test", ssl_verify = true, pool = "mine",
}
--- head
GET /a/b?c=d HTTP/1.1
Upgrade: websocket
Host: other.test
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
Sec-WebSocket-Protocol: v2,v1
Sec-WebSocket-Version: 13
Origin: http://page.test
Connection: Upgrade
X-One: 1
Cookie: a=b; c=d



=== TEST 3: a key from math.random, whose seed decides it
--- before: math.randomseed(0)
--- connect: "ws://127.0.0.1:MOCK_PORT/s"
--- head
GET /s HTTP/1.1
Upgrade: websocket
Host: 127.0.0.1:MOCK_PORT
Sec-WebSocket-Key: y7KXwBSpVrxtkR0O+bQt+Q==
Sec-WebSocket-Version: 13
Connection: Upgrade
--- response_body_like: ^nil "failed websocket handshake: bad "sec-websocket-accept" response header: s3pPLMBiTxaQ9kYGzzhZRbK\+xOo=" "HTTP/1\.1 101



=== TEST 4: one protocol as a string
--- connect: "ws://127.0.0.1:MOCK_PORT/s", { protocols = "json", key = key.key }
--- head
GET /s HTTP/1.1
Upgrade: websocket
Host: 127.0.0.1:MOCK_PORT
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
Sec-WebSocket-Protocol: json
Sec-WebSocket-Version: 13
Connection: Upgrade



=== TEST 5: no path is /
--- connect: "ws://127.0.0.1:MOCK_PORT", key
--- head
GET / HTTP/1.1
Upgrade: websocket
Host: 127.0.0.1:MOCK_PORT
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
Sec-WebSocket-Version: 13
Connection: Upgrade



=== TEST 6: a query without a path
--- connect: "ws://127.0.0.1:MOCK_PORT?a=1", key
--- head
GET /?a=1 HTTP/1.1
Upgrade: websocket
Host: 127.0.0.1:MOCK_PORT
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
Sec-WebSocket-Version: 13
Connection: Upgrade



=== TEST 7: a scheme has no case, a fragment is not the server's business
--- connect: "WS://127.0.0.1:MOCK_PORT/p?q#f", key
--- head
GET /p?q HTTP/1.1
Upgrade: websocket
Host: 127.0.0.1:MOCK_PORT
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
Sec-WebSocket-Version: 13
Connection: Upgrade



=== TEST 8: options that are false or empty
--- connect
"ws://127.0.0.1:MOCK_PORT/s", {
    key = key.key, protocols = false, origin = false, headers = {}, pool = false, client_cert = false,
}
--- head
GET /s HTTP/1.1
Upgrade: websocket
Host: 127.0.0.1:MOCK_PORT
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
Sec-WebSocket-Version: 13
Connection: Upgrade



=== TEST 9: numbers where strings are meant
--- connect
"ws://127.0.0.1:MOCK_PORT/s", { key = key.key, protocols = 7, origin = 8, headers = { 9 } }
--- head
GET /s HTTP/1.1
Upgrade: websocket
Host: 127.0.0.1:MOCK_PORT
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
Sec-WebSocket-Protocol: 7
Sec-WebSocket-Version: 13
Origin: 8
Connection: Upgrade
9



=== TEST 10: a UNIX-domain socket
--- connect: "ws://unix:SOCK_DIR/peer.sock:/s?x", key
--- tcp_listen eval: "$ENV{TEST_NGINX_SERVER_ROOT}/html/peer.sock"
--- head
GET /s?x HTTP/1.1
Upgrade: websocket
Host: unix_sock
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
Sec-WebSocket-Version: 13
Connection: Upgrade



=== TEST 11: a UNIX-domain socket with a host and no path
--- connect: "ws://unix:SOCK_DIR/peer.sock:", { key = key.key, host = "named.test" }
--- tcp_listen eval: "$ENV{TEST_NGINX_SERVER_ROOT}/html/peer.sock"
--- head
GET / HTTP/1.1
Upgrade: websocket
Host: named.test
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
Sec-WebSocket-Version: 13
Connection: Upgrade



=== TEST 12: what is no URI
--- client
for _, uri in ipairs{
    "", "127.0.0.1", "http://127.0.0.1/", "x-ws://127.0.0.1/", " ws://127.0.0.1/", "ws:/127.0.0.1/",
    "ws://", "ws:///", "ws://:80/", "wss//h", "ws://unix:/tmp/x.sock", "ws://unix:/tmp/x.sock/s",
    "ws://unix::/s", "ws://127.0.0.1/?to=unix:1", "unix:/tmp/x.sock:/", "ws://[::1", "ws://[h]:80/",
    "ws://user:pw@127.0.0.1/", "ws://user@127.0.0.1/", "ws://127.0.0.1/a b", "ws://127.0.0.1 /",
    "ws://127.0.0.1:80x/", "ws://127.0.0.1:80:80/",
} do
    t.say(uri, client:new():connect(uri))
end
t.say(client:new():connect(80))
t.say(client:new():connect(nil))
t.say(client:new():connect(true))
t.say(client:new():connect({}))
t.say(client:new():connect(nil, true))
--- response_body
"" nil "bad websocket uri"
"127.0.0.1" nil "bad websocket uri"
"http://127.0.0.1/" nil "bad websocket uri"
"x-ws://127.0.0.1/" nil "bad websocket uri"
" ws://127.0.0.1/" nil "bad websocket uri"
"ws:/127.0.0.1/" nil "bad websocket uri"
"ws://" nil "bad websocket uri"
"ws:///" nil "bad websocket uri"
"ws://:80/" nil "bad websocket uri"
"wss//h" nil "bad websocket uri"
"ws://unix:/tmp/x.sock" nil "bad websocket uri"
"ws://unix:/tmp/x.sock/s" nil "bad websocket uri"
"ws://unix::/s" nil "bad websocket uri"
"ws://127.0.0.1/?to=unix:1" nil "bad websocket uri"
"unix:/tmp/x.sock:/" nil "bad websocket uri"
"ws://[::1" nil "bad websocket uri"
"ws://[h]:80/" nil "bad websocket uri"
"ws://user:pw@127.0.0.1/" nil "bad websocket uri"
"ws://user@127.0.0.1/" nil "bad websocket uri"
"ws://127.0.0.1/a b" nil "bad websocket uri"
"ws://127.0.0.1 /" nil "bad websocket uri"
"ws://127.0.0.1:80x/" nil "bad websocket uri"
"ws://127.0.0.1:80:80/" nil "bad websocket uri"
nil "bad websocket uri"
nil "bad websocket uri"
nil "bad websocket uri"
nil "bad websocket uri"
nil "bad websocket uri"



=== TEST 13: default ports and pool names
--- skip_eval: 3: !t::Client::has_debug()
--- client
-- A pool is made, and its name logged, before the connection is; nobody need listen.
local function try(uri)
    client:new{ timeout = 1 }:connect(uri, { pool_size = 1 })
end
try("ws://127.0.0.1/")
try("wss://127.0.0.2/")
try("ws://127.0.0.3:8/")
try("wss://[::1]/")
--- grep_error_log eval: qr/create connection pool for key "[^"]*"/
--- grep_error_log_out eval
my $pools = qq{create connection pool for key "127.0.0.1:80"
create connection pool for key "127.0.0.2:443"
create connection pool for key "127.0.0.3:8"
create connection pool for key "[::1]:443"
};
[$pools, $pools]
--- no_error_log
[alert]
--- response_body



=== TEST 14: an IPv6 literal
--- skip_eval: 3: !t::Client::has_ipv6()
--- http_config
    server {
        listen [::1]:MOCK_PORT;
        location = /s {
            content_by_lua_block {
                local wb = assert(require("resty.websocket.server"):new())
                wb:send_text(ngx.var.http_host)
            }
        }
    }
--- client
local wb = client:new()
t.say((wb:connect("ws://[::1]:MOCK_PORT/s")))
t.say(wb:recv_frame())
--- response_body eval
"1\n\"[::1]:" . ::mock_port() . "\" \"text\" nil\n"



=== TEST 15: bytes that would forge a header are refused before anything is sent
--- client
local function try(uri, opts)
    t.say(client:new():connect(uri, opts))
end
for _, byte in ipairs{ "\r", "\n", "\0" } do
    try("ws://127.0.0.1:MOCK_PORT/a" .. byte .. "b")
    try("ws://127.0.0.1" .. byte .. ":MOCK_PORT/")
    try(url, { host = "h" .. byte })
    try(url, { key = byte .. "k" })
    try(url, { protocols = "p" .. byte .. "Evil: 1" })
    try(url, { protocols = { "v1", "v2" .. byte } })
    try(url, { origin = "o\r\nEvil: 1" .. byte })
    try(url, { headers = { "A: b", "C: d" .. byte .. "Evil: 1" } })
end
try(url, { headers = { "" } })
--- response_body eval
qq{nil "bad websocket uri"
nil "bad websocket uri"
nil "bad host: control character"
nil "bad key: control character"
nil "bad protocols: control character"
nil "bad protocols: control character"
nil "bad origin: control character"
nil "bad headers: control character"
} x 3 . qq{nil "bad headers: empty line"\n}



=== TEST 16: each connect() draws another key
--- config
    location = /echo {
        content_by_lua_block {
            local key = ngx.var.http_sec_websocket_key
            assert(#ngx.decode_base64(key) == 16)
            local wb = assert(require("resty.websocket.server"):new())
            wb:send_text(key)
        }
    }
--- client
local seen, n = {}, 0
for _ = 1, 20 do
    local wb = client:new()
    assert(wb:connect("ws://127.0.0.1:HTTP_PORT/echo"))
    local key = wb:recv_frame()
    if not seen[key] then
        seen[key] = true
        n = n + 1
    end
end
t.say(n)
--- response_body
20
