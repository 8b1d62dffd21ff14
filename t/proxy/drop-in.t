# resty.websocket.proxy, the drop-in for lua-resty-websocket-proxy: frames both ways, what on_frame may
# do with them, fragments, limits, states, and what is said of misuse.

use Test::Nginx::Socket::Lua;
use t::Proxy;
use t::Client qw(certificates);

certificates();
add_block_preprocessor(sub { complete_proxy_block(@_) });
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: the module's keys
--- client
    local proxy, names = require "resty.websocket.proxy", {}
    for name, value in pairs(proxy) do
        names[#names + 1] = name .. " " .. type(value)
    end
    table.sort(names)
    ngx.say(table.concat(names, "\n"), "\n", proxy._VERSION)
--- response_body
_VERSION string
connect function
connect_client function
connect_upstream function
dd function
execute function
new function
0.0.1



=== TEST 2: frames of every kind, both ways, as they are
--- upstream
    local opcodes = { text = 1, continuation = 0, ping = 9, pong = 10 }
    for _ = 1, 4 do
        local data, typ, err = wb:recv_frame()
        assert(wb:send_frame(err ~= "again", opcodes[typ], data .. "!"))
    end
    report("upstream got", wb:recv_frame())
    wb:send_close(4000, "bye")
--- client
    listen(peer.connect(peer.frame(0x01, "he") .. peer.frame(0x89, "1") .. peer.frame(0x8a, "2")
                        .. peer.frame(0x80, "llo") .. peer.frame(0x88, "\3\232so long")))
--- response_body
text ... he!
ping 1!
pong 2!
continuation llo!
close 4000 bye
closed
--- results
"upstream got" "so long" "close" 1000



=== TEST 3: a close frame without a code, and one without a reason
--- upstream
    report("upstream got", wb:recv_frame())
    wb:send_close(1001)
--- client
    listen(peer.connect(peer.frame(0x88, "")))
--- response_body
close 1001 
closed
--- results
"upstream got" "" "close"



=== TEST 4: what on_frame is called with, and in which phase
--- proxy
    local wp
    wp = assert(proxy.new { on_frame = function (self, ...)
        report(self == wp, ngx.get_phase(), ...)
        return (select(3, ...))
    end })
    assert(wp:connect(url))
    report("done", wp:execute())
--- upstream
    wb:send_frame(false, 2, wb:recv_frame())
    wb:send_close(1000, (wb:recv_frame()))
--- client
    listen(peer.connect(peer.frame(0x81, "a") .. peer.frame(0x89, "b")))
--- response_body
binary ... a
close 1000 b
closed
--- results
true "content" "client" "text" "a" true
true "content" "client" "ping" "b" true
true "content" "upstream" "binary" "a" false
true "content" "upstream" "close" "b" true 1000
"done" true



=== TEST 5: on_frame changes payloads, of data, of pings, and the code of a close frame
--- options
    { on_frame = function (_, role, typ, payload)
        return role .. " " .. typ .. " " .. payload, 4001
    end }
--- upstream
    for _ = 1, 2 do
        local data, typ = wb:recv_frame()
        report(typ, data)
        wb["send_" .. typ](wb, "x")
    end
    wb:send_close(1000, "c")
--- client
    listen(peer.connect(peer.frame(0x82, "a") .. peer.frame(0x89, "b")))
--- response_body
binary upstream binary x
ping upstream ping x
close 4001 upstream close c
closed
--- results
"binary" "client binary a"
"ping" "client ping b"



=== TEST 6: on_frame drops frames by returning nothing, a close frame too
--- options
    { on_frame = function (_, _, typ, payload, _, code)
        if payload ~= "drop me" and typ ~= "close" then
            return payload, code
        end
    end }
--- upstream
    for _, data in ipairs { "a", "drop me", "b" } do
        wb:send_text(data)
    end
    wb:send_close(1000, "unheard")
--- client
    listen(peer.connect())
--- response_body
text a
text b
closed



=== TEST 7: what on_frame may return
--- proxy
    for _, wrong in ipairs { 1, true } do
        local wp = assert(proxy.new { on_frame = function () return wrong end })
        assert(wp:connect_upstream(url))
        wp.server, wp.client_state = wp.client, 2
        report(wp:execute())
    end
    local wp = assert(proxy.new { on_frame = function () return "", "1000" end })
    assert(wp:connect(url .. "?close"))
    report(wp:execute())
--- upstream
    if ngx.var.args then
        return wb:send_close(1000)
    end
    wb:send_text("x")
--- client
    listen(peer.connect())
--- response_body
closed
--- no_error_log
[alert]
--- results
nil "opts.on_frame return value must be nil or a string"
nil "opts.on_frame return value must be nil or a string"
nil "opts.on_frame status code return value must be nil or a number"



=== TEST 8: on_frame that raises ends both sides, and execute() says why
--- options
    { on_frame = function () error("oops", 0) end }
--- upstream
    wb:recv_frame()
--- client
    listen(peer.connect(peer.frame(0x81, "x")))
--- response_body
closed
--- no_error_log
[alert]
--- error_log
lua user thread aborted: runtime error: oops
failed to wait for websocket proxy threads: oops
result: "failed" "oops"



=== TEST 9: fragments, joined: on_frame sees whole messages, control frames pass in between
--- options
    { aggregate_fragments = true, on_frame = function (_, role, typ, payload, last)
        report(role, typ, payload, last)
        return payload
    end }
--- upstream
    for _ = 1, 3 do
        report("upstream got", wb:recv_frame())
    end
    for i, word in ipairs { "a", "b", "", "c" } do
        wb:send_frame(i == 4, i == 1 and 2 or 0, word)
    end
    wb:send_text("whole")
--- client
    listen(peer.connect(peer.frame(0x01, "he") .. peer.frame(0x89, "p") .. peer.frame(0x80, "llo")
                        .. peer.frame(0x81, "again")))
--- response_body
binary abc
text whole
closed
--- results
"client" "ping" "p" true
"client" "text" "hello" true
"client" "text" "again" true
"upstream got" "p" "ping"
"upstream got" "hello" "text"
"upstream got" "again" "text"
"upstream" "binary" "abc" true
"upstream" "text" "whole" true



=== TEST 10: a frame over client_max_frame_size
--- options: { client_max_frame_size = 4 }
--- upstream
    report("upstream got", wb:recv_frame())
    report("upstream got", wb:recv_frame())
--- client
    listen(peer.connect(peer.frame(0x81, "four") .. peer.frame(0x81, "fiver")))
--- response_body
close 1009 Payload Too Large
closed
--- results
"upstream got" "four" "text"
"upstream got" "" "close" 1001
--- info
client frame size (5) exceeds limit, closing



=== TEST 11: a frame over upstream_max_frame_size
--- options: { upstream_max_frame_size = 4 }
--- upstream
    wb:send_text("fiver")
    report("upstream got", wb:recv_frame())
--- client
    listen(peer.connect())
--- response_body
close 1001 
closed
--- results
"upstream got" "Payload Too Large" "close" 1009
--- info
upstream frame size (5) exceeds limit, closing



=== TEST 12: sizes and fragments count for a message where fragments are joined
--- proxy
    local opts = ngx.var.args == "size" and { client_max_frame_size = 4 } or { client_max_fragments = 2 }
    opts.aggregate_fragments = true
    local wp = assert(proxy.new(opts))
    assert(wp:connect(url))
    wp:execute()
--- upstream
    while wb:recv_frame() do end
--- client
    for _, what in ipairs { "size", "count" } do
        listen(peer.connect(peer.frame(0x01, "12") .. peer.frame(0x80, "34")
                            .. peer.frame(0x01, "12") .. peer.frame(0x00, "3") .. peer.frame(0x80, "45"),
                            "/ws?" .. what))
    end
--- response_body
close 1009 Payload Too Large
closed
close 1009 Payload Too Large
closed



=== TEST 13: control frames are under no limit, nor fragments that are not joined
--- options: { client_max_frame_size = 2, client_max_fragments = 1 }
--- upstream
    for _ = 1, 4 do
        report(wb:recv_frame())
    end
--- client
    listen(peer.connect(peer.frame(0x89, "12345") .. peer.frame(0x01, "12") .. peer.frame(0x00, "34")
                        .. peer.frame(0x80, "56")))
--- response_body
closed
--- results
"12345" "ping"
"12" "text" "again"
"34" "continuation" "again"
"56" "continuation"


=== TEST 14: what the options may be
--- client
    local new = require("resty.websocket.proxy").new
    local function refused(opts)
        local ok, err = pcall(function () assert(new(opts)) end)
        ngx.say(ok and "taken" or err:gsub("^[^ ]+ ", ""))
    end
    refused(nil)
    refused(1)
    refused { on_frame = 1 }
    refused { recv_timeout = "1" }
    for _, name in ipairs { "client_max_frame_size", "client_max_fragments", "upstream_max_frame_size",
                            "upstream_max_fragments" } do
        refused { [name] = 0 }
        refused { [name] = "1" }
        refused { [name] = 1 }
    end
--- response_body
taken
opts must be a table
opts.on_frame must be a function
opts.recv_timeout must be a number
opts.client_max_frame_size must be a number >= 1
opts.client_max_frame_size must be a number >= 1
taken
opts.client_max_fragments must be a number >= 1
opts.client_max_fragments must be a number >= 1
taken
opts.upstream_max_frame_size must be a number >= 1
opts.upstream_max_frame_size must be a number >= 1
taken
opts.upstream_max_fragments must be a number >= 1
opts.upstream_max_fragments must be a number >= 1
taken



=== TEST 15: execute() before both sides are there
--- proxy
    local wp = assert(proxy.new())
    report(wp:execute())
    local ok, err, head = wp:connect_upstream(url)
    report(ok, err, head:match("[^\r]*"))
    report(wp:execute())
    wp = assert(proxy.new())
    report(wp:connect_client())
    report(wp:execute())
--- upstream
    wb:recv_frame()
--- client
    listen(peer.connect())
--- response_body
closed
--- results
nil "client handshake not complete"
true nil "HTTP/1.1 101 Switching Protocols"
nil "client handshake not complete"
true
nil "upstream connection not established"



=== TEST 16: connecting twice is noted, and does nothing
--- proxy
    local wp = assert(proxy.new())
    assert(wp:connect(url))
    report(wp:connect_upstream(url))
    report(wp:connect_client())
    report(wp:execute())
    report(wp.client_state, wp.upstream_state)
--- upstream
    wb:send_text("x")
--- client
    listen(peer.connect())
--- response_body
text x
closed
--- no_error_log
[error]
--- error_log eval
[qr{\[warn\].* connection with upstream at "ws://127.0.0.1:\d+/up" already established},
 qr{\[warn\].* client handshake already completed}]
--- results
true
true
true
1 1



=== TEST 17: an upstream that cannot be reached, that refuses, and a client that does not upgrade
--- config
    location = /401 { return 401; }
--- http_config
    lua_socket_log_errors off;
--- proxy
    local wp = assert(proxy.new())
    report(wp:connect("ws://127.0.0.1:1/"))
    local ok, err = wp:connect((url:gsub("/up", "/401")))
    report(ok, err:match("^failed connecting to upstream: failed websocket handshake: .* (%d+)$"))
    report(wp.upstream_state)
    ok, err = wp:connect(url)
    report(ok, (err:gsub('"', "'")))
    ngx.status = 400
    ngx.say("refused")
--- upstream
    wb:recv_frame()
--- client
    local sock = ngx.socket.tcp()
    assert(sock:connect(ngx.var.server_addr, tonumber(ngx.var.server_port)))
    sock:send("GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n")
    say(sock:receive())
--- response_body
"HTTP/1.1 400 Bad Request"
--- results
nil "failed connecting to upstream: failed to connect: connection refused"
nil "401"
1
nil "failed client handshake: bad 'upgrade' request header: nil"



=== TEST 18: a time-out of receiving is passed over
--- options: { recv_timeout = 20 }
--- upstream
    wb:send_text((wb:recv_frame()))
--- client
    local p = peer.connect()
    ngx.sleep(0.1)
    p:send(peer.frame(0x81, "late"))
    listen(p)
--- response_body
text late
closed
--- error_log
timeout receiving frame from client, reopening
timeout receiving frame from upstream, reopening
--- no_error_log
[error]



=== TEST 19: a peer that breaks the framing ends both
--- upstream
    report("upstream got", wb:recv_frame())
    report("upstream got", wb:recv_frame())
--- client
    local p = peer.connect(peer.frame(0x81, "x") .. "\131\1a")
    listen(p)
--- response_body
closed
--- results
"failed" "reserved non-control frames"
"upstream got" "x" "text"
"upstream got" "" "close"
--- info
failed receiving frame from client: reserved non-control frames



=== TEST 20: the client is gone
--- upstream
    report("upstream got", wb:recv_frame())
    report("upstream got", wb:recv_frame())
--- client
    peer.connect(peer.frame(0x81, "x")):close()
--- response_body
--- results
"upstream got" "x" "text"
"upstream got" "" "close"



=== TEST 21: debug lines
--- options: { debug = true, aggregate_fragments = true }
--- upstream
    wb:send_text((wb:recv_frame()))
    wb:send_close(1000, "a\nb")
--- client
    listen(peer.connect(peer.frame(0x01, "hello") .. peer.frame(0x80, (" world"):rep(4))))
--- response_body
text hello world world world world
close 1000 a
b
closed
--- log_level: debug
--- error_log
[frame] downstream --> resty.proxy --> upstream
  aggregating: true
  initial type: "text"
  payload: " world world world world" (len: 24)
  payload: "hello world world world [...]" (len: 29)
[frame] downstream x-- resty.proxy x-- upstream
  code: 1000
  payload: "a\\nb" (len: 3)
  fin: false
client received last fragmented frame, forwarding
--- no_error_log
[error]



=== TEST 22: states while it carries, and a frame that cannot be passed on
--- options
    { on_frame = function (self, role, typ, payload)
        report(role, self.client_state, self.upstream_state)
        return payload == "grow" and ("x"):rep(70000) or payload
    end }
--- upstream
    report("upstream got", wb:recv_frame())
--- client
    listen(peer.connect(peer.frame(0x81, "grow")))
--- response_body
closed
--- results
"client" 2 2
"failed" "fatal error already happened"
"upstream got" nil nil "failed to receive the first 2 bytes: closed"
--- info
failed forwarding a frame from client: payload too big



=== TEST 23: upstream_max_fragments, and a side that cannot be told to close
--- options
    { aggregate_fragments = true, upstream_max_fragments = 2, on_frame = function (self, _, _, payload)
        self.server.send_close = function () return nil, "will not" end
        return payload
    end }
--- upstream
    wb:send_text("x")
    for i = 1, 3 do
        wb:send_frame(i == 3, i == 1 and 1 or 0, "y")
    end
    report("upstream got", wb:recv_frame())
--- client
    listen(peer.connect())
--- response_body
text x
closed
--- results
"upstream got" "Payload Too Large" "close" 1009
--- error_log
upstream frame count (3) exceeds limit, closing
failed sending close frame to client: will not



=== TEST 24: wss, by connect's options
--- http_config
    server {
        listen TLS_PORT ssl;
        ssl_certificate CERT_DIR/ws.test.pem;
        ssl_certificate_key CERT_DIR/ws.test.key.pem;
        location / {
            content_by_lua_block {
                local wb = assert(require("resty.websocket.server"):new())
                wb:send_text(ngx.var.ssl_server_name .. " " .. ngx.var.http_sec_websocket_protocol)
            }
        }
    }
    lua_ssl_trusted_certificate CERT_DIR/ca.pem;
--- proxy
    local wp = assert(proxy.new())
    report(wp:connect_upstream("wss://127.0.0.1:TLS_PORT/", { server_name = "other.test", ssl_verify = true }))
    report(wp:connect("wss://127.0.0.1:TLS_PORT/", { server_name = "ws.test", ssl_verify = true, protocols = "a" }))
    wp:execute()
--- client
    listen(peer.connect())
--- response_body
text ws.test a
closed
--- results
nil "ssl handshake failed: certificate host mismatch"
true
--- no_error_log
[alert]



=== TEST 25: on_frame that raises something else than a text
--- proxy
    local wp = assert(proxy.new({ on_frame = function () error({ code = 1 }) end }))
    assert(wp:connect(url))
    local done, err = wp:execute()
    report(done, type(err) == "table" and err.code, wp.client_state, wp.co_client)
--- upstream
    wb:send_text("x")
    report("upstream", wb:recv_frame())
--- client
    listen(peer.connect())
--- response_body
closed
--- results
nil 1 1
"upstream" nil nil "failed to receive the first 2 bytes: closed"
--- error_log
failed to wait for websocket proxy threads: table: 0x
--- no_error_log
[alert]



=== TEST 26: a close frame's reason begins no line of the log
--- options: {}
--- upstream
    report((wb:recv_frame():gsub("\n", "/")))
--- client
    listen(peer.connect(peer.frame(0x88, "\15\160a\n2026/11/26 [x] b")))
--- response_body
closed
--- results
"a/2026/11/26 [x] b"
--- info
forwarding close with code: 4000, payload: a%0A2026/11/26 [x] b
