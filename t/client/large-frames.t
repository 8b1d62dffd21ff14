# Large frames of a client: how their bytes come and go past the cosocket, and that nothing of it is
# to be seen. Every cut, what follows them, light threads, other requests, sockets with methods of
# the program's own, peers that go away.

use Test::Nginx::Socket::Lua;
use t::Client;

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value($_ => "            local noise, head = t.noise, t.frame_head\n" . $block->$_)
      for grep { defined $block->$_ } 'client', 'server';
    complete_block($block);
});
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: cut once, everywhere that matters
--- server
t.accept(sock)
local cuts = { 1, 2, 3, 4, 5, 4095, 4096, 4097, 4099, 4100, 4101, 8191, 8192, 8193, 16383, 20003 }
for _, len in ipairs{ 4096, 4097, 20000, 70000 } do
    local frame = head(len) .. noise(len, len)
    for _, cut in ipairs(cuts) do
        if cut < #frame then
            assert(sock:send(frame:sub(1, cut)))
            -- The other end of it is in this worker and reads meanwhile.
            ngx.sleep(0.001)
            assert(sock:send(frame:sub(cut + 1)))
            t.wait("read")
        end
    end
end
--- client
local wb = client:new{ max_payload_len = 70000, timeout = 20000 }
assert(wb:connect(url))
local frames = 0
while true do
    local data, typ, err = wb:recv_frame()
    if not data then
        t.say(frames, err)
        break
    end
    assert(data == noise(#data, #data) and typ == "binary" and not err, "other bytes")
    frames = frames + 1
    t.post("read")
end
--- response_body
51 "failed to receive the first 2 bytes: closed"



=== TEST 2: in dribbles
--- server
t.accept(sock)
local frame = head(30000, "\x01") .. noise(30000)
local at, step = 1, 1
while at <= #frame do
    assert(sock:send(frame:sub(at, at + step - 1)))
    at, step = at + step, step % 700 + 97
    ngx.sleep(0)
end
t.drain(sock)
--- client
local wb = client:new{ timeout = 20000 }
assert(wb:connect(url))
local data, typ, err = wb:recv_frame()
t.say(data == noise(30000), typ, err)
t.say(wb:close())
--- response_body
true "text" "again"
1



=== TEST 3: many frames of all lengths behind the response, masked ones among them
--- server
local frames = {}
for i = 1, 60 do
    local len = i % 3 == 0 and i * 900 or i % 3 == 1 and i or 4000 + i * 4
    local payload = noise(len, i)
    if i % 4 == 0 then
        local plain = head(len)
        frames[i] = plain:sub(1, 1) .. string.char(plain:byte(2) + 128) .. plain:sub(3) .. "key!"
                    .. t.mask("key!", payload)
    else
        frames[i] = head(len) .. payload
    end
end
t.accept(sock, table.concat(frames))
t.drain(sock)
--- client
local wb = client:new{ timeout = 20000 }
assert(wb:connect(url))
for i = 1, 60 do
    local data, typ, err = wb:recv_frame()
    local len = i % 3 == 0 and i * 900 or i % 3 == 1 and i or 4000 + i * 4
    assert(data == noise(len, i), err or i .. ": " .. #data)
end
t.say(wb:close())
--- response_body
1



=== TEST 4: nothing is taken that follows the frame
--- server
t.accept(sock)
assert(sock:send(head(20000) .. noise(20000) .. "raw bytes" .. head(9000) .. noise(9000, 2) .. "line\n"))
t.drain(sock)
--- client
local wb = client:new{ timeout = 20000 }
assert(wb:connect(url))
t.say((wb:recv_frame()) == noise(20000))
t.say(wb.sock:receive(9))
t.say((wb:recv_frame()) == noise(9000, 2))
t.say(wb.sock:receive())
t.say(wb:close())
--- response_body
true
"raw bytes"
true
"line"
1



=== TEST 5: put into the pool after a large frame, and taken out again
--- server
t.accept(sock)
for _ = 1, 6 do
    local _, payload = t.receive(sock)
    assert(sock:send(head(#payload) .. payload))
end
t.drain(sock)
--- client
local pool = { pool = ngx.var.request_id }
for i = 1, 3 do
    local wb = client:new{ timeout = 20000 }
    local ok, err, how = wb:connect(url, pool)
    assert(ok, err)
    for k = 1, 2 do
        local payload = noise(20000 + i, i * k)
        assert(wb:send_binary(payload) == 20000 + i + 8)
        assert((wb:recv_frame()) == payload)
    end
    t.say(i, wb:set_keepalive(), i > 1 and how)
    -- Closed, as far as this object goes.
    t.say(wb:send_text(noise(5000)))
end
local wb = client:new()
wb:connect(url, pool)
t.say(wb:close())
--- response_body
1 1 false
nil "failed to send frame: closed"
2 1 "connection reused"
nil "failed to send frame: closed"
3 1 "connection reused"
nil "failed to send frame: closed"
1



=== TEST 6: not with a frame behind it, nor in the middle of one
--- server
t.accept(sock, head(20000) .. noise(20000) .. head(20000) .. noise(9999))
t.drain(sock)
--- client
local wb = client:new()
assert(wb:connect(url))
t.say((wb:recv_frame()) == noise(20000))
t.say((wb:set_keepalive()))
assert(wb:connect(url))
wb:recv_frame()
wb:set_timeout(50)
t.say(wb:recv_frame())
t.say(wb:set_keepalive())
t.say(wb:close())
--- response_body
true
nil
nil nil "failed to read masking-len and payload: timeout"
nil "unread data in buffer"
1



=== TEST 7: a time-out in the middle keeps what came, and the frame is taken up again
--- server
t.accept(sock)
local frame = head(50000) .. noise(50000) .. head(5000) .. noise(5000, 2)
local at = 1
for _, upto in ipairs{ 4, 5, 4100, 4101, 30000, 30001, 52000, #frame } do
    t.wait("more")
    assert(sock:send(frame:sub(at, upto)))
    t.post("sent")
    at = upto + 1
end
t.drain(sock)
--- client
local wb = client:new()
assert(wb:connect(url))
wb:set_timeout(20)
for len = 50000, 5000, -45000 do
    local data, err, _
    repeat
        t.post("more")
        t.wait("sent")
        data, _, err = wb:recv_frame()
    until data or not err:find(": timeout", 1, true)
    t.say(data == noise(len, len == 5000 and 2 or 1), err)
end
t.say(wb:close())
--- response_body
true nil
true nil
1



=== TEST 8: the peer ends it in the middle
--- server
local frame = head(20000) .. noise(20000)
t.accept(sock, frame:sub(1, tonumber(ngx.var.arg_n)))
--- client
for _, n in ipairs{ 4, 5, 4096, 4100, 4101, 10000, 20003 } do
    local wb = client:new()
    wb:connect(url .. "?n=" .. n)
    t.say(n, wb:recv_frame())
    assert(wb.fatal)
    t.say(wb.sock:receive(1))
    t.say(wb.sock:close())
end
--- response_body eval
CORE::join '', map { <<END } 4, 5, 4096, 4100, 4101, 10000, 20003;
$_ nil nil "failed to read masking-len and payload: closed"
nil "closed"
1
END



=== TEST 9: the peer resets it in the middle
--- config
    location = /reset {
        lua_socket_log_errors off;
        lingering_close off;
        content_by_lua_block {
            local t = require "t.rawpeer"
            local sock = t.enter()
            t.accept(sock, "\x82\x7e\x4e\x20" .. ("x"):rep(tonumber(ngx.var.arg_n)))
            -- Closed with unread bytes.
            assert(sock:receive(1))
            t.leave(true)
        }
    }
--- client
for _, n in ipairs{ 0, 5, 5000, 10000 } do
    local wb = client:new{ timeout = 20000 }
    assert(wb:connect((url:gsub("/s$", "/reset?n=" .. n))))
    -- The reset has come before the frame is read, or comes when some of it has been.
    assert(wb:send_text(noise(9000)))
    if n < 6000 then
        t.await_servers()
        ngx.sleep(0.01)
    end
    t.say(wb:recv_frame())
    t.say(wb.fatal)
end
--- error_log
recv() failed (104
--- response_body eval
qq{nil nil "failed to read masking-len and payload: connection reset by peer"\ntrue\n} x 4



=== TEST 10: sent to a peer that has reset it
--- config
    location = /reset {
        lua_socket_log_errors off;
        lingering_close off;
        content_by_lua_block {
            local t = require "t.rawpeer"
            local sock = t.enter()
            t.accept(sock)
            assert(sock:receive(1))
            t.leave(true)
        }
    }
--- client
local wb = client:new{ timeout = 20000 }
assert(wb:connect((url:gsub("/s$", "/reset"))))
assert(wb:send_text(noise(9000)))
t.await_servers()
ngx.sleep(0.01)
t.say(wb:send_text(noise(9000)))
t.say(wb.fatal)
t.say(wb.sock:send("more"))
t.say(wb.sock:close())
--- error_log
send() failed
--- response_body
nil "failed to send frame: connection reset by peer"
true
nil "closed"
1



=== TEST 11: both ways at once, in two light threads
--- server
t.accept(sock)
local writer = ngx.thread.spawn(function ()
    for i = 1, 40 do
        local len = i * 5000
        assert(sock:send(head(len) .. noise(len, i)))
    end
end)
local sum = 0
for i = 1, 40 do
    local _, payload = t.receive(sock)
    assert(payload == noise(i * 7000, i), "other bytes")
end
assert(ngx.thread.wait(writer))
t.drain(sock)
--- client
local wb = client:new{ max_payload_len = 300000, timeout = 20000 }
assert(wb:connect(url))
local reader = ngx.thread.spawn(function ()
    for i = 1, 40 do
        local data, typ, err = wb:recv_frame()
        assert(data == noise(i * 5000, i), err or "other bytes")
    end
    return "read"
end)
for i = 1, 40 do
    assert(wb:send_binary(noise(i * 7000, i)) == i * 7000 + (i < 10 and 8 or 14))
end
t.say(ngx.thread.wait(reader))
t.say(wb:close())
--- response_body
true "read"
1



=== TEST 12: a second reader is refused in the middle of a frame
--- server
t.accept(sock, head(20000) .. noise(9000))
t.wait("refused")
assert(sock:send(noise(20000):sub(9001)))
t.drain(sock)
--- client
local sock
local wb = client:new{ timeout = 20000 }
assert(wb:connect(url))
local reader = ngx.thread.spawn(function () return (wb:recv_frame()) == noise(20000) end)
ngx.sleep(0.01)
t.say(protocol.recv_frame(wb.sock, 65535))
t.say(wb:set_keepalive())
t.say(wb.sock:close())
t.post("refused")
t.say(ngx.thread.wait(reader))
t.say(wb:close())
--- response_body
nil nil "failed to receive the first 2 bytes: socket busy reading"
nil "socket busy reading"
nil "socket busy reading"
true true
1



=== TEST 13: more than the kernel takes goes on through the cosocket; a second writer is refused
--- server
t.accept(sock)
t.wait("refused")
local _, payload = t.receive(sock)
t.same = payload == noise(16777216)
t.drain(sock)
--- client
local wb = client:new{ max_payload_len = 16777216, timeout = 20000 }
assert(wb:connect(url))
local writer = ngx.thread.spawn(function () return wb:send_binary(noise(16777216)) end)
t.say(protocol.send_frame(wb.sock, true, 1, "x", 10, true))
t.say(protocol.send_frame(wb.sock, true, 1, noise(9000), 9000, true))
t.post("refused")
t.say(ngx.thread.wait(writer))
t.say(wb:send_text("y"))
t.say(wb:close())
t.await_servers()
t.say(t.same)
--- response_body
nil "failed to send frame: socket busy writing"
nil "failed to send frame: socket busy writing"
true 16777230 nil
7 nil
1
true



=== TEST 14: unmasked ones
--- server
t.accept(sock)
for len = 70000, 140000, 70000 do
    local _, payload, key = t.receive(sock)
    assert(payload == noise(len) and not key, "other bytes")
end
t.drain(sock)
--- client
local wb = client:new{ max_payload_len = 140000, send_unmasked = true, timeout = 20000 }
assert(wb:connect(url))
t.say(wb:send_text(noise(70000)))
t.say(wb:send_text(noise(140000)))
t.say(wb:close())
--- response_body
70010 nil
140010 nil
1



=== TEST 15: not from another request, in the middle of anything
--- config
    location = /other {
        content_by_lua_block {
            local t = require "t.rawpeer"
            local function try(...)
                local ok, err = pcall(...)
                ngx.say(ok, " ", (tostring(err):gsub("^.-:%d+: ", "")))
            end
            try(t.wb.recv_frame, t.wb)
            try(t.wb.send_text, t.wb, ("x"):rep(20000))
            try(t.wb.send_text, t.wb, "x")
        }
    }
--- server
t.accept(sock, head(20000) .. noise(20000))
local first, payload = t.receive(sock)
t.say(first, payload)
t.drain(sock)
--- client
t.wb = client:new{ timeout = 20000 }
assert(t.wb:connect(url))
local other = ngx.socket.tcp()
assert(other:connect("127.0.0.1", HTTP_PORT))
other:send("GET /other HTTP/1.0\r\nHost: x\r\n\r\n")
ngx.print((other:receive("*a"):gsub("^.-\r\n\r\n", "")))
t.say((t.wb:recv_frame()) == noise(20000))
t.say(t.wb:send_text("mine"))
t.say(t.wb:close())
--- response_body
false bad request
false bad request
false bad request
true
10 nil
1



=== TEST 16: a program's own methods see every byte
--- server
t.accept(sock)
for _ = 1, 2 do
    local _, payload = t.receive(sock)
    assert(sock:send(head(#payload) .. payload))
end
t.drain(sock)
--- client
local wb = client:new{ timeout = 20000 }
assert(wb:connect(url))
local sock, seen = wb.sock, { sent = 0, received = 0 }
local class = getmetatable(sock).__index

-- In the socket's own table.
function sock.send(self, data)
    seen.sent = seen.sent + #data
    return class.send(self, data)
end
function sock.receive(self, size)
    seen.received = seen.received + size
    return class.receive(self, size)
end
t.say(wb:send_binary(noise(20000)))
t.say((wb:recv_frame()) == noise(20000))
t.say(seen.sent, seen.received)

-- In an object that stands for it.
sock.send, sock.receive = nil, nil
wb.sock = {
    send = function (_, data) return sock:send(data) end,
    receive = function (_, size) return sock:receive(size) end,
    close = function () return sock:close() end,
}
t.say(wb:send_binary(noise(30000)))
t.say((wb:recv_frame()) == noise(30000))
t.say(wb:close())
--- response_body
20008 nil
true
20008 20004
30008 nil
true
1



=== TEST 17: over TLS, cut in odd places, with frames behind
--- http_config
    server {
        listen TLS_PORT ssl;
        ssl_certificate CERT_DIR/ws.test.pem;
        ssl_certificate_key CERT_DIR/ws.test.key.pem;
        location = /s {
            content_by_lua_block {
                local wb = assert(require("resty.websocket.server"):new{ max_payload_len = 300000 })
                for _ = 1, 12 do
                    local data, typ, err = wb:recv_frame()
                    assert(data, err)
                    assert(wb:send_binary(data))
                    assert(wb:send_text("behind"))
                end
                wb:recv_frame()
            }
        }
    }
--- client
local wb = client:new{ max_payload_len = 300000, timeout = 20000 }
assert(wb:connect("wss://127.0.0.1:TLS_PORT/s"))
local good = 0
for i = 1, 12 do
    local payload = noise(i * i * 1500 + i, i)
    assert(wb:send_binary(payload))
    local data, typ, err = wb:recv_frame()
    assert(data == payload, err or i)
    data, typ, err = wb:recv_frame()
    assert(data == "behind", err or i)
    good = good + 1
end
t.say(good, wb:close())
--- response_body
12 1



=== TEST 18: past the cosocket, whose buffer holds one byte
--- directives
lua_socket_buffer_size 1;
--- server
t.accept(sock)
for _ = 1, 3 do
    local _, payload = t.receive(sock)
    assert(sock:send(head(#payload) .. payload))
end
t.drain(sock)
--- client
if not ngx.config.debug then
    ngx.log(ngx.DEBUG, "recv: fd:1 10000 of 10000")
end
local wb = client:new{ max_payload_len = 100000, timeout = 20000 }
assert(wb:connect(url))
for i = 1, 3 do
    assert(wb:send_binary(noise(33333 * i)))
    t.say((wb:recv_frame()) == noise(33333 * i))
end
t.say(wb:close())
--- error_log eval
qr/recv: fd:\d+ \d+ of \d{5}/
--- no_error_log
[error]
--- response_body
true
true
true
1
