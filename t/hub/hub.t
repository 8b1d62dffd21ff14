# The hub in one worker: publish, subscribe, send and close by id, from wherever Lua runs; what it
# refuses; the limits of a slow subscriber; the content handlers without Lua; the numbers.

use Test::Nginx::Socket::Lua 'no_plan';

repeat_each(2);
no_long_string();

our $HttpConfig = <<'_EOC_';
    lua_socket_log_errors off;
    init_worker_by_lua_block {
        websocket = require "resty.websocket"
        sessions = {}

        -- A client of this server, subscribed as the location's handler does.
        function subscriber(path, opts)
            local ws, err = websocket.connect("ws://127.0.0.1:" .. ngx.var.server_port .. path, opts)
            if not ws then
                error(err)
            end
            local hello = assert(ws:recv())
            return ws, hello
        end
    }
_EOC_

our $Room = <<'_EOC_';
    location /room {
        content_by_lua_block {
            local ws = assert(websocket.accept { compression = ngx.var.arg_deflate == "on" })
            for topic in (ngx.var.arg_topics or "room"):gmatch("[^,]+") do
                assert(ws:subscribe(topic))
            end
            ws:send(ws.id)
            for data in ws:messages() do
                if data == "topics" then
                    local topics = ws:topics()
                    table.sort(topics)
                    ws:send(table.concat(topics, ","))
                elseif data == "twice" then
                    ws:send(tostring(ws:subscribe("room")))
                elseif data:find("^leave ") then
                    ws:send(tostring(ws:unsubscribe(data:sub(7))))
                elseif data == "leave" then
                    ws:send(tostring(ws:unsubscribe()))
                elseif data == "others" then
                    websocket.publish("room", "to others", { except = ws.id })
                    ws:send("done")
                elseif data == "stream" then
                    local stream = ws:send_stream("text")
                    stream:write("in one ")
                    websocket.publish("room", "after it")
                    stream:write("piece")
                    stream:finish()
                end
            end
        }
    }
_EOC_

run_tests();

__DATA__

=== TEST 1: from a location to every subscriber, in order, with the number reached
--- http_config eval: $::HttpConfig
--- config eval
$::Room . q{
location /t {
    content_by_lua_block {
        local a, b = subscriber("/room"), subscriber("/room")
        local c = subscriber("/room?topics=elsewhere")
        local n, first = websocket.publish("room", "one")
        local m, second = websocket.publish("room", "two", { type = "binary" })
        ngx.say(n, " ", m, " ", second - first)
        for _, ws in ipairs { a, b } do
            ngx.say(ws:recv())
            ngx.say(ws:recv())
        end
        ngx.say(c:recv(20))
        ngx.say(websocket.publish("nobody", "x"))
        for _, ws in ipairs { a, b, c } do ws:close() end
    }
}}
--- request
GET /t
--- response_body_like
^2 2 1
onetext
twobinary
onetext
twobinary
niltimeout
0\d+
--- no_error_log
[warn]
[error]



=== TEST 2: from a timer, the log phase and a header filter
--- http_config eval: $::HttpConfig
--- config eval
$::Room . q{
location /log { return 204; log_by_lua_block { assert(websocket.publish("room", "log")) } }
location /filter { return 204; header_filter_by_lua_block { assert(websocket.publish("room", "filter")) } }
location /t {
    content_by_lua_block {
        local ws = subscriber("/room")
        ngx.timer.at(0, function() assert(websocket.publish("room", "timer")) end)
        ngx.say(ws:recv())
        for _, path in ipairs { "/log", "/filter" } do
            local sock = ngx.socket.tcp()
            assert(sock:connect("127.0.0.1", ngx.var.server_port))
            sock:send("GET " .. path .. " HTTP/1.0\r\n\r\n")
            ngx.say(ws:recv())
            sock:close()
        end
        ws:close()
    }
}}
--- request
GET /t
--- response_body
timertext
logtext
filtertext
--- no_error_log
[warn]
[error]



=== TEST 3: subscriptions: twice is once, ended one by one and all together, gone with the connection
--- http_config eval: $::HttpConfig
--- config eval
$::Room . q{
location /t {
    content_by_lua_block {
        local ws = subscriber("/room?topics=room,b,c")
        ws:send("twice") ngx.say(ws:recv())
        ws:send("topics") ngx.say(ws:recv())
        ngx.say(websocket.publish("room", "once")) 
        ngx.say(ws:recv())
        ws:send("leave b") ngx.say(ws:recv())
        ws:send("leave b") ngx.say(ws:recv())
        ws:send("topics") ngx.say(ws:recv())
        ws:send("leave") ngx.say(ws:recv())
        ws:send("topics") ngx.say("[", (ws:recv()), "]")
        ngx.say((websocket.publish("room", "nobody")))
        local again = subscriber("/room?topics=room,b,c")
        ngx.say(websocket.count("room"), " ", websocket.info().subscriptions)
        again:close()
        ws:close()
        repeat ngx.sleep(0.001) until websocket.count() == 0
        ngx.say(websocket.count("room"), " ", websocket.info().subscriptions, " ", websocket.info().topics)
    }
}}
--- request
GET /t
--- response_body_like
^truetext
b,c,roomtext
1\d+
oncetext
1text
0text
c,roomtext
2text
\[\]
0
1 3
0 0 0
--- no_error_log
[warn]
[error]



=== TEST 4: except, and a stream that messages wait for
--- http_config eval: $::HttpConfig
--- config eval
$::Room . q{
location /t {
    content_by_lua_block {
        local a, b = subscriber("/room"), subscriber("/room")
        a:send("others")
        ngx.say(a:recv()) ngx.say(b:recv())
        a:send("stream")
        ngx.say(a:recv()) ngx.say(a:recv()) ngx.say(b:recv())
        a:close() b:close()
    }
}}
--- request
GET /t
--- response_body
donetext
to otherstext
in one piecetext
after ittext
after ittext
--- no_error_log
[warn]
[error]



=== TEST 5: send and close by id
--- http_config eval: $::HttpConfig
--- config eval
$::Room . q{
location /t {
    content_by_lua_block {
        local ws, id = subscriber("/room")
        ngx.say(#id, " ", websocket.send(id, "direct"))
        ngx.say(ws:recv())
        ngx.say(websocket.send(id, "bytes", "binary"))
        ngx.say(ws:recv())
        ngx.say(websocket.close(id, 4001, "go"))
        ngx.say(ws:recv())
        repeat ngx.sleep(0.001) until websocket.count() == 0
        ngx.say(websocket.send(id, "late"))
        ngx.say(websocket.close(id))
        ngx.say(websocket.send(("0"):rep(32), "x"))
        ngx.say(websocket.send("no id", "x"))
        ngx.say(websocket.close("no id"))
    }
}}
--- request
GET /t
--- response_body
32 true
directtext
true
bytesbinary
true
nilclosed4001go
nilno such connection
nilno such connection
nilno such connection
nilinvalid connection id
nilinvalid connection id
--- no_error_log
[warn]
[error]



=== TEST 6: what is refused
--- http_config eval: $::HttpConfig
--- config eval
$::Room . q{
location /t {
    content_by_lua_block {
        local function say(...) ngx.say(...) end
        say(websocket.publish("", "x"))
        say(websocket.publish(("t"):rep(256), "x"))
        say((websocket.publish(("t"):rep(255), "x")))
        say(websocket.publish("room", "\255"))
        say((websocket.publish("room", "\255", { type = "binary" })))
        say(websocket.publish("room", ("x"):rep(9 * 1024 * 1024)))
        say(pcall(websocket.publish, nil, "x"))
        say(pcall(websocket.publish, "room", {}))
        say(pcall(websocket.publish, "room", "x", { foo = 1 }))
        say(pcall(websocket.publish, "room", "x", { type = "json" }))
        say(pcall(websocket.publish, "room", "x", { scope = "moon" }))
        say(pcall(websocket.publish, "room", "x", { except = 1 }))
        say(websocket.publish("room", "x", { except = "zz" }))
        say(pcall(websocket.send, 1, "x"))
        say(pcall(websocket.close, ("0"):rep(32), 1005))
        say(pcall(websocket.count, 5))
        say(websocket.count(""))
    }
}}
--- request
GET /t
--- response_body_like
^niltopic is empty
niltopic is too long
0
nilinvalid utf-8
0
nilmessage too large for the zone
false.*bad "topic" argument: string expected, got nil
false.*bad "data" argument: string expected, got table
false.*unknown option "foo" \(known: confirm, except, idempotency_key, scope, type\)
false.*bad "type" argument: "text" or "binary" expected
false.*bad "scope" option: "worker", "node" or "cluster" expected
false.*bad "except" option: string expected, got number
nilinvalid connection id
false.*bad "id" argument: string expected, got number
false.*bad "code" argument: not a close code that may be sent
false.*bad "topic" argument: string expected, got number
niltopic is empty
--- no_error_log
[error]



=== TEST 7: a subscriber that does not read is closed with 1013, and others miss nothing
--- http_config eval: $::HttpConfig
--- config eval
q{websocket_send_buffer 64k;} . $::Room . q{
location /t {
    content_by_lua_block {
        local good, slow = subscriber("/room"), subscriber("/room")
        local before = websocket.info().slow_consumers.closed
        local got = 0
        local reader = ngx.thread.spawn(function()
            while got < 400 do
                local data, err, code = good:recv()
                if not data then ngx.say("lost: ", err, " ", code) break end
                got = got + 1
            end
            got = 400
        end)
        -- The kernel takes some megabytes for a peer that does not read.
        for i = 1, 400 do
            websocket.publish("room", ("x"):rep(32768))
            while got < i do ngx.sleep(0.001) end
        end
        ngx.thread.wait(reader)
        ngx.say(got, " ", websocket.info().slow_consumers.closed - before)
        local data, err, code
        repeat data, err, code = slow:recv() until not data
        ngx.say(err, " ", code)
        good:close()
    }
}}
--- request
GET /t
--- response_body
400 1
closed 1013
--- no_error_log
[warn]
[error]
--- timeout: 20



=== TEST 8: with websocket_slow_consumer drop it misses messages and stays
--- http_config eval: $::HttpConfig
--- config eval
q{websocket_send_buffer 64k; websocket_slow_consumer drop;} . $::Room . q{
location /t {
    content_by_lua_block {
        local slow = subscriber("/room")
        local before = websocket.info().slow_consumers.dropped
        for i = 1, 400 do
            websocket.publish("room", ("x"):rep(32768))
        end
        local dropped = websocket.info().slow_consumers.dropped - before
        local got = 0
        while got < 400 - dropped do assert(slow:recv()) got = got + 1 end
        websocket.publish("room", "back")
        ngx.say(dropped > 0, " ", slow:recv())
        slow:close()
    }
}}
--- request
GET /t
--- response_body
true backtext
--- no_error_log
[warn]
[error]
--- timeout: 20



=== TEST 9: one connection in a thousand topics, compressed
--- http_config eval: $::HttpConfig
--- config eval
q{
location /many {
    content_by_lua_block {
        local ws = assert(websocket.accept { compression = true })
        for i = 1, 1000 do assert(ws:subscribe("topic " .. i)) end
        ws:send("ready")
        for _ in ws:messages() do end
    }
}
location /t {
    content_by_lua_block {
        local ws = subscriber("/many", { compression = true })
        ngx.say(websocket.info().topics)
        local text = ("compress me "):rep(100)
        local sum = 0
        for i = 1, 1000 do sum = sum + websocket.publish("topic " .. i, text .. i) end
        local ok = 0
        for i = 1, 1000 do if ws:recv() == text .. i then ok = ok + 1 end end
        ngx.say(sum, " ", ok)
        ws:close()
        repeat ngx.sleep(0.001) until websocket.count() == 0
        ngx.say(websocket.info().topics, " ", websocket.info().subscriptions)
    }
}}
--- request
GET /t
--- response_body
1000
1000 1000
0 0
--- no_error_log
[warn]
[error]
--- timeout: 10



=== TEST 10: a drop-in object may subscribe
--- http_config eval: $::HttpConfig
--- config eval
q{
location /dropin {
    content_by_lua_block {
        local wb = assert(require("resty.websocket.server"):new())
        assert(wb:subscribe("room"))
        wb:send_text("ready")
        repeat local data, typ = wb:recv_frame() until typ == "close" or not data
        wb:send_close(1000)
    }
}
location /t {
    content_by_lua_block {
        local ws = subscriber("/dropin")
        ngx.say((websocket.publish("room", "pushed")))
        ngx.say(ws:recv())
        ngx.say(ws:close())
    }
}}
--- request
GET /t
--- response_body
1
pushedtext
true
--- no_error_log
[warn]
[error]



=== TEST 11: a push server without Lua: subscribe, and publish by HTTP
--- http_config eval: $::HttpConfig
--- config
location ~ ^/ws/(?<topic>\w+)$ { websocket_subscribe $topic "all"; websocket_publish_from_client on; }
location ~ ^/publish/(?<topic>\w*)$ { websocket_publish $topic; client_max_body_size 100k; client_body_buffer_size 1k; }
location /t {
    content_by_lua_block {
        local function post(path, body, method, header)
            local sock = ngx.socket.tcp()
            assert(sock:connect("127.0.0.1", ngx.var.server_port))
            sock:send((method or "POST") .. " " .. path .. " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                      .. (header or "") .. "Content-Length: " .. #body .. "\r\n\r\n" .. body)
            local status = sock:receive("*l")
            local all = sock:receive("*a")
            sock:close()
            return status:sub(10, 12) .. " " .. (all:match("\r\n\r\n({.*)\n$") or "")
        end
        local url = "ws://127.0.0.1:" .. ngx.var.server_port .. "/ws/news"
        local a, b = assert(websocket.connect(url)), assert(websocket.connect(url))
        ngx.say((post("/publish/news", "hello"):gsub('"sequence":%d+', '"sequence":N')))
        ngx.say(a:recv()) ngx.say(b:recv())
        ngx.say((post("/publish/all", "everyone"):gsub('"sequence":%d+', '"sequence":N')))
        ngx.say(a:recv()) ngx.say(b:recv())
        post("/publish/news", ("y"):rep(50000))
        ngx.say(#a:recv(), " ", #b:recv())
        post("/publish/news", "\255", "PUT", "Content-Type: application/octet-stream\r\n")
        local data, typ = a:recv()
        ngx.say(data == "\255", " ", typ)
        b:recv()
        a:send("from a client")
        for _, ws in ipairs { a, b } do ngx.say(ws:recv()) ngx.say(ws:recv()) end
        ngx.say(post("/publish/news", ""))
        ngx.say(post("/publish/news", "\255"))
        ngx.say(post("/publish/", "x"))
        ngx.say(post("/publish/news", ("z"):rep(200 * 1024)))
        ngx.say(post("/publish/news", "", "GET"))
        ngx.say(a:close(4000, "x")) ngx.say(b:close())
        ngx.say(websocket.connect("ws://127.0.0.1:" .. ngx.var.server_port .. "/publish/x"))
    }
}
--- request
GET /t
--- response_body_like
^202 \{"subscribers":2,"sequence":N\}
hellotext
hellotext
202 \{"subscribers":2,"sequence":N\}
everyonetext
everyonetext
50000 50000
true binary
from a clienttext
from a clienttext
from a clienttext
from a clienttext
400 \{"error":"no message: the request has no body"\}
400 \{"error":"invalid utf-8"\}
400 \{"error":"topic is empty"\}
413 
405 
true
true
nilfailed websocket handshake: unexpected response status: 405.*
--- no_error_log
[alert]



=== TEST 12: an ordinary request to websocket_subscribe
--- config
location /ws { websocket_subscribe news; }
--- request
GET /ws
--- error_code: 400
--- no_error_log
[warn]
[error]



=== TEST 13: the numbers as JSON
--- config
location /status { websocket_status; }
--- request
GET /status
--- response_headers
Content-Type: application/json
--- response_body_like
^\{"connections_open":\d+,"connections_accepted":\d+,"connections_refused":\{"method":\d+.*"workers":\[\{"pid":\d+.*\}\],"brokers":\[\]\}$
--- no_error_log
[error]



=== TEST 14: the numbers as Prometheus text
--- config
location /status { websocket_status prometheus; }
--- request
GET /status
--- response_headers
Content-Type: text/plain; version=0.0.4
--- response_body_like
^\# HELP websocket_connections_open .*
\# TYPE websocket_connections_open gauge
websocket_connections_open \d+
\# HELP websocket_connections_accepted_total .*
--- no_error_log
[error]



=== TEST 15: the page
--- config
location /status { websocket_status html; }
--- request
GET /status
--- response_headers
Content-Type: text/html; charset=utf-8
--- response_body_like: <title>WebSocket status</title>
--- no_error_log
[error]



=== TEST 16: variables
--- http_config eval
$::HttpConfig . q{
    log_format ws '[$websocket_id|$websocket_protocol|$websocket_messages_in|$websocket_bytes_in|$websocket_messages_out|$websocket_bytes_out|$websocket_close_code|$websocket_duration]';
}
--- config
location /ws {
    log_by_lua_block {
        local v = ngx.var
        ngx.log(ngx.INFO, "seen: ", #v.websocket_id, " ", v.websocket_protocol, " ", v.websocket_messages_in, " ",
                v.websocket_bytes_in, " ", v.websocket_messages_out, " ", v.websocket_bytes_out, " ",
                v.websocket_close_code, " ", v.websocket_duration)
    }
    content_by_lua_block {
        local ws = assert(websocket.accept { protocols = "chat" })
        for data in ws:messages() do ws:send(data) ws:send("more") end
    }
}
location /t {
    content_by_lua_block {
        local ws = assert(websocket.connect("ws://127.0.0.1:" .. ngx.var.server_port .. "/ws", { protocols = "chat" }))
        ws:send("12345") ws:recv() ws:recv()
        ws:close(4321)
        ngx.say(tostring(ngx.var.websocket_id))
    }
}
--- request
GET /t
--- response_body
nil
--- error_log eval
qr/seen: 32 chat 1 5 2 9 4321 \d+\.\d{3}/
--- no_error_log
[error]



=== TEST 17: a drop-in object that has ended is not made known to the hub any more
--- http_config eval: $::HttpConfig
--- config
location /dropin {
    content_by_lua_block {
        local wb = assert(require("resty.websocket.server"):new())
        wb:recv_frame()
        if ngx.var.arg_goes_on then
            wb:send_close(1000)
            ngx.sleep(0.001)  -- the end of the turn, with which it is over
            sessions.ended = wb
            sessions.wait:post()
            sessions.done:wait(10)
        else
            sessions.ended = wb
        end
    }
    log_by_lua_block { if not ngx.var.arg_goes_on then sessions.wait:post() end }
}
location /t {
    content_by_lua_block {
        local semaphore = require "ngx.semaphore"
        sessions.wait, sessions.done = semaphore.new(), semaphore.new()
        for _, path in ipairs { "/dropin?goes_on=1", "/dropin" } do
            local ws = assert(websocket.connect("ws://127.0.0.1:" .. ngx.var.server_port .. path))
            ws:close()
            assert(sessions.wait:wait(10))
            local wb = sessions.ended
            ngx.say(wb:subscribe("room"))
            ngx.say(wb:unsubscribe())
            ngx.say(wb:topics())
            ngx.say(wb.id, " ", (websocket.count("room")))
            sessions.done:post()
        end
    }
}
--- request
GET /t
--- response_body
nilclosed
nilclosed
nilclosed
nil 0
nilclosed
nilclosed
nilclosed
nil 0
--- no_error_log
[warn]
[error]



=== TEST 18: with a subscription goes what was to be called for its gaps
--- http_config eval: $::HttpConfig
--- config
location /ws {
    content_by_lua_block {
        local ws = assert(websocket.accept())
        local function subscribed(topic)
            local handler = function() end
            assert(ws:subscribe(topic, { on_gap = handler }))
            return setmetatable({ handler }, { __mode = "v" })
        end
        local function left(known)
            collectgarbage() collectgarbage()
            return known[1] and "kept" or "gone"
        end
        local one, other, third = subscribed("one"), subscribed("other"), subscribed("third")
        ws:unsubscribe("one")
        ws:send(left(one) .. " " .. left(other))
        ws:unsubscribe()
        ws:send(left(other) .. " " .. left(third))
        ws:recv()
    }
}
location /t {
    content_by_lua_block {
        local ws = assert(websocket.connect("ws://127.0.0.1:" .. ngx.var.server_port .. "/ws"))
        ngx.say((ws:recv()))
        ngx.say((ws:recv()))
        ws:close()
    }
}
--- request
GET /t
--- response_body
gone kept
gone gone
--- no_error_log
[warn]
[error]
