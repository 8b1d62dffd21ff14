# websocket_proxy: messages both ways without Lua between, what the upstream is told of the client, how
# either side ends, what the client gets of an upstream that refuses.

use Test::Nginx::Socket::Lua;
use t::Proxy;
use t::Client qw(certificates has_ipv6);

certificates();
add_block_preprocessor(sub { complete_proxy_block(@_) });
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: messages both ways; what came before a close frame is answered before it is
--- pass
--- upstream
    for data, typ in ws:messages() do
        ws:send(typ .. " " .. data, typ)
    end
    report(ws:close_info())
--- client
    talk(peer.frame(0x81, "a") .. peer.frame(0x02, "b") .. peer.frame(0x80, "c"),
         peer.frame(0x88, "\15\160bye"), 2)
--- response_body
text text a
binary binary bc
close 4000 
closed
--- results
4000 "bye" true



=== TEST 2: the upstream closes, with a code and a reason, and without
--- pass: ws://127.0.0.1:HTTP_PORT/up?$args
--- upstream
    ws:send("x")
    if ngx.var.args == "with" then
        report(ws:close(4001, "why", 60000))
    else
        report(ws:close(1000, "", 60000))
    end
    report(ws:close_info())
--- client
    for _, path in ipairs { "/ws?", "/ws?with" } do
        local p = peer.connect("", path)
        say(p:receive())
        listen(p)
    end
--- response_body
129 "x"
close 1000 
closed
129 "x"
close 4001 why
closed
--- results
true
1000 "" true
true
4001 "" true



=== TEST 3: pings are answered here, and go nowhere
--- pass
--- upstream
    ws:ping("up")
    report(ws:recv())
    ws:send("y")
--- client
    local p = peer.connect(peer.frame(0x89, "down"))
    say(p:receive())
    p:send(peer.frame(0x81, "x"))
    listen(p)
--- response_body
138 "down"
text y
close 1000 
closed
--- results
"x" "text"



=== TEST 4: subprotocols go on, and the upstream's choice comes back
--- pass
--- accept: { protocols = { "b", "a" } }
--- upstream
    report(ngx.var.http_sec_websocket_protocol, ws.protocol)
--- client
    local p = peer.connect("", nil, nil, "Sec-WebSocket-Protocol: a, b\r\nSec-WebSocket-Protocol: c\r\n")
    ngx.say(p.head:match("Sec%-WebSocket%-Protocol: [^\r]*"))
    p:close()
--- response_body
Sec-WebSocket-Protocol: b
--- results
"a, b, c" "b"



=== TEST 5: subprotocols do not where that is said
--- pass: protocols=none
--- accept: { protocols = { "b", "a" } }
--- upstream
    report(ngx.var.http_sec_websocket_protocol, ws.protocol)
--- client
    local p = peer.connect("", nil, nil, "Sec-WebSocket-Protocol: a, b\r\n")
    ngx.say(p.head:match("Sec%-WebSocket%-Protocol: [^\r]*"))
    p:close()
--- response_body
nil
--- results
nil



=== TEST 6: headers: the client's go on, but for those of one hop; who it is is told
--- pass
--- upstream
    local h = ngx.req.get_headers()
    report(h.cookie, h.x_custom, h.te, h.origin)
    report(h["x-forwarded-for"], h["x-forwarded-proto"], h["x-forwarded-host"],
           h.host == "127.0.0.1:" .. ngx.var.server_port)
--- client
    peer.connect("", nil, nil, "Cookie: a=b\r\nX-Custom: c\r\nTE: trailers\r\nOrigin: http://o\r\n"
                 .. "X-Forwarded-For: 10.1.1.1\r\nX-Forwarded-Host: lie\r\n"):rest()
--- response_body
--- results
"a=b" "c" nil "http://o"
"10.1.1.1, 127.0.0.1" "http" "localhost" true



=== TEST 7: headers of a list, another Host, variables in the path
--- pass: ws://127.0.0.1:HTTP_PORT/up?who=$arg_who headers=x-custom host=chat.test
--- upstream
    local h = ngx.req.get_headers()
    report(h.cookie, h.x_custom, h.host, ngx.var.args)
--- client
    peer.connect("", "/ws?who=me", nil, "Cookie: a=b\r\nX-Custom: c\r\n"):rest()
--- response_body
--- results
nil "c" "chat.test" "who=me"



=== TEST 8: the client's path and query where the URL has none; headers of the upstream's 101
--- pass: ws://127.0.0.1:HTTP_PORT
--- config
    location /ws/deep {
        websocket_proxy ws://127.0.0.1:HTTP_PORT headers=none;
        if ($http_x_forwarded_for) {
            content_by_lua_block {
                ngx.header["Set-Cookie"] = { "a=1", "b=2" }
                ngx.header["X-Up"] = "yes"
                local ws = require("resty.websocket").accept()
                ws:send(ngx.var.request_uri)
            }
        }
    }
--- client
    local p = peer.connect("", "/ws/deep%20er?a=%62&c")
    for _, name in ipairs { "Set%-Cookie", "X%-Up", "Upgrade", "Sec%-WebSocket%-Accept" } do
        for value in p.head:gmatch("\n(" .. name .. ": [^\r]*)") do
            ngx.say(value)
        end
    end
    listen(p)
--- response_body
Set-Cookie: a=1
Set-Cookie: b=2
X-Up: yes
Upgrade: websocket
Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=
text /ws/deep%20er?a=%62&c
close 1000 
closed



=== TEST 9: an upstream that refuses: status, headers and body reach the client
--- pass
--- config
    location = /up {
        content_by_lua_block {
            ngx.status = 401
            ngx.header["WWW-Authenticate"] = 'Basic realm="chat"'
            if ngx.var.arg_length then
                ngx.header["Content-Length"] = 7
            end
            ngx.print("no ")
            ngx.flush(true)
            ngx.say("way")
        }
    }
    keepalive_timeout 0;
    location = /length { websocket_proxy ws://127.0.0.1:HTTP_PORT/up?length=1; }
--- client
    for _, path in ipairs { "/ws", "/length" } do
        local p = peer.connect("", path)
        ngx.say(p.head:match("[^\r]*"), "; ", p.head:match("WWW%-Authenticate: [^\r]*"), "; ",
                p.head:match("Upgrade: [^\r]*"))
        ngx.say((p:rest():gsub("%W+", " ")))
        p:close()
    end
--- response_body
HTTP/1.1 401 Unauthorized; WWW-Authenticate: Basic realm="chat"; nil
7 no way 0 
HTTP/1.1 401 Unauthorized; WWW-Authenticate: Basic realm="chat"; nil
no way 



=== TEST 10: a client that does not ask for a WebSocket is refused before the upstream is asked
--- pass: ws://127.0.0.1:1
--- client
    local sock = ngx.socket.tcp()
    for _, lines in ipairs { "", "Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 8\r\n" } do
        assert(sock:connect(ngx.var.server_addr, tonumber(ngx.var.server_port)))
        sock:send("GET /ws HTTP/1.1\r\nHost: localhost\r\n" .. lines .. "\r\n")
        ngx.say((sock:receive()))
    end
--- response_body
HTTP/1.1 400 Bad Request
HTTP/1.1 400 Bad Request



=== TEST 11: websocket_origin holds
--- pass
--- directives
    websocket_origin https://good.test;
--- upstream
--- client
    for _, origin in ipairs { "https://good.test", "https://evil.test" } do
        local p = peer.connect("", nil, nil, "Origin: " .. origin .. "\r\n")
        ngx.say(p.head:match("%d%d%d"))
        p:close()
    end
--- response_body
101
403



=== TEST 12: an upstream that cannot be reached is a 502, one that is slow a 504
--- pass: ws://127.0.0.1:1
--- config
    location = /slow { websocket_proxy ws://127.0.0.1:HTTP_PORT/sleep answer_timeout=50ms; }
    location = /sleep { content_by_lua_block { ngx.sleep(1) ngx.exit(204) } }
--- client
    for _, path in ipairs { "/ws", "/slow" } do
        local p = peer.connect("", path)
        ngx.say(p.head:match("[^\r]*"))
        p:close()
    end
--- response_body
HTTP/1.1 502 Bad Gateway
HTTP/1.1 504 Gateway Time-out
--- error_log eval
["connect() failed (111: Connection refused) while connecting to upstream",
 qr{upstream timed out .* while reading response header from upstream, .* upstream: "ws://127.0.0.1:\d+/sleep"}]



=== TEST 13: an upstream's bad handshake is a 502, and the log names it
--- pass
--- config
    location = /up {
        content_by_lua_block {
            local sock = ngx.req.socket(true)
            local bad = ({ accept = "Sec-WebSocket-Accept: x\r\n", protocol = "Sec-WebSocket-Protocol: z\r\n",
                           ext = "Sec-WebSocket-Extensions: x\r\n" })[ngx.var.arg_bad] or ""
            local accept = require("t.peer").accept_of(ngx.var.http_sec_websocket_key)
            local good = ngx.var.arg_bad ~= "accept" and "Sec-WebSocket-Accept: " .. accept .. "\r\n" or ""
            sock:send(ngx.var.arg_bad == "http" and "SSH-2.0\r\n\r\n"
                      or "HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: upgrade\r\n" .. good .. bad .. "\r\n")
        }
    }
    location /bad/ { websocket_proxy ws://127.0.0.1:HTTP_PORT/up?bad=$arg_bad; }
--- client
    for _, bad in ipairs { "accept", "protocol", "ext", "http" } do
        local p = peer.connect("", "/bad/?bad=" .. bad)
        ngx.say(p.head:match("[^\r]*"))
        p:close()
    end
--- response_body
HTTP/1.1 502 Bad Gateway
HTTP/1.1 502 Bad Gateway
HTTP/1.1 502 Bad Gateway
HTTP/1.1 502 Bad Gateway
--- error_log eval
[qr{\[error\].* bad answer: failed websocket handshake: bad "sec-websocket-accept" response header: x .* upstream: "ws://127.0.0.1:\d+/up\?bad=accept"},
 qr{bad answer: failed websocket handshake: bad "sec-websocket-protocol" response header: z},
 qr{bad answer: failed websocket handshake: },
 qr{bad answer: no HTTP response}]



=== TEST 14: a client's fault closes it with its code, and the upstream with 1001; what was answered comes first
--- pass
--- upstream
    local data, typ, code, reason = ws:recv()
    report(data, typ, code, reason)
    if data then
        ws:send("answer")
    end
    report(ws:recv())
--- client
    listen(peer.connect(peer.frame(0x81, "fine") .. peer.frame(0x81, "\255")))
    listen(peer.connect(peer.frame(0x83, "")))
--- response_body
text answer
close 1007 invalid utf-8
closed
close 1002 reserved non-control frames
closed
--- results
"fine" "text"
nil "closed" 1001 ""
nil "closed" 1001 ""
nil "closed" 1001 ""



=== TEST 15: an upstream's fault closes it with its code, and the client with 1011
--- pass
--- config eval: $t::Proxy::MASKED
--- client
    listen(peer.connect())
--- response_body
close 1011 upstream connection lost
closed
--- results
"frame masked" "close" 1002



=== TEST 16: one side lost is told to the other
--- pass
--- upstream
    if ngx.var.arg_gone then
        ws:send("x")
        ws:recv()
        return ws:shutdown()
    end
    report(ws:recv())
    report(ws:recv())
--- client
    local p = peer.connect(peer.frame(0x81, "x"))
    p:close()
    p = peer.connect("", "/gone")
    say(p:receive())
    p:send(peer.frame(0x81, "go"))
    listen(p)
--- config
    location = /gone { websocket_proxy ws://127.0.0.1:HTTP_PORT/up?gone=1; }
--- response_body
129 "x"
close 1011 upstream connection lost
closed
--- results
"x" "text"
nil "closed" 1001 ""



=== TEST 17: limits of messages, both ways
--- pass
--- directives
    websocket_max_message_size 10;
--- upstream
    for data in ws:messages() do
        ws:send(data .. data)
    end
    report(ws:close_info())
--- client
    listen(peer.connect(peer.frame(0x81, "1234567890a")))
    listen(peer.connect(peer.frame(0x81, "12345") .. peer.frame(0x81, "123456")))
--- response_body
close 1009 exceeding max payload len
closed
text 1234512345
close 1011 upstream connection lost
closed
--- results
1001 "" true
1009 "exceeding max payload len" true



=== TEST 18: compression on either side alone
--- pass: compression=on
--- directives
    websocket_compression off;
--- accept: { compression = true }
--- upstream
    report(ws.extensions ~= nil)
    for data in ws:messages() do
        report(#data)
        ws:send(data)
    end
--- client
    local p = peer.connect(peer.frame(0x81, ("x"):rep(10000)), nil, nil,
                           "Sec-WebSocket-Extensions: permessage-deflate\r\n")
    ngx.say(p.head:match("Sec%-WebSocket%-Extensions[^\r]*"))
    local first, data = p:receive()
    say(first, #data)
    p:send(peer.frame(0x88, ""))
    listen(p)
--- response_body
nil
129 10000
close 
closed
--- results
true
10000



=== TEST 19: compression with the client alone
--- pass
--- directives
    websocket_compression on threshold=0;
--- upstream
    report(ngx.var.http_sec_websocket_extensions)
    for data in ws:messages() do
        ws:send(data)
    end
--- client
    local p = peer.connect(peer.frame(0x81, "abcabcabcabc"), nil, nil,
                           "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n")
    ngx.say(p.head:match("Sec%-WebSocket%-Extensions[^\r;]*"))
    local first, data = p:receive()
    say(first, #data < 12)
    p:send(peer.frame(0x88, ""))
    listen(p)
--- response_body
Sec-WebSocket-Extensions: permessage-deflate
193 true
close 
closed
--- results
nil



=== TEST 20: variables for the log
--- pass
--- directives
    log_by_lua_block {
        local v = ngx.var
        ngx.log(ngx.INFO, "result: ", v.websocket_messages_in, " ", v.websocket_messages_out, " ",
                v.websocket_close_code, " ", v.upstream_status, " ", v.websocket_upstream_status, " ",
                v.websocket_upstream_addr == v.upstream_addr, ", client: ")
    }
--- upstream
    ws:send(ws:recv())
    ws:recv()
--- client
    local p = peer.connect(peer.frame(0x81, "x"))
    p:receive()
    p:send(peer.frame(0x88, "\15\160"))
    listen(p)
--- response_body
close 4000 
closed
--- results
1 1 4000 101 101 true



=== TEST 21: idle_timeout
--- pass eval: "idle_timeout=" . ($::SLOW > 1 ? "3s" : "60ms")
--- upstream
    ws:recv()
    report(ws:recv())
--- client
    listen(peer.connect(peer.frame(0x81, "x")))
--- response_body
close 1001 idle
closed
--- results
nil "closed" 1001 "idle"



=== TEST 22: an upstream block, its peers in turn, and the next where one is dead
--- http_config
    upstream chat {
        server 127.0.0.1:1;
        server 127.0.0.1:HTTP_PORT backup;
    }
--- pass: ws://chat/up
--- upstream
    report(ngx.var.http_host)
--- client
    listen(peer.connect())
--- response_body
close 1000 
closed
--- results
"chat"
--- no_error_log
[alert]



=== TEST 23: balancer_by_lua
--- http_config
    upstream picked {
        server 0.0.0.1;
        balancer_by_lua_block {
            assert(require("ngx.balancer").set_current_peer("127.0.0.1", ngx.var.server_port))
        }
    }
--- pass: ws://picked/up
--- upstream
    report(ngx.var.http_host)
--- client
    listen(peer.connect())
--- response_body
close 1000 
closed
--- results
"picked"



=== TEST 24: a unix socket, with a path and without
--- http_config
    server {
        listen unix:SOCK_DIR/up.sock;
        location / {
            content_by_lua_block {
                local ws = assert(require("resty.websocket").accept())
                ws:send(ngx.var.http_host .. ngx.var.request_uri)
            }
        }
    }
--- config
    location = /bare { websocket_proxy ws://unix:SOCK_DIR/up.sock; }
--- pass: ws://unix:SOCK_DIR/up.sock:/deep?x
--- client
    listen(peer.connect())
    listen(peer.connect("", "/bare?y"))
--- response_body
text localhost/deep?x
close 1000 
closed
text localhost/bare?y
close 1000 
closed



=== TEST 25: IPv6
--- skip_eval: 3: !::has_ipv6()
--- http_config
    server {
        listen [::1]:TLS_PORT;
        location / {
            content_by_lua_block {
                local ws = assert(require("resty.websocket").accept())
                ws:send(ngx.var.server_addr)
            }
        }
    }
--- pass: ws://[::1]:TLS_PORT/
--- client
    listen(peer.connect())
--- response_body
text ::1
close 1000 
closed



=== TEST 26: wss: verified by name and authority, with a certificate of our own
--- http_config
    server {
        listen TLS_PORT ssl;
        ssl_certificate CERT_DIR/ws.test.pem;
        ssl_certificate_key CERT_DIR/ws.test.key.pem;
        ssl_client_certificate CERT_DIR/ca.pem;
        ssl_verify_client optional;
        location / {
            content_by_lua_block {
                local ws = assert(require("resty.websocket").accept())
                for data in ws:messages() do
                    ws:send(ngx.var.ssl_client_verify .. " " .. ngx.var.ssl_server_name .. " " .. #data)
                end
            }
        }
    }
--- config
    location = /own {
        websocket_proxy wss://127.0.0.1:TLS_PORT/ ssl_trusted_certificate=CERT_DIR/ca.pem ssl_name=ws.test
                        ssl_certificate=CERT_DIR/client.pem ssl_certificate_key=CERT_DIR/client.key.pem;
    }
    location = /name {
        websocket_proxy wss://127.0.0.1:TLS_PORT/ ssl_trusted_certificate=CERT_DIR/ca.pem ssl_name=other.test;
    }
    location = /authority {
        websocket_proxy wss://127.0.0.1:TLS_PORT/ ssl_trusted_certificate=CERT_DIR/self-signed.pem ssl_name=ws.test;
    }
    location = /any { websocket_proxy wss://127.0.0.1:TLS_PORT/ ssl_verify=off ssl_name=any.test; }
--- pass: wss://127.0.0.1:TLS_PORT/ ssl_trusted_certificate=CERT_DIR/ca.pem ssl_name=ws.test
--- client
    for _, path in ipairs { "/ws", "/own", "/any" } do
        local p = peer.connect(peer.frame(0x81, ("x"):rep(100000)), path)
        say(p:receive())
        p:send(peer.frame(0x88, "\3\232"))
        listen(p)
    end
    for _, path in ipairs { "/name", "/authority" } do
        local p = peer.connect("", path)
        ngx.say(p.head:match("[^\r]*"))
        p:close()
    end
--- response_body
129 "NONE ws.test 100000"
close 1000 
closed
129 "SUCCESS ws.test 100000"
close 1000 
closed
129 "NONE any.test 100000"
close 1000 
closed
HTTP/1.1 502 Bad Gateway
HTTP/1.1 502 Bad Gateway
--- error_log
upstream SSL certificate does not match "other.test" while SSL handshaking to upstream
upstream SSL certificate verify error:



=== TEST 27: what comes in one packet with the upstream's 101
--- pass
--- config
    location = /up {
        content_by_lua_block {
            local sock = ngx.req.socket(true)
            local accept = require("t.peer").accept_of(ngx.var.http_sec_websocket_key)
            sock:send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
                      .. "Sec-WebSocket-Accept: " .. accept .. "\r\n\r\n\129\5first\129\4seco")
            sock:receive(1)
            sock:send("\136\2\3\232")
            sock:receive("*a")
        }
    }
--- client
    local p = peer.connect(peer.frame(0x81, "go"))
    say(p:receive())
    say(p:receive())
    listen(p)
--- response_body
129 "first"
129 "seco"
close 1000 
closed



=== TEST 28: both sides are over as soon as they begin, and nginx does not linger
--- pass
--- directives: lingering_close off;
--- config
    location = /up {
        content_by_lua_block {
            local sock = ngx.req.socket(true)
            local accept = require("t.peer").accept_of(ngx.var.http_sec_websocket_key)
            sock:send("HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
                      .. "Sec-WebSocket-Accept: " .. accept .. "\r\n\r\n\136\2\3\240")
            sock:receive("*a")
        }
    }
--- client
    for _ = 1, 3 do
        listen(peer.connect(peer.frame(0x83, "")))
    end
--- response_body
close 1002 reserved non-control frames
closed
close 1002 reserved non-control frames
closed
close 1002 reserved non-control frames
closed



=== TEST 29: what an upstream tells an nginx before it is not done, and not told the client
--- pass
--- config
    location = /up {
        content_by_lua_block {
            local sock = ngx.req.socket(true)
            local accept = require("t.peer").accept_of(ngx.var.http_sec_websocket_key)
            sock:send((ngx.var.arg_refuse and "HTTP/1.0 403 No\r\nContent-Type: text/plain\r\n"
                       or "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
                          .. "Sec-WebSocket-Accept: " .. accept .. "\r\n")
                      .. "X-Accel-Redirect: /elsewhere\r\nX-Accel-Limit-Rate: 1\r\nX-Accel-Buffering: yes\r\n"
                      .. "X-Accel-Expires: 100\r\nX-Accel-Charset: koi8-r\r\nX-Accel: kept\r\n\r\n"
                      .. (ngx.var.arg_refuse and "no way" or "\129\126\0\200" .. ("x"):rep(200) .. "\136\2\3\232"))
        }
    }
    keepalive_timeout 0;
    location = /refused { websocket_proxy ws://127.0.0.1:HTTP_PORT/up?refuse=1; }
    location = /elsewhere { return 200 "elsewhere"; }
--- client
    local p = peer.connect("", "/refused")
    ngx.say(p.head:match("[^\r]*"), "; ", p.head:match("Content%-Type: [^\r]*"), "; ",
            p.head:match("X%-Accel[^\r]*"))
    ngx.say(p:rest():match("no way"))
    p:close()
    p = peer.connect()
    ngx.say(p.head:match("[^\r]*"), "; ", p.head:match("X%-Accel[^\r]*"))
    local first, data = p:receive()
    say(first, #data)
    listen(p)
--- response_body
HTTP/1.1 403 No; Content-Type: text/plain; X-Accel: kept
no way
HTTP/1.1 101 Switching Protocols; X-Accel: kept
129 200
close 1000 
closed



=== TEST 30: balancer_by_lua hears how the last peer has failed, and makes the request anew
--- http_config eval: $t::Proxy::ANEW
--- pass: ws://picked/up
--- upstream
    report(ngx.var.http_host, ws:recv())
--- client
    peer.connect(peer.frame(0x81, "x")):rest()
    peer.connect("body" .. peer.frame(0x81, "y"), nil, nil, "Content-Length: 4\r\n"):rest()
--- response_body
--- error_log
result: failed 502
result: "picked" "x" "text"
result: "picked" "y" "text"
--- no_error_log
[alert]



=== TEST 31: unix: in path and query means nothing
--- pass: ws://127.0.0.1:HTTP_PORT/up?at=unix:a
--- config
    location = /own {
        websocket_proxy ws://127.0.0.1:HTTP_PORT;
        if ($http_x_forwarded_for) {
            content_by_lua_block { require("resty.websocket").accept():send(ngx.var.request_uri) }
        }
    }
--- upstream
    ws:send(ngx.var.request_uri)
--- client
    listen(peer.connect())
    listen(peer.connect("", "/own?token=unix:a:b"))
--- response_body
text /up?at=unix:a
close 1000 
closed
text /own?token=unix:a:b
close 1000 
closed



=== TEST 32: a time of 0 is no limit
--- pass: connect_timeout=0 answer_timeout=0
--- config
    location = /up {
        content_by_lua_block {
            ngx.sleep(0.01)
            require("resty.websocket").accept():send("there")
        }
    }
--- client
    listen(peer.connect())
--- response_body
text there
close 1000 
closed



=== TEST 33: a header over several lines goes on in one, and begins no line of the log
--- pass
--- config
    location = /up {
        content_by_lua_block {
            local status = ngx.var.arg_bad and "101 OK\r\nUpgrade: bad\r\n [alert] " or "403 No\r\nX-Long: a"
            ngx.req.socket(true):send("HTTP/1.1 " .. status .. "\r\n Set-Cookie: b\r\n  c\r\nContent-Length: 0\r\n\r\n")
        }
    }
    location = /bad { websocket_proxy ws://127.0.0.1:HTTP_PORT/up?bad=1; }
--- client
    for _, path in ipairs { "/ws", "/bad" } do
        local p = peer.connect("", path)
        ngx.say(p.head:match("[^\r]*"), "; ", p.head:match("X%-Long: [^\r]*"), "; ", p.head:match("[^\r\n]*Set%-Cookie[^\r]*"))
        p:close()
    end
--- response_body
HTTP/1.1 403 No; X-Long: a   Set-Cookie: b    c; X-Long: a   Set-Cookie: b    c
HTTP/1.1 502 Bad Gateway; nil; nil
--- error_log
bad answer: failed websocket handshake: bad "upgrade" response header: bad%0D%0A [alert] %0D%0A Set-Cookie: b%0D%0A



=== TEST 34: two lengths of a refusal are its head's fault, where nginx takes them for one (from 1.23 on)
--- pass
--- config
    location = /up {
        content_by_lua_block {
            ngx.req.socket(true):send("HTTP/1.1 403 No\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n")
        }
    }
--- client
    local p = peer.connect()
    local status = p.head:match("^HTTP/1.1 (%d+)")
    ngx.say(status == "403" or status == "502" or status)
    p:close()
--- response_body
true
--- no_error_log
[alert]
