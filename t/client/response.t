# What resty.websocket.client:connect() makes of the server's answer: verified, limited in size, and
# returned as it came. After a failed handshake the connection is closed, unless the peer answered
# in HTTP and a body may follow.

use Test::Nginx::Socket::Lua;
use t::Client;

# `answer`: what a mock server replies; the object is then looked at.
add_block_preprocessor(sub {
    my $block = shift;
    if (defined $block->answer) {
        $block->set_value(tcp_reply => $block->answer);
        $block->set_value(tcp_listen => mock_port());
        $block->set_value(tcp_query => request_head(
            'GET /s HTTP/1.1', 'Upgrade: websocket', 'Host: 127.0.0.1:' . mock_port(),
            "Sec-WebSocket-Key: $KEY", 'Sec-WebSocket-Version: 13', 'Connection: Upgrade'));
        $block->set_value(client => <<'END') if !defined $block->client;
            local wb = client:new{ timeout = 20000 }
            local ok, err, header = wb:connect("ws://127.0.0.1:MOCK_PORT/s", key)
            t.say(ok, err)
            t.say(header)
            if not ok then
                t.say(wb:send_text("x"))
                t.say(wb:close())
            end
END
    }
    complete_block($block);
});
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: status 200
--- answer eval: "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"
--- response_body
nil "failed websocket handshake: unexpected response status: 200"
"HTTP/1.1 200 OK\x0d\x0aContent-Length: 4"
nil "already closed"
1



=== TEST 2: status 400 without a reason
--- answer eval: "HTTP/1.1 400\r\n\r\n"
--- response_body
nil "failed websocket handshake: unexpected response status: 400"
"HTTP/1.1 400"
nil "already closed"
1



=== TEST 3: the body of a refusal can be read from wb.sock
--- answer eval: "HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nbody"
--- client
local wb = client:new{ timeout = 20000 }
local _, _, header = wb:connect("ws://127.0.0.1:MOCK_PORT/s", key)
t.say(wb.sock:receive(tonumber(header:match("Content%-Length: (%d+)"))))
t.say(wb:close())
--- response_body
"body"
1



=== TEST 4: HTTP/1.0
--- answer eval: ::response('HTTP/1.0 101 Switching Protocols')
--- response_body
nil "bad HTTP response status line: HTTP/1.0 101 Switching Protocols\x0d\x0aUpgrade: websocket\x0d\x0aConnection: Upgrade\x0d\x0aSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"HTTP/1.0 101 Switching Protocols\x0d\x0aUpgrade: websocket\x0d\x0aConnection: Upgrade\x0d\x0aSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
nil "already closed"
nil "closed"



=== TEST 5: garbage
--- answer eval: "\x00\xffSSH-2.0-x\r\n\r\n"
--- response_body
nil "bad HTTP response status line: \x00\xffSSH-2.0-x"
"\x00\xffSSH-2.0-x"
nil "already closed"
nil "closed"



=== TEST 6: an empty head
--- answer eval: "\r\n\r\n"
--- response_body
nil "bad HTTP response status line: "
""
nil "already closed"
nil "closed"



=== TEST 7: white space ahead of the status line
--- answer eval: "\r\n" . ::response()
--- response_body_like: ^1 nil\n"\\x0d\\x0aHTTP/1\.1 101



=== TEST 8: another Accept
--- answer eval: ::response('Sec-WebSocket-Accept: AAAA')
--- response_body
nil "failed websocket handshake: bad "sec-websocket-accept" response header: AAAA"
"HTTP/1.1 101 Switching Protocols\x0d\x0aUpgrade: websocket\x0d\x0aConnection: Upgrade\x0d\x0aSec-WebSocket-Accept: AAAA"
nil "already closed"
nil "closed"



=== TEST 9: no Accept
--- answer eval: ::response('Sec-WebSocket-Accept')
--- response_body_like: ^nil "failed websocket handshake: bad "sec-websocket-accept" response header: nil"\n



=== TEST 10: another Upgrade
--- answer eval: ::response('Upgrade: h2c')
--- response_body_like: ^nil "failed websocket handshake: bad "upgrade" response header: h2c"\n



=== TEST 11: no Connection
--- answer eval: ::response('Connection')
--- response_body_like: ^nil "failed websocket handshake: bad "connection" response header: nil"\n



=== TEST 12: Connection: close
--- answer eval: ::response('Connection: close')
--- response_body_like: ^nil "failed websocket handshake: bad "connection" response header: close"\n



=== TEST 13: names, values and lists in other shapes
--- answer eval
::response('Upgrade', 'Connection', 'UPGRADE:WebSocket  ', 'connection: keep-alive, upgrade')
--- response_body_like: ^1 nil\n



=== TEST 14: a subprotocol, extension or cookie nobody asked for is the program's business
--- answer eval
::response('Sec-WebSocket-Protocol: a, b', 'Sec-WebSocket-Extensions: x', 'Set-Cookie: a=b')
--- response_body_like: ^1 nil\n.*Sec-WebSocket-Protocol: a, b.*Set-Cookie: a=b



=== TEST 15: nothing at all
--- answer
--- response_body
nil "failed to receive response header: closed"
nil
nil "already closed"
nil "closed"



=== TEST 16: half a head
--- answer eval: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: web"
--- response_body
nil "failed to receive response header: closed"
nil
nil "already closed"
nil "closed"



=== TEST 17: a head of 65,536 bytes
--- answer eval
my $head = ::response('X-Long: ');
my $missing = 65536 + 4 - length $head;
::response('X-Long: ' . 'x' x $missing)
--- client
local wb = client:new{ timeout = 20000 }
local ok, err, header = wb:connect("ws://127.0.0.1:MOCK_PORT/s", key)
t.say(ok, err, #header)
--- response_body
1 nil 65536



=== TEST 18: one byte more
--- answer eval
my $head = ::response('X-Long: ');
my $missing = 65536 + 5 - length $head;
::response('X-Long: ' . 'x' x $missing)
--- response_body
nil "response header too large"
nil
nil "already closed"
nil "closed"



=== TEST 19: 100 KiB of header lines
--- answer eval: ::response(map { "X-Line-$_: " . 'x' x 1000 } 1 .. 100)
--- response_body
nil "response header too large"
nil
nil "already closed"
nil "closed"



=== TEST 20: 100 KiB of line ends that never end the head
--- answer eval: "HTTP/1.1 101 x" . "\r\n\rx" x 25000
--- response_body
nil "response header too large"
nil
nil "already closed"
nil "closed"



=== TEST 21: a head that comes byte by byte, and frames that come with its end
--- server
local head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             .. "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r"
for i = 1, #head do
    assert(sock:send(head:sub(i, i)))
    ngx.sleep(0)
end
assert(sock:send("\n\x81\x05hello\x82\x01"))
t.wait("first frame read")
assert(sock:send("!"))
--- client
local wb = client:new()
local ok, err, header = wb:connect(url, key)
t.say(ok, err, #header)
t.say(wb:recv_frame())
t.post("first frame read")
t.say(wb:recv_frame())
--- response_body
1 nil 125
"hello" "text" nil
"!" "binary" nil



=== TEST 22: no answer in time
--- server
t.wait("client gave up")
t.after = t.line(sock:receive(1))
--- client
local wb = client:new{ timeout = 50 }
t.say(wb:connect(url, key))
t.post("client gave up")
t.await_servers()
ngx.say(t.after)
t.say(wb:send_text("x"))
t.say(wb:recv_frame())
t.say(wb:close())
--- response_body
nil "failed to receive response header: timeout"
nil "closed" ""
nil "already closed"
nil nil "failed to receive the first 2 bytes: closed"
nil "fatal error already happened"



=== TEST 23: an object whose connect() failed connects anew
--- server
t.connects = (t.connects or 0) + 1
if t.connects % 2 == 1 then
    sock:send("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
else
    t.accept(sock, "\x81\x02hi")
    t.receive(sock)
end
--- client
local wb = client:new()
t.say((select(2, wb:connect(url))))
t.say((wb:connect(url)))
t.say(wb:recv_frame())
t.say(wb:send_text("x"))
t.say(wb.fatal, wb.closed)
--- response_body
"failed websocket handshake: unexpected response status: 503"
1
"hi" "text" nil
7 nil
nil nil



=== TEST 24: connect() ends the states fatal and closed
--- server
t.accept(sock, "\xff\xff")
t.drain(sock)
--- client
local wb = client:new()
local function connect_and(use)
    t.say((wb:connect(url)))
    t.say(wb.fatal, wb.closed)
    use()
    t.say(wb.fatal, wb.closed)
end
connect_and(function ()
    t.say(wb:send_close())
    t.say(wb:send_text("x"))
end)
connect_and(function ()
    t.say(wb:recv_frame())
end)
connect_and(function ()
    t.say(wb:send_frame(true, 9, ("x"):rep(126)))
    t.say(wb:close())
end)
connect_and(function ()
    t.say(wb:close())
end)
-- Nothing was connected, nothing changes.
t.say(wb:connect("no uri"))
t.say(wb:connect("ws://127.0.0.1:1/"))
t.say(wb.fatal, wb.closed)
--- response_body
1
nil nil
6 nil
nil "already closed"
nil true
1
nil nil
nil nil "bad RSV1, RSV2, or RSV3 bits"
true nil
1
nil nil
nil "too much payload for control frame"
nil "fatal error already happened"
true nil
1
nil nil
1
nil true
nil "bad websocket uri"
nil "failed to connect: connection refused"
nil true



=== TEST 25: interim responses come before the one that counts
--- answer eval
"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" . ::response()
--- response_body
1 nil
"HTTP/1.1 101 Switching Protocols\x0d\x0aUpgrade: websocket\x0d\x0aConnection: Upgrade\x0d\x0aSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="



=== TEST 26: interim responses that do not end
--- answer eval: "HTTP/1.1 102 Processing\r\n\r\n" x 5000
--- response_body
nil "response header too large"
"HTTP/1.1 102 Processing"
nil "already closed"
nil "closed"



=== TEST 27: a refusal after an interim response
--- answer eval: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nbody"
--- response_body
nil "failed websocket handshake: unexpected response status: 403"
"HTTP/1.1 403 Forbidden\x0d\x0aContent-Length: 4"
nil "already closed"
1
