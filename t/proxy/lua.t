# websocket.proxy: callbacks, what they may return, who is told what of an end, refusals, options.

use Test::Nginx::Socket::Lua;
use t::Proxy;

add_block_preprocessor(sub { complete_proxy_block(@_) });
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: without callbacks: messages both ways, and how it ended
--- lua: { url = url }
--- upstream
    for data, typ in ws:messages() do
        ws:send(typ .. " " .. data, typ)
    end
    report("upstream", ws:close_info())
--- client
    talk(peer.frame(0x81, "a") .. peer.frame(0x02, "b") .. peer.frame(0x80, "c"),
         peer.frame(0x88, "\15\160bye"), 2)
--- response_body
text text a
binary binary bc
close 4000 
closed
--- results
"upstream" 4000 "bye" true
"done" true nil 4000 "bye" 4000 ""



=== TEST 2: on_message: changed, dropped, passed on, of another type
--- lua
    { url = url, on_message = function (from, data, typ)
        report(from, data, typ)
        if data == "drop" then
            return false
        elseif data == "change" then
            return "changed"
        elseif data == "binary" then
            return "\255", "binary"
        end
    end }
--- upstream
    for data, typ in ws:messages() do
        ws:send(typ == "binary" and #data .. "" or data)
    end
--- client
    talk(peer.frame(0x81, "drop") .. peer.frame(0x81, "change") .. peer.frame(0x81, "x")
         .. peer.frame(0x81, "binary"), peer.frame(0x88, ""), 3)
--- response_body
text changed
text x
text 1
close 
closed
--- results
"client" "drop" "text"
"client" "change" "text"
"client" "x" "text"
"client" "binary" "text"
"upstream" "changed" "text"
"upstream" "x" "text"
"upstream" "1" "text"
"done" true nil 1005 "" 1005 ""



=== TEST 3: on_message closes both sides
--- lua
    { url = url, on_message = function (from, data)
        if data:find("evil") then
            return false, 1008, "no"
        end
    end }
--- upstream
    report(ws:recv())
    report(ws:recv())
--- client
    listen(peer.connect(peer.frame(0x81, "good") .. peer.frame(0x81, "evil") .. peer.frame(0x81, "unheard")))
--- response_body
close 1008 no
closed
--- results
"good" "text"
nil "closed" 1008 "no"
"done" true nil 1008 "" 1008 ""



=== TEST 4: on_open and on_close
--- lua
    { url = url, on_open = function (client, upstream)
        report("open", client.role, upstream.role, #client.id > 8)
    end, on_close = function (from, code, reason)
        report("close", from, code, reason)
        return 4001, "told"
    end }
--- upstream
    report("upstream", ws:recv())
--- client
    listen(peer.connect(peer.frame(0x88, "\15\160bye")))
--- response_body
close 4001 
closed
--- results
"open" "server" "client" true
"close" "client" 4000 "bye"
"upstream" nil "closed" 4001 "told"
"done" true nil 4000 "bye" 4001 ""



=== TEST 5: the upstream closes first
--- lua
    { url = url, on_close = function (from, code, reason)
        report("close", from, code, reason)
    end }
--- upstream
    ws:send("x")
    ws:close(4002, "up", 60000)
--- client
    listen(peer.connect())
--- response_body
text x
close 4002 up
closed
--- results
"close" "upstream" 4002 "up"
"done" true nil 4002 "" 4002 "up"



=== TEST 6: a callback that raises
--- lua
    { url = url, on_message = function () error("oops") end }
--- upstream
    report("upstream", ws:recv())
--- client
    listen(peer.connect(peer.frame(0x81, "x")))
--- response_body
close 1011 
closed
--- error_log
websocket.proxy: a callback failed: content_by_lua
stack traceback:
result: "upstream" nil "closed" 1011 ""
result: "done" nil "a callback failed" 1011
--- no_error_log
[alert]



=== TEST 7: what on_message may return
--- lua
    { url = url, on_message = function (from, data)
        local returns = { a = { 1 }, b = { "x", "ping" }, c = { "\255" }, d = { true } }
        return unpack(returns[data])
    end }
--- upstream
    ws:recv()
--- client
    for _, what in ipairs { "a", "b", "c", "d" } do
        listen(peer.connect(peer.frame(0x81, what)))
    end
--- response_body
close 1011 
closed
close 1011 
closed
close 1011 
closed
close 1011 
closed
--- error_log
on_message: bad value returned (data and type, false, or nothing expected)
on_message: invalid utf-8 returned as text
--- no_error_log
[alert]



=== TEST 8: an upstream that refuses
--- lua: { url = (url:gsub("/up", "/401")) }
--- config
    location = /401 {
        content_by_lua_block {
            ngx.status = 401
            ngx.header["WWW-Authenticate"] = 'Basic realm="chat"'
            ngx.header["X-Twice"] = { "a", "b" }
            ngx.header["X-Accel-Redirect"] = "/elsewhere"
            ngx.print("no ")
            ngx.flush(true)
            ngx.say("way")
        }
    }
--- client
    local p = peer.connect()
    ngx.say(p.head:match("[^\r]*"))
    for _, name in ipairs { "Content%-Type", "Content%-Length", "X%-Twice", "X%-Accel[^:]*", "WWW%-Authenticate", "Transfer%-Encoding" } do
        for value in p.head:gmatch("\n(" .. name .. ": [^\r]*)") do
            ngx.say(value)
        end
    end
    ngx.say((p.sock:receive(6)))
    p:close()
--- response_body
HTTP/1.1 401 Unauthorized
Content-Type: text/plain
Content-Length: 7
X-Twice: a
X-Twice: b
WWW-Authenticate: Basic realm="chat"
no way
--- results
"done" nil "upstream refused" 401



=== TEST 9: an upstream that is not there, and one whose handshake is bad
--- lua: { url = ngx.var.arg_bad and (url:gsub("/up", "/bad")) or "ws://127.0.0.1:1/" }
--- config
    location = /bad { content_by_lua_block { ngx.req.socket(true):send("HTTP/1.1 101 OK\r\n\r\n") } }
--- client
    peer.connect():close()
    peer.connect("", "/ws?bad=1"):close()
--- response_body
--- error_log eval
[qr{result: "done" nil "failed to connect: connection refused" 502},
 qr{result: "done" nil "failed websocket handshake: bad "upgrade" response header: nil" 502},
 qr{\[error\].* websocket upstream sent a bad answer: failed websocket handshake: bad "upgrade" response header: nil, upstream: "127.0.0.1:\d+", url: "ws://127.0.0.1:\d+/bad"}]
--- no_error_log
[alert]



=== TEST 10: a client that does not ask for a WebSocket, before the upstream is asked
--- lua: { url = "ws://127.0.0.1:1/" }
--- client
    local sock = ngx.socket.tcp()
    assert(sock:connect(ngx.var.server_addr, tonumber(ngx.var.server_port)))
    sock:send("GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n")
    sock:receive()
--- response_body
--- error_log eval
qr/result: "done" nil "bad .upgrade.*" 400/



=== TEST 11: headers and subprotocols
--- lua: { url = url, pass_headers = { "cookie" }, headers = { ["X-Own"] = "o" } }
--- accept: { protocols = { "b" } }
--- upstream
    local h = ngx.req.get_headers()
    report(h.cookie, h.x_other, h.x_own, h["x-forwarded-for"], h["sec-websocket-protocol"])
--- client
    local p = peer.connect("", nil, nil, "Cookie: c\r\nX-Other: x\r\nSec-WebSocket-Protocol: a, b\r\n")
    ngx.say(p.head:match("Sec%-WebSocket%-Protocol: [^\r]*"))
    listen(p)
--- response_body
Sec-WebSocket-Protocol: b
close 1000 
closed
--- results
"c" nil "o" "127.0.0.1" "a, b"
"done" true nil 1000 "" 1000 ""



=== TEST 12: compression on each side by itself
--- lua: { url = url, compression = true, client = { compression = { threshold = 0 } }, on_message = function () end }
--- accept: { compression = true }
--- upstream
    report(ws.extensions ~= nil)
    for data in ws:messages() do
        ws:send(data)
    end
--- client
    local p = peer.connect(peer.frame(0x81, ("x"):rep(1000)), nil, nil,
                           "Sec-WebSocket-Extensions: permessage-deflate\r\n")
    local first, data = p:receive()
    say(first, #data < 100)
    p:send(peer.frame(0x88, ""))
    listen(p)
--- response_body
193 true
close 
closed
--- results
true
"done" true nil 1005 "" 1005 ""



=== TEST 13: one side lost
--- lua: { url = url, on_message = function () end }
--- upstream
    local data = ws:recv()
    if data == "go" then
        return ws:shutdown()
    end
    report(ws:recv())
--- client
    peer.connect(peer.frame(0x81, "x")):close()
    listen(peer.connect(peer.frame(0x81, "go")))
--- response_body
close 1011 upstream connection lost
closed
--- error_log
result: nil "closed" 1001 ""
result: "done" true nil 1006 "connection lost" 1001 ""
result: "done" true nil 1011 "" 1006 "connection lost"
--- no_error_log
[error]



=== TEST 14: options
--- client
    local proxy = require("resty.websocket").proxy
    local function try(opts)
        local ok, err = pcall(proxy, opts)
        ngx.say((tostring(err):gsub("^[^ ]-:%d+: ", ""):gsub(" %(known.*", "")))
    end
    try(nil)
    try {}
    try { url = "ws://a/", on_message = 1 }
    try { url = "ws://a/", pass_headers = 1 }
    try { url = "ws://a/", idle_timeout = "x" }
    try { url = "ws://a/", client = 1 }
    try { url = "ws://a/", client = { protocols = { "a" } } }
    try { url = "ws://a/", client = { x = 1 } }
    try { url = "ws://a/", x = 1 }
    try { url = "ws://a/", timeout = "x" }
--- response_body
bad "opts" argument: table expected, got nil
bad "url" option: string expected, got nil
bad "on_message" option: function expected, got number
bad "pass_headers" option: array of strings expected, got number
bad "idle_timeout" option: milliseconds expected, got string
bad "client" option: table expected, got number
bad "client.protocols" option: the upstream chooses
unknown option "x"
unknown option "x"
bad "timeout" option: milliseconds expected, got string



=== TEST 15: ngx.exit in a callback cuts both sides
--- lua
    { url = url, on_message = function (from, data)
        if data == "exit" then
            peer.leave()
            ngx.exit(444)
        end
    end }
--- upstream
    report(ws:recv())
--- client
    listen(peer.connect(peer.frame(0x81, "exit")))
--- response_body
closed
--- results
nil "connection lost" 1006 "connection lost"



=== TEST 16: what is passed on waits for the end of a message in fragments
--- lua
    { url = url, on_open = function (client)
        local writer = assert(client:send_stream("text"))
        writer:write("part")
        ngx.timer.at(0.1, function () writer:finish() end)
    end }
--- upstream
    report(ws:recv())
    ws:send("x")
    ws:close(1000, "", 60000)
--- client
    local p = peer.connect()
    say(p:receive())
    p:send(peer.frame(0x81, "go"))
    listen(p)
--- response_body
1 "part"
continuation 
text x
close 1000 
closed
--- results
"go" "text"
"done" true nil 1000 "" 1000 ""



=== TEST 17: on_ping sees pings, which are answered, and sends others
--- lua
    { url = url, on_ping = function (from, data)
        report(from, data)
        if data == "up" then
            return "from above"
        elseif data == "bad" then
            return ("x"):rep(126)
        end
    end }
--- upstream
    report(ws:recv())
    ws:ping("up")
    report(ws:recv())
--- client
    local p = peer.connect(peer.frame(0x89, "down"))
    say(p:receive())
    p:send(peer.frame(0x81, "go"))
    say(p:receive())
    p:send(peer.frame(0x89, "bad"))
    listen(p)
--- response_body
138 "down"
137 "from above"
pong bad
close 1011 
closed
--- error_log
result: "client" "down"
result: "upstream" "up"
result: "go" "text"
result: nil "closed" 1011 ""
on_ping: bad value returned (nothing, or a text of at most 125 bytes, expected)
--- no_error_log
[alert]



=== TEST 18: an upstream that is slow is a 504
--- lua: { url = url, timeout = 50 }
--- config
    location = /up { content_by_lua_block { ngx.sleep(1) ngx.exit(204) } }
--- client
    peer.connect():close()
--- response_body
--- error_log
result: "done" nil "failed to receive response header: timeout" 504
--- no_error_log
[alert]



=== TEST 19: an upstream that masks its frames
--- lua: { url = url, on_message = ngx.var.args and function () end or nil }
--- config eval: $t::Proxy::MASKED
--- client
    listen(peer.connect())
    listen(peer.connect("", "/ws?looks"))
--- response_body
close 1011 upstream connection lost
closed
close 1011 upstream connection lost
closed
--- results
"frame masked" "close" 1002
"done" true nil 1011 "" 1002 "frame masked"
"frame masked" "close" 1002
"done" true nil 1011 "" 1002 "frame masked"



=== TEST 20: of a refusal's body come 64 KiB, however its length is told
--- lua: { url = (url:gsub("/up", "/refuse?" .. ngx.var.args)), headers = "pass" }
--- config
    location = /refuse {
        content_by_lua_block {
            local sock = ngx.req.socket(true)
            local body = ("x"):rep(70000)
            local how = ngx.var.args
            if how == "chunked" then
                sock:send("HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n"
                          .. body:sub(1, 7) .. "\r\n" .. ("%x"):format(#body) .. "\r\n" .. body .. "\r\n0\r\n\r\n")
            else
                sock:send("HTTP/1.1 401 No\r\n" .. (how == "length" and "Content-Length: 70000\r\n" or "") .. "\r\n" .. body)
            end
        }
    }
--- client
    for _, how in ipairs { "chunked", "length", "end" } do
        local p = peer.connect("", "/ws?" .. how)
        ngx.say(p.head:match("[^\r]*"), "; ", p.head:match("Content%-Length: %d+"))
        ngx.say(p.sock:receive(65536) == ("x"):rep(65536))
        p:close()
    end
--- response_body
HTTP/1.1 401 Unauthorized; Content-Length: 65536
true
HTTP/1.1 401 Unauthorized; Content-Length: 65536
true
HTTP/1.1 401 Unauthorized; Content-Length: 65536
true
--- results
"done" nil "upstream refused" 401
"done" nil "upstream refused" 401
"done" nil "upstream refused" 401



=== TEST 21: the light thread of the handler is killed
--- config
    location = /killed {
        content_by_lua_block {
            local peer = require "t.peer"
            peer.enter()
            local opts = { url = "ws://127.0.0.1:HTTP_PORT/up" }
            if ngx.var.args ~= "waits" then
                opts.on_message = function (_, data)
                    if data == "wait" then
                        ngx.sleep(60)
                    end
                end
            end
            local thread = ngx.thread.spawn(require("resty.websocket").proxy, opts)
            local kill = require("ngx.semaphore").new()
            package.loaded["t.kill"] = kill
            kill:wait(60)
            ngx.thread.kill(thread)
            if ngx.var.args == "calls" then
                -- What ran in the callback is known to be gone once it is collected.
                thread = nil
                collectgarbage()
                collectgarbage()
            end
            peer.leave()
        }
    }
--- lua: { url = "ws://127.0.0.1:1/" }
--- upstream
    while true do
        local data, typ, code, reason = ws:recv()
        if not data then
            return report(typ, code, reason)
        end
        ws:send(data)
    end
--- client
    for _, state in ipairs { "waits", "looks", "calls" } do
        local p = peer.connect(peer.frame(0x81, "x"), "/killed?" .. state)
        say(p:receive())
        if state == "calls" then
            p:send(peer.frame(0x81, "wait"))
            ngx.sleep(0.05)
        end
        package.loaded["t.kill"]:post()
        p:send(peer.frame(0x81, "unheard"))
        listen(p)
    end
--- response_body
129 "x"
close 1001 
closed
129 "x"
close 1001 
closed
129 "x"
close 1001 
closed
--- results
"closed" 1001 ""
"closed" 1001 ""
"closed" 1001 ""



=== TEST 22: a callback that raises something else than a text
--- lua
    { url = url, on_message = function () error({ code = 1 }) end }
--- upstream
    report("upstream", ws:recv())
--- client
    listen(peer.connect(peer.frame(0x81, "x")))
--- response_body
close 1011 
closed
--- error_log
websocket.proxy: a callback failed: table: 0x
result: "upstream" nil "closed" 1011 ""
result: "done" nil "a callback failed" 1011
--- no_error_log
[alert]



=== TEST 23: close codes that may not be sent
--- lua
    { url = url, on_message = function (from, data)
        local returns = { big = { false, 99999 }, none = { false, 1005 }, text = { false, "abc" },
                          long = { false, 1000, ("x"):rep(124) }, words = { false, 1000, {} } }
        return unpack(returns[data])
    end, on_close = function (from)
        return 1006, "lost"
    end }
--- upstream
    ws:recv()
--- client
    for _, what in ipairs { "big", "none", "text", "long", "words" } do
        listen(peer.connect(peer.frame(0x81, what)))
    end
    listen(peer.connect(peer.frame(0x88, "\15\160bye")))
--- response_body
close 1011 
closed
close 1011 
closed
close 1011 
closed
close 1011 
closed
close 1011 
closed
close 1011 
closed
--- error_log
on_message: bad value returned (a close code that may be sent, and a text of at most 123 bytes, expected)
on_close: bad value returned (a close code that may be sent, and a text of at most 123 bytes, expected)
--- no_error_log
[alert]



=== TEST 24: a refusal whose body is not in chunks is none; where it ends too early it is what came
--- lua: { url = (url:gsub("/up", "/refuse?" .. ngx.var.args)) }
--- config
    location = /refuse {
        content_by_lua_block {
            local sock = ngx.req.socket(true)
            local bodies = { word = "zz\r\n", empty = "\r\n", late = "1\r\nab\r\n", short = "5\r\nab" }
            sock:send("HTTP/1.1 403 No\r\nTransfer-Encoding: Chunked\r\nX-Twice: a\r\nx-twice:  b \r\n"
                      .. "Connection: close\r\nSec-WebSocket-Version: 13\r\n\r\n" .. bodies[ngx.var.args])
        }
    }
--- client
    for _, body in ipairs { "word", "empty", "late", "short" } do
        local p = peer.connect("", "/ws?" .. body)
        ngx.say(p.head:match("[^\r]*"))
        if body == "short" then
            for value in p.head:gmatch("\n[Xx]%-Twice: ([^\r]*)") do
                ngx.say(value)
            end
            ngx.say(p.head:match("Sec%-WebSocket"), " ", (p.sock:receive(2)))
        end
        p:close()
    end
--- response_body
HTTP/1.1 502 Bad Gateway
HTTP/1.1 502 Bad Gateway
HTTP/1.1 502 Bad Gateway
HTTP/1.1 403 Forbidden
a
b
nil ab
--- error_log eval
[qr{result: "done" nil "failed websocket handshake: bad chunk in the response" 502},
 qr{result: "done" nil "upstream refused" 403},
 qr{\[error\].* websocket upstream sent a bad answer: failed websocket handshake: bad chunk in the response}]
--- no_error_log
[alert]



=== TEST 25: an upstream that does not stop sending: no more is read than the cosocket held, until there is a pair
--- http_config
    init_worker_by_lua_block {
        counted = { spawned = 0 }
        local spawn = ngx.thread.spawn
        ngx.thread.spawn = function (...)
            counted.spawned = counted.spawned + 1
            return spawn(...)
        end
    }
--- config
    location = /flood {
        content_by_lua_block {
            counted.spawned = 0
            local accept = require("t.peer").accept_of(ngx.var.http_sec_websocket_key)
            local sock = ngx.req.socket(true)
            sock:send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                      .. "Sec-WebSocket-Accept: " .. accept .. "\r\n\r\n"
                      .. ("\130\126\3\232" .. ("x"):rep(1000)):rep(400) .. "\136\2\3\232")
            sock:receiveany(100)
        }
    }
--- lua
    { url = (url:gsub("/up", "/flood")), on_open = function () report("few", counted.spawned < 20) end }
--- client
    local p, n = peer.connect(), 0
    local first, payload = p:receive()
    while first == 0x82 and #payload == 1000 do
        n = n + 1
        first, payload = p:receive()
    end
    say(n, first, payload:byte(1, -1))
    p:send(peer.frame(0x88, "\3\232"))
    p:close()
--- response_body
400 136 3 232
--- results
"few" true
"done" true nil 1000 "" 1000 ""



=== TEST 26: a header over several lines begins no line of the log, and is one for the client
--- config
    location = /folded {
        content_by_lua_block {
            local status = ngx.var.arg_bad and "101 OK\r\nUpgrade: bad\r\n [alert] " or "403 No\r\nX-Long: a"
            ngx.req.socket(true):send("HTTP/1.1 " .. status .. "\r\n Set-Cookie: b\r\nContent-Length: 0\r\n\r\n")
        }
    }
--- lua
    { url = (url:gsub("/up", "/folded")) .. (ngx.var.args and "?bad=1" or "") }
--- client
    for _, path in ipairs { "/ws", "/ws?bad" } do
        local p = peer.connect("", path)
        ngx.say(p.head:match("[^\r]*"), "; ", p.head:match("X%-Long: [^\r]*"))
        p:close()
    end
--- response_body
HTTP/1.1 403 Forbidden; X-Long: a   Set-Cookie: b
HTTP/1.1 502 Bad Gateway; nil
--- error_log
bad answer: failed websocket handshake: bad "upgrade" response header: bad%0D%0A [alert] %0D%0A Set-Cookie: b, upstream
