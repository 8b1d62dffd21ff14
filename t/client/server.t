# resty.websocket.client against resty.websocket.server, both this module's: the programs of
# lua-resty-websocket's documentation, and what its users rely on when both ends are Lua.

use Test::Nginx::Socket::Lua;
use t::Client;

# `handler`: Lua code of a WebSocket handler at /ws, `opts` the table for its server:new().
add_block_preprocessor(sub {
    my $block = shift;
    if (defined $block->handler) {
        my $handler = $block->handler;
        my $opts = $block->opts // 'nil';
        $block->set_value(config => <<"END" . ($block->config // ''));
    location = /ws {
        lua_socket_log_errors off;
        content_by_lua_block {
            local t = require "t.rawpeer"
            local wb, err = require("resty.websocket.server"):new($opts)
            assert(wb, err)
            local function note(...)
                t.notes[#t.notes + 1] = t.line(...)
            end
            local ok, err = pcall(function ()
$handler
            end)
            if not ok then
                note(err)
            end
            t.post("handler ended")
        }
    }
END
        $block->set_value(client => <<'END' . $block->client . <<'END2');
            t.notes = {}
            local ws = "ws://127.0.0.1:HTTP_PORT/ws"
END
            if #t.notes > 0 then
                t.wait("handler ended")
                ngx.say(table.concat(t.notes, "\n"))
            end
END2
    }
    complete_block($block);
});
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: the synopsis of the server and the example of the client
--- config
    location = /s {
        content_by_lua_block {
            local server = require "resty.websocket.server"
            local wb, err = server:new{ timeout = 5000, max_payload_len = 65535 }
            if not wb then
                ngx.log(ngx.ERR, "failed to new websocket: ", err)
                return ngx.exit(444)
            end
            local bytes, err = wb:send_text("hello")
            if not bytes then
                ngx.log(ngx.ERR, "failed to send a text frame: ", err)
                return ngx.exit(444)
            end
            while true do
                local data, typ, err = wb:recv_frame()
                if not data then
                    ngx.log(ngx.ERR, "failed to receive a frame: ", err)
                    return ngx.exit(444)
                end
                if typ == "close" then
                    local bytes, err = wb:send_close(1000, "enough, enough!")
                    if not bytes then
                        ngx.log(ngx.ERR, "failed to send the close frame: ", err)
                    end
                    ngx.log(ngx.INFO, "closing with code ", err, " and message ", data)
                    return
                elseif typ == "ping" then
                    wb:send_pong(data)
                else
                    ngx.log(ngx.INFO, "received a frame of type ", typ, " and payload ", data)
                end
            end
        }
    }
--- client
            local wb, err = client:new()
            local uri = "ws://127.0.0.1:" .. ngx.var.server_port .. "/s"
            local ok, err, res = wb:connect(uri)
            if not ok then
                ngx.say("failed to connect: " .. err)
                return
            end
            local data, typ, err = wb:recv_frame()
            if not data then
                ngx.say("failed to receive the frame: ", err)
                return
            end
            ngx.say("received: ", data, " (", typ, "): ", err)
            local bytes, err = wb:send_text("copy: " .. data)
            if not bytes then
                ngx.say("failed to send frame: ", err)
                return
            end
            local bytes, err = wb:send_close()
            if not bytes then
                ngx.say("failed to send frame: ", err)
                return
            end
            t.say(wb:recv_frame())
--- response_body
received: hello (text): nil
"enough, enough!" "close" 1000
--- error_log
received a frame of type text and payload copy: hello
--- no_error_log
[error]



=== TEST 2: every kind of frame, both ways
--- handler
note(wb:recv_frame()); note(wb:send_text("text"))
note(wb:recv_frame()); note(wb:send_binary("\0\255"))
note(wb:recv_frame()); note(wb:send_ping("ping"))
note(wb:recv_frame()); note(wb:send_pong("pong"))
note(wb:recv_frame()); note(wb:send_frame(false, 1, "a"))
note(wb:recv_frame()); note(wb:send_continue("b"))
note(wb:recv_frame()); note(wb:send_close(4000, "done"))
note(wb:recv_frame())
--- client
local wb = client:new()
wb:connect(ws)
wb:send_text("T"); t.say(wb:recv_frame())
wb:send_binary("B"); t.say(wb:recv_frame())
wb:send_ping("I"); t.say(wb:recv_frame())
wb:send_pong("O"); t.say(wb:recv_frame())
wb:send_frame(false, 2, "1"); t.say(wb:recv_frame())
wb:send_frame(true, 0, "2"); t.say(wb:recv_frame())
wb:send_text("last"); t.say(wb:recv_frame())
t.say(wb:send_close(4001, "me too"))
--- response_body
"text" "text" nil
"\x00\xff" "binary" nil
"ping" "ping" nil
"pong" "pong" nil
"a" "text" "again"
"b" "continuation" nil
"done" "close" 4000
14 nil
"T" "text" nil
6 nil
"B" "binary" nil
4 nil
"I" "ping" nil
6 nil
"O" "pong" nil
6 nil
"1" "binary" "again"
3 nil
"2" "continuation" nil
3 nil
"last" "text" nil
8 nil
"me too" "close" 4001



=== TEST 3: a client that does not mask is refused
--- handler
note(wb:recv_frame())
--- client
local wb = client:new{ send_unmasked = true }
wb:connect(ws)
t.say(wb:send_text("bare"))
t.wait("handler ended")
local _, _, err = wb:recv_frame()
ngx.say((err:gsub("connection reset by peer", "closed")))
ngx.say(t.notes[1])
t.notes = {}
--- response_body
6 nil
failed to receive the first 2 bytes: closed
nil nil "frame unmasked"



=== TEST 4: a server that masks is understood
--- opts: { send_masked = true }
--- handler
note(wb:send_text("masked"))
note(wb:send_close(1000, "masked too"))
--- client
local wb = client:new()
wb:connect(ws)
t.say(wb:recv_frame())
t.say(wb:recv_frame())
--- response_body
"masked" "text" nil
"masked too" "close" 1000
12 nil
18 nil



=== TEST 5: 1 MiB both ways
--- opts: { max_payload_len = 1048576 }
--- handler
local data, typ, err = wb:recv_frame()
note(#data, typ, err)
note(wb:send_binary(data))
--- client
local wb = client:new{ max_payload_len = 1048576 }
wb:connect(ws)
local payload = ("0123456789\0\255abc"):rep(69906):sub(1, 1048576)
t.say(wb:send_binary(payload))
local data, typ, err = wb:recv_frame()
t.say(data == payload, typ, err)
--- response_body
1048590 nil
true "binary" nil
1048576 "binary" nil
1048586 nil



=== TEST 6: limits of either side
--- opts: { max_payload_len = 200 }
--- handler
note(wb:send_text(("s"):rep(200)))
note(#wb:recv_frame())
note(wb:recv_frame())
note(wb:send_text("x"))
--- client
local wb = client:new{ max_recv_len = 200, max_send_len = 201 }
wb:connect(ws)
t.say(#wb:recv_frame())
t.say(wb:send_text(("c"):rep(200)))
t.say(wb:send_text(("c"):rep(201)))
t.say(wb:send_text(("c"):rep(202)))
--- response_body
200
208 nil
209 nil
nil "payload too big"
204 nil
200
nil nil "exceeding max payload len"
nil "fatal error already happened"



=== TEST 7: locations that are no WebSocket, and a handler that refuses
--- config
    location = /plain { return 200 "plain"; }
    location = /moved { return 302 /ws; }
    location = /refuses {
        content_by_lua_block {
            ngx.req.clear_header("Sec-WebSocket-Key")
            local wb, err = require("resty.websocket.server"):new()
            ngx.status = 400
            ngx.say(err)
        }
    }
--- client
for _, path in ipairs{ "plain", "moved", "nowhere", "refuses" } do
    local wb = client:new()
    local ok, err, header = wb:connect("ws://127.0.0.1:HTTP_PORT/" .. path)
    t.say(ok, err, header:match("^[^\r]*"))
    if path == "plain" then
        t.say(wb.sock:receive(5))
    end
    t.say(wb:close())
end
--- response_body
nil "failed websocket handshake: unexpected response status: 200" "HTTP/1.1 200 OK"
"plain"
1
nil "failed websocket handshake: unexpected response status: 302" "HTTP/1.1 302 Moved Temporarily"
1
nil "failed websocket handshake: unexpected response status: 404" "HTTP/1.1 404 Not Found"
1
nil "failed websocket handshake: unexpected response status: 400" "HTTP/1.1 400 Bad Request"
1
--- no_error_log
[alert]



=== TEST 8: subprotocol, origin, own headers and the response seen by both
--- handler
local v = ngx.var
note(v.http_sec_websocket_protocol, v.http_origin, v.http_x_one, v.http_cookie, v.http_host)
--- client
local wb = client:new()
local _, _, response = wb:connect(ws, {
    protocols = "chat", origin = "http://page.test", headers = { "X-One: 1", "Cookie: a=b" },
    host = "named.test",
})
t.say(response:match("^(.-)\r\n"), response:match("Sec%-WebSocket%-Protocol: ([^\r]*)"))
t.say(#response > 0 and not response:find("\r\n\r\n"))
--- response_body
"HTTP/1.1 101 Switching Protocols" "chat"
true
"chat" "http://page.test" "1" "a=b" "named.test"



=== TEST 9: the server goes away
--- handler
wb:recv_frame()
ngx.exit(444)
--- client
local wb = client:new()
wb:connect(ws)
wb:send_text("go")
t.say(wb:recv_frame())
t.say(wb:send_text("x"))
t.notes = {}
--- response_body
nil nil "failed to receive the first 2 bytes: closed"
nil "fatal error already happened"



=== TEST 10: what the server takes for a bad close code sends nothing
--- handler
note(wb:send_close(0x8000, "x"))
note(wb:send_text("alive"))
--- client
local wb = client:new()
wb:connect(ws)
t.say(wb:recv_frame())
--- response_body
"alive" "text" nil
nil "bad status code"
7 nil



=== TEST 11: 100 clients of one request, in 10 light threads
--- handler
while true do
    local data, typ = wb:recv_frame()
    if typ ~= "text" then
        return
    end
    wb:send_text(data:reverse())
end
--- http_config
lua_socket_pool_size 10;
--- client
local sum = 0
local threads = {}
for i = 1, 10 do
    threads[i] = ngx.thread.spawn(function ()
        for j = 1, 10 do
            local wb = client:new()
            assert(wb:connect(ws))
            for k = 1, 10 do
                local text = ("%d/%d/%d"):format(i, j, k)
                assert(wb:send_text(text))
                assert(wb:recv_frame() == text:reverse())
                sum = sum + 1
            end
            assert(wb:close())
        end
    end)
end
for i = 1, 10 do
    assert(ngx.thread.wait(threads[i]))
end
t.say(sum)
--- response_body
1000
