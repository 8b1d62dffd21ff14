# resty.websocket.client and ngx_lua's connection pool: set_keepalive(), what connect() takes out of
# a pool, pool names, pool_size and backlog.

use Test::Nginx::Socket::Lua;
use t::Client;

# The server of every block numbers its connections and says so in each frame.
add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(config => <<'END' . ($block->config // ''));
    location /n {
        lua_socket_log_errors off;
        content_by_lua_block {
            local t = require "t.rawpeer"
            t.connections = (t.connections or 0) + 1
            local number = t.connections
            local wb = assert(require("resty.websocket.server"):new())
            while true do
                local data, typ, err = wb:recv_frame()
                if data == "die" then
                    wb:send_ping("unasked")
                elseif typ == "text" then
                    wb:send_text(number .. " " .. ngx.var.uri .. " " .. data)
                elseif not data then
                    t.post("ended " .. ngx.var.arg_id)
                    return
                end
            end
        }
    }
END
    my $client = $block->client;
    $block->set_value(client => <<"END");
            t.connections = 0
            local id = ngx.var.request_id
            local n = "ws://127.0.0.1:HTTP_PORT/n?id=" .. id
            local ended = "ended " .. id
            -- A pool of its own for each repetition.
            local pool = { pool = id }
            local function ask(wb, text)
                assert(wb:send_text(text or ""))
                t.say((wb:recv_frame()))
            end
$client
END
    complete_block($block);
});
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: put away, and taken out by the same object
--- client
local wb = client:new()
t.say((wb:connect(n, pool)))
ask(wb, "a")
t.say(wb:set_keepalive())
t.say(wb:connect(n, pool))
ask(wb, "b")
t.say(wb:close())
--- response_body
1
"1 /n a"
1
1 nil "connection reused"
"1 /n b"
1



=== TEST 2: taken out by another object, whatever path, headers and key it asks for
--- client
local wb = client:new()
wb:connect((n:gsub("/n", "/n/one")), pool)
ask(wb, "a")
t.say(wb:set_keepalive(1000, 5))
local opts = { pool = pool.pool, key = key.key, headers = { "X: y" }, protocols = "p" }
local other = client:new()
t.say(other:connect((n:gsub("/n", "/n/two")), opts))
ask(other, "b")
-- The pool is empty now.
local third = client:new()
t.say((select(3, third:connect(n, pool))) == "connection reused")
ask(third, "c")
--- response_body
"1 /n/one a"
1
1 nil "connection reused"
"1 /n/one b"
false
"2 /n c"



=== TEST 3: another pool name misses
--- client
local wb = client:new()
wb:connect(n, pool)
wb:set_keepalive()
local other = client:new()
other:connect(n, { pool = pool.pool .. "other" })
ask(other)
other = client:new()
other:connect(n, pool)
ask(other)
--- response_body
"2 /n "
"1 /n "



=== TEST 4: without a name the pool is that of host and port
--- client
local wb = client:new()
wb:connect(n)
t.say(wb:set_keepalive())
local a = client:new()
t.say((select(3, a:connect("ws://localhost.test:HTTP_PORT/n"))))
local b = client:new()
t.say((select(3, b:connect("ws://127.0.0.1:HTTP_PORT/n"))))
b:close()
local c = ngx.socket.tcp()
c:connect("127.0.0.1", HTTP_PORT)
t.say(c:getreusedtimes())
--- response_body
1
nil
"connection reused"
0



=== TEST 5: the pool of a UNIX-domain socket, and the log line that names a new pool
--- skip_eval: 3: !t::Client::has_debug()
--- http_config
    server {
        listen unix:SOCK_DIR/pool.sock;
        location = /s {
            content_by_lua_block {
                require("resty.websocket.server"):new():recv_frame()
            }
        }
    }
--- client
local uri = "ws://unix:SOCK_DIR/pool.sock:/s"
local wb = client:new()
t.say((wb:connect(uri)))
t.say(wb:set_keepalive())
t.say((select(3, wb:connect(uri))))
t.say(wb:close())
wb = client:new()
t.say((wb:connect(n, { pool = "my_own_pool" })))
t.say(wb:set_keepalive())
wb:connect(n, { pool = "my_own_pool" })
t.say(wb:close())
--- response_body
1
1
"connection reused"
1
1
1
1
--- error_log eval
[qr/lua tcp socket keepalive create connection pool for key "unix:[^"]*pool\.sock"/,
 'lua tcp socket keepalive create connection pool for key "my_own_pool"']
--- no_error_log
[error]



=== TEST 6: after set_keepalive() the object is a closed one
--- client
local wb = client:new()
wb:connect(n, pool)
t.say(wb:set_keepalive())
t.say(wb:set_keepalive())
t.say(wb:send_text("x"))
t.say(wb.fatal)
t.say(wb:recv_frame())
t.say(wb:close())
-- connect() makes it usable again.
t.say((select(3, wb:connect(n, pool))))
ask(wb, "again")
--- response_body
1
nil "closed"
nil "failed to send frame: closed"
true
nil nil "fatal error already happened"
nil "fatal error already happened"
"connection reused"
"1 /n again"



=== TEST 7: unread data in the buffer refuses set_keepalive(), and the connection lives on
--- server
t.accept(sock, "\x81\x03one\x81\x03two")
t.drain(sock)
--- client
local wb = client:new()
wb:connect(url, pool)
t.say((wb:recv_frame()))
t.say(wb:set_keepalive())
t.say((wb:recv_frame()))
t.say(wb:set_keepalive())
local other = client:new()
t.say((select(3, other:connect(url, pool))))
t.say(other:close())
--- response_body
"one"
nil "unread data in buffer"
"two"
1
"connection reused"
1



=== TEST 8: half a frame that a timeout interrupted refuses it too
--- server
t.accept(sock, "\x81\x05he")
t.wait("timed out")
sock:send("llo")
t.drain(sock)
--- client
local wb = client:new()
wb:connect(url, pool)
wb:set_timeout(30)
t.say(wb:recv_frame())
t.say(wb:set_keepalive())
wb:set_timeout(20000)
t.post("timed out")
t.say(wb:recv_frame())
t.say(wb:set_keepalive())
t.say(rawget(wb.sock, "connect"), rawget(wb.sock, "setkeepalive"))
t.say(wb:connect(url, pool))
t.say(wb:close())
--- response_body
nil nil "failed to read masking-len and payload: timeout"
nil "unread data in buffer"
"hello" "text" nil
1
nil nil
1 nil "connection reused"
1



=== TEST 9: a frame to an idle connection ends it
--- client
local wb = client:new()
wb:connect(n, pool)
wb:send_text("die")
wb:set_keepalive()
t.wait(ended)
t.say((select(3, wb:connect(n, pool))) == "connection reused")
--- response_body
false



=== TEST 10: pool_size limits the idle ones
--- client
pool.pool_size = 2
local wb = {}
for i = 1, 3 do
    wb[i] = client:new()
    wb[i]:connect(n, pool)
    ask(wb[i])
end
for i = 1, 3 do
    t.say(wb[i]:set_keepalive())
end
-- The one put away first had to make room.
t.wait(ended)
for i = 1, 3 do
    wb[i]:connect(n, pool)
    ask(wb[i])
end
--- response_body
"1 /n "
"2 /n "
"3 /n "
1
1
1
"3 /n "
"2 /n "
"4 /n "



=== TEST 11: backlog limits the open ones; who waits gets a place, or a timeout
--- client
pool.pool_size, pool.backlog = 1, 1
local wb = client:new()
t.say((wb:connect(n, pool)))

local waiting = ngx.thread.spawn(function ()
    local second = client:new{ timeout = 20000 }
    local ok, _, res = second:connect(n, pool)
    ask(second, "after waiting")
    return ok, res
end)
t.say(client:new():connect(n, pool))
t.say(wb:set_keepalive())
t.say(select(2, ngx.thread.wait(waiting)))
t.say(client:new{ timeout = 50 }:connect(n, pool))
--- response_body
1
nil "failed to connect: too many waiting connect operations"
1
"1 /n after waiting"
1 "connection reused"
nil "failed to connect: timeout"



=== TEST 12: a failed handshake gives its place back
--- server
sock:send("HTTP/1.1 101 x\r\n\r\n")
t.drain(sock)
--- client
pool.pool_size, pool.backlog = 1, 0
for _ = 1, 3 do
    t.say((select(2, client:new():connect(url, pool))))
end
--- response_body
"failed websocket handshake: bad "upgrade" response header: nil"
"failed websocket handshake: bad "upgrade" response header: nil"
"failed websocket handshake: bad "upgrade" response header: nil"



=== TEST 13: the pool's idle time
--- client
local wb = client:new()
wb:connect(n, pool)
t.say(wb:set_keepalive(10))
t.wait(ended)
t.say((select(3, wb:connect(n, pool))) == "connection reused")
t.say(wb:set_keepalive(0))
t.say((select(3, wb:connect(n, pool))))
--- response_body
1
false
1
"connection reused"



=== TEST 14: a connection in use by another light thread is not put away
--- server
t.accept(sock)
t.drain(sock)
--- client
local wb = client:new()
wb:connect(url, pool)
local reader = ngx.thread.spawn(wb.recv_frame, wb)
t.say(wb:set_keepalive())
t.say(wb:recv_frame())
t.say(wb:connect(url, pool))
ngx.thread.kill(reader)
wb.sock:close()
--- response_body
nil "socket busy reading"
nil nil "failed to receive the first 2 bytes: socket busy reading"
nil "failed to connect: socket busy reading"
