# websocket.connect(): its options and what it says to wrong ones, the request it sends, and how the
# response is verified: nothing but what was offered (RFC 6455 4.1, RFC 7692 5.1).

use Test::Nginx::Socket::Lua;
use t::Connect;

# `offered`: options of connect(); `answer`: arguments of the server's answer(). What came of it.
add_block_preprocessor(sub {
    my $block = shift;
    if (defined(my $answer = $block->answer)) {
        my $offered = $block->offered // 'nil';
        $block->set_value(client => "            try($offered)\n");
        $block->set_value(server => "answer($answer)\nt.drain(sock)\n");
    }
    complete_connect_block($block);
});
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: the least there is
--- client
    local ws, err, response = websocket.connect(base .. "/ws")
    say(ws.role, ws.protocol, ws.extensions, ws:state(), ws:buffered(), err)
    say(#ws.id, response:match("^HTTP/1.1 101"))
    say(ws:send("hello"))
    say(ws:recv())
    say(ws:close())
    say(ws:close_info())
--- response_body
"client" nil nil "open" 0
32 "HTTP/1.1 101"
11
"hello" "text"
true
1000 "" true



=== TEST 2: the request, with every option that shows in it
--- client
    local ws = connect { protocols = { "v2", "v1" }, origin = "http://page.test", host = "other.test", headers = { "X-One: 1", ["X-Two"] = 2 }, compression = true }
    ws:shutdown()
--- server
    t.post("head")
    local head = t.head:gsub("Key: [^\r]*", "Key: -")
    answer("Sec-WebSocket-Protocol: v1")
    ngx.log(ngx.INFO, "head: ", (head:gsub("\r\n", "|")))
--- response_body
--- grep_error_log eval: qr/(?<=head: ).*?(?=, client: )/
--- grep_error_log_out
GET /s HTTP/1.1|Upgrade: websocket|Host: other.test|Sec-WebSocket-Key: -|Sec-WebSocket-Protocol: v2,v1|Sec-WebSocket-Version: 13|Origin: http://page.test|Connection: Upgrade|X-One: 1|X-Two: 2|Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits||



=== TEST 3: a new key for every connection, of 16 random bytes
--- client
    local keys = {}
    for n = 1, 20 do
        connect():shutdown()
    end
--- server
    local key = t.head:match("Key: ([^\r]*)")
    assert(#key == 24 and #ngx.decode_base64(key) == 16)
    t.seen = t.seen or {}
    assert(not t.seen[key])
    t.seen[key] = true
    answer()
    t.drain(sock)
--- response_body



=== TEST 4: the offers of compression
--- client
    for _, compression in ipairs { false, true, { server_no_context_takeover = true }, { client_no_context_takeover = true }, { server_max_window_bits = 10 }, { client_max_window_bits = 9 } } do
        connect({ compression = compression }):shutdown()
    end
    connect({}):shutdown()
--- server
    ngx.log(ngx.INFO, "offer: ", t.head:match("Extensions: ([^\r]*)"))
    answer()
--- response_body
--- grep_error_log eval: qr/(?<=offer: ).*?(?=, client: )/
--- grep_error_log_out
nil
permessage-deflate; client_max_window_bits
permessage-deflate; server_no_context_takeover; client_max_window_bits
permessage-deflate; client_no_context_takeover; client_max_window_bits
permessage-deflate; server_max_window_bits=10; client_max_window_bits
permessage-deflate; client_max_window_bits=9
nil



=== TEST 5: the directive turns compression on for the client too
--- directives: websocket_compression on client_no_context_takeover;
--- client
    connect({}):shutdown()
    connect({ compression = false }):shutdown()
--- server
    ngx.log(ngx.INFO, "offer: ", t.head:match("Extensions: ([^\r]*)"))
    answer()
--- response_body
--- grep_error_log eval: qr/(?<=offer: ).*?(?=, client: )/
--- grep_error_log_out
permessage-deflate; client_no_context_takeover; client_max_window_bits
nil



=== TEST 6: a protocol that was offered
--- offered: { protocols = { "v1", "v2" } }
--- answer: "Sec-WebSocket-Protocol: v2"
--- response_body
"connected" "v2"



=== TEST 7: no protocol, although some were offered
--- offered: { protocols = "v1" }
--- answer
--- response_body
"connected"



=== TEST 8: a protocol that was not offered
--- offered: { protocols = { "v1" } }
--- answer: "Sec-WebSocket-Protocol: v2"
--- response_body
nil "failed websocket handshake: bad "sec-websocket-protocol" response header: v2" "string"



=== TEST 9: a protocol although none was offered
--- answer: "Sec-WebSocket-Protocol: v1"
--- response_body
nil "failed websocket handshake: bad "sec-websocket-protocol" response header: v1" "string"



=== TEST 10: two protocols
--- offered: { protocols = { "v1", "v2" } }
--- answer: "Sec-WebSocket-Protocol: v1, v2"
--- response_body
nil "failed websocket handshake: bad "sec-websocket-protocol" response header: v1, v2" "string"



=== TEST 11: two protocol headers
--- offered: { protocols = { "v1", "v2" } }
--- answer: "Sec-WebSocket-Protocol: v1", "Sec-WebSocket-Protocol: v2"
--- response_body
nil "failed websocket handshake: bad "sec-websocket-protocol" response header: v1, v2" "string"



=== TEST 12: a protocol in other case
--- offered: { protocols = { "chat" } }
--- answer: "Sec-WebSocket-Protocol: Chat"
--- response_body
nil "failed websocket handshake: bad "sec-websocket-protocol" response header: Chat" "string"



=== TEST 13: compression that was offered
--- offered: { compression = true }
--- answer: "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_max_window_bits=10"
--- response_body
"connected" nil "permessage-deflate; server_no_context_takeover; client_max_window_bits=10"



=== TEST 14: compression that was not offered
--- answer: "Sec-WebSocket-Extensions: permessage-deflate"
--- response_body
nil "failed websocket handshake: bad "sec-websocket-extensions" response header: permessage-deflate" "string"



=== TEST 15: another extension
--- offered: { compression = true }
--- answer: "Sec-WebSocket-Extensions: x-webkit-deflate-frame"
--- response_body
nil "failed websocket handshake: extension was not offered" "string"



=== TEST 16: the extension twice
--- offered: { compression = true }
--- answer: "Sec-WebSocket-Extensions: permessage-deflate", "Sec-WebSocket-Extensions: permessage-deflate"
--- response_body
nil "failed websocket handshake: more than one extension" "string"



=== TEST 17: an unknown parameter
--- offered: { compression = true }
--- answer: "Sec-WebSocket-Extensions: permessage-deflate; level=9"
--- response_body
nil "failed websocket handshake: unknown extension parameter" "string"



=== TEST 18: a parameter with a value it cannot have
--- offered: { compression = true }
--- answer: "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=16"
--- response_body
nil "failed websocket handshake: bad value of extension parameter server_max_window_bits" "string"



=== TEST 19: a window larger than was asked for
--- offered: { compression = { server_max_window_bits = 10 } }
--- answer: "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=11"
--- response_body
nil "failed websocket handshake: bad value of extension parameter server_max_window_bits" "string"



=== TEST 20: a demand that was not granted
--- offered: { compression = { server_no_context_takeover = true } }
--- answer: "Sec-WebSocket-Extensions: permessage-deflate"
--- response_body
nil "failed websocket handshake: extension parameter server_no_context_takeover not granted" "string"



=== TEST 21: a malformed list of extensions
--- offered: { compression = true }
--- answer: "Sec-WebSocket-Extensions: permessage-deflate; =1"
--- response_body
nil "failed websocket handshake: malformed extensions" "string"



=== TEST 22: another status; the response is returned
--- client
    local ws, err, response = websocket.connect(url)
    say(ws, err, response)
--- server: answer("HTTP/1.1 503 Busy", "Upgrade", "Connection", "Sec-WebSocket-Accept", "Content-Length: 0")
--- response_body
nil "failed websocket handshake: unexpected response status: 503" "HTTP/1.1 503 Busy\x0d\x0aContent-Length: 0"



=== TEST 23: a redirection is not followed
--- offered: { timeout = 2000 }
--- answer: "HTTP/1.1 302 Found", "Location: /ws"
--- response_body
nil "failed websocket handshake: unexpected response status: 302" "string"



=== TEST 24: another version of HTTP
--- answer: "HTTP/1.0 101 Switching Protocols"
--- response_body_like: ^nil "bad HTTP response status line: HTTP/1.0 101



=== TEST 25: no Upgrade
--- answer: "Upgrade"
--- response_body
nil "failed websocket handshake: bad "upgrade" response header: nil" "string"



=== TEST 26: another Upgrade
--- answer: "Upgrade: h2c"
--- response_body
nil "failed websocket handshake: bad "upgrade" response header: h2c" "string"



=== TEST 27: no Connection
--- answer: "Connection"
--- response_body
nil "failed websocket handshake: bad "connection" response header: nil" "string"



=== TEST 28: another Connection
--- answer: "Connection: close"
--- response_body
nil "failed websocket handshake: bad "connection" response header: close" "string"



=== TEST 29: no Sec-WebSocket-Accept
--- answer: "Sec-WebSocket-Accept"
--- response_body
nil "failed websocket handshake: bad "sec-websocket-accept" response header: nil" "string"



=== TEST 30: a wrong Sec-WebSocket-Accept
--- answer: "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
--- response_body
nil "failed websocket handshake: bad "sec-websocket-accept" response header: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" "string"



=== TEST 31: names and values in other case, and lists
--- answer: "UPGRADE: WebSocket", "connection: keep-alive, UPGRADE"
--- response_body
"connected"



=== TEST 32: frames in the same packet as the response
--- client
    local ws = connect()
    say(ws:recv())
    say(ws:recv())
    ws:shutdown()
--- server
    answer("", "\129\5early\130\1", "x")
    t.drain(sock)
--- response_body
"early" "text"
"x" "binary"



=== TEST 33: no response at all, and half of one
--- client
    for _ = 1, 2 do
        local ws, err, response = websocket.connect(url, { timeout = 30000 })
        say(ws, err, response)
    end
--- server
    if t.second then
        sock:send("HTTP/1.1 101 Swi")
    end
    t.second = true
--- response_body
nil "failed to receive response header: closed"
nil "failed to receive response header: closed"



=== TEST 34: the time-out is that of the handshake too
--- client
    local ws, err, response = websocket.connect(url, { timeout = 50 })
    say(ws, err, response)
    t.post("over")
--- server
    t.wait("over")
--- response_body
nil "failed to receive response header: timeout"



=== TEST 35: nobody listens; a URI that is none
--- client
    say((select(2, websocket.connect("ws://127.0.0.1:1/"))))
    say((select(2, websocket.connect("http://127.0.0.1/"))))
    say((select(2, websocket.connect("ws://"))))
    say((select(2, websocket.connect(""))))
--- response_body
"failed to connect: connection refused"
"bad websocket uri"
"bad websocket uri"
"bad websocket uri"



=== TEST 36: unknown options, wrong types
--- client
    local function fault(...)
        local _, err = pcall(function(...) websocket.connect(...) return 1 end, ...)
        say((tostring(err):gsub("^content_by_lua%b():%d+: ", "here: "):gsub("known: .*", "...")))
    end
    fault()
    fault(1)
    fault(url, "x")
    fault(url, { origins = "*" })
    fault(url, { max_payload_len = 1 })
    fault(url, { compression = { x = 1 } })
    fault(url, { timeout = "1s" })
    fault(url, { max_message_size = "1x" })
    fault(url, { ssl_verify = 1 })
    fault(url, { headers = "X: 1" })
    fault(url, { protocols = 1 })
    fault(url, { protocols = { 1 } })
    fault(url, { compression = 5 })
    fault(url, { ping_interval = -1 })
    fault(url, { pool = {} })
    fault(url, { origin = {} })
    fault(url, { host = 1 })
    fault(url, { pool_size = "x" })
    fault(url, { backlog = -1 })
    fault(url, { server_name = 1 })
--- response_body
"here: bad "url" argument: string expected, got nil"
"here: bad "url" argument: string expected, got number"
"here: bad "opts" argument: table expected, got string"
"here: unknown option "origins" (..."
"here: unknown option "max_payload_len" (..."
"here: unknown option "compression.x" (..."
"here: bad "timeout" option: milliseconds expected, got string"
"here: bad "max_message_size" option: size in bytes expected, got string"
"here: bad "ssl_verify" option: boolean expected, got 1"
"here: bad "headers" option: table expected, got string"
"here: bad "protocols" option: array of strings expected, got 1"
"here: bad "protocols" option: array of strings expected, got 1"
"here: bad "compression" option: boolean or table expected, got 5"
"here: bad "ping_interval" option: milliseconds expected, got -1"
"here: bad "pool" option: string expected, got table"
"here: bad "origin" option: string expected, got table"
"here: bad "host" option: string expected, got 1"
"here: bad "pool_size" option: number expected, got string"
"here: bad "backlog" option: number expected, got -1"
"here: bad "server_name" option: string expected, got 1"



=== TEST 37: what would forge a header line
--- client
    say(websocket.connect(url, { origin = "x\r\nY: 1" }))
    say(websocket.connect(url, { headers = { "X: 1\r\nY: 2" } }))
    say(websocket.connect(url, { headers = { ["X\nY"] = "1" } }))
    say(websocket.connect(url, { protocols = { "a\r\nb" } }))
    say(websocket.connect(base .. "/s\r\nX: 1"))
--- server: answer()
--- response_body
nil "bad origin: control character"
nil "bad headers: control character"
nil "bad headers: control character"
nil "bad protocols: control character"
nil "bad websocket uri"



=== TEST 38: an IPv6 address
--- http_config
    server {
        listen [::1]:MOCK_PORT;
        location = /six {
            content_by_lua_block {
                local ws = require("resty.websocket").accept()
                ws:send(ngx.var.http_host .. " " .. ngx.var.server_addr)
                ws:recv()
            }
        }
    }
--- client
    local ws = assert(websocket.connect("ws://[::1]:MOCK_PORT/six"))
    say((ws:recv():gsub(":MOCK_PORT", ":port")))
    say(ws:close())
--- response_body
"[::1]:port ::1"
true



=== TEST 39: in a timer
--- client
    local done = require("ngx.semaphore").new()
    local port = ngx.var.server_port
    ngx.timer.at(0, function()
        local ws = assert(websocket.connect("ws://127.0.0.1:" .. port .. "/ws"))
        ws:send("from a timer")
        t.result = ws:recv() .. ", " .. tostring(ws:close()) .. ", " .. tostring(ws.request_id)
        done:post()
    end)
    done:wait(5)
    say(t.result)
--- response_body
nil



=== TEST 40: interim responses come before the one that counts
--- client
    local ws, err, response = websocket.connect(url)
    say(err, response:match("^[^\r]*"), ws:recv())
--- server
    assert(sock:send("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"))
    answer("", "\129\2hi")
--- response_body
nil "HTTP/1.1 101 Switching Protocols" "hi" "text"



=== TEST 41: what is no URI, and what a URI asks for
--- client
    for _, bad in ipairs { "ws://u:p@127.0.0.1/", "ws://127.0.0.1/a b", "ws://127.0.0.1/\r\nX: y" } do
        say((select(2, websocket.connect(bad))))
    end
    local ws = assert(websocket.connect("WS://127.0.0.1:HTTP_PORT?x=1#fragment"))
    say(ws:recv())
    ws:close()
--- config
    location = / {
        content_by_lua_block {
            local ws = assert(require("resty.websocket").accept())
            ws:send(ngx.var.request_uri)
            ws:recv()
        }
    }
--- response_body
"bad websocket uri"
"bad websocket uri"
"bad websocket uri"
"/?x=1" "text"
