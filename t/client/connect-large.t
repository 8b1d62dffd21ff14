# Large messages of websocket.connect(), whose bytes come and go past the cosocket: cut, joined, in
# fragments, with control frames between, more than the kernel takes, peers that go away.

use Test::Nginx::Socket::Lua;
use t::Client;

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(server => <<'END' . $block->server) if defined $block->server;
            local noise, head = t.noise, t.frame_head
END
    $block->set_value(client => <<'END' . $block->client);
            local noise = t.noise
            local websocket = require "resty.websocket"
            local function connect(opts)
                opts = opts or {}
                opts.max_message_size, opts.timeout = 16777216, 20000
                return assert(websocket.connect(url, opts))
            end
END
    complete_block($block);
});
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: cut everywhere, whole and in fragments, pings between
--- server
t.accept(sock)
local bytes = {}
for _, len in ipairs{ 5, 20000, 4096, 70000, 0, 300000, 20000, 1 } do
    bytes[#bytes + 1] = head(len) .. noise(len, len)
    local half = math.floor(len / 2)
    bytes[#bytes + 1] = head(half, "\x02") .. noise(len, len):sub(1, half) .. head(4, "\x89") .. "ping"
                        .. head(len - half, "\x80") .. noise(len, len):sub(half + 1)
end
bytes = table.concat(bytes)
local at, step = 1, 1
while at <= #bytes do
    assert(sock:send(bytes:sub(at, at + step - 1)))
    at, step = at + step, step * 7 % 9973
    ngx.sleep(0)
end
local pongs = 0
while t.receive(sock) == 0x8a do
    pongs = pongs + 1
end
t.pongs = pongs
--- client
local ws = connect()
for _, len in ipairs{ 5, 20000, 4096, 70000, 0, 300000, 20000, 1 } do
    for _ = 1, 2 do
        local data, typ = ws:recv()
        assert(data == noise(len, len), typ)
    end
end
ws:shutdown()
t.await_servers()
t.say(t.pongs)
--- response_body
8



=== TEST 2: all in one packet, and a close frame behind
--- server
local bytes = {}
for i = 1, 40 do
    local len = i % 2 == 0 and i * 3000 or i
    bytes[i] = head(len) .. noise(len, i)
end
t.accept(sock, table.concat(bytes) .. "\x88\x02\3\xe8")
t.receive(sock)
--- client
local ws = connect()
for i = 1, 40 do
    local data, typ = ws:recv()
    assert(data == noise(i % 2 == 0 and i * 3000 or i, i), typ)
end
t.say(ws:recv())
--- response_body
nil "closed" 1000 ""



=== TEST 3: both ways at once, more than the kernel takes
--- server
t.accept(sock)
t.wait("sent")
local good = 0
for i = 1, 12 do
    local _, payload = t.receive(sock)
    assert(payload == noise(i * 150000, i), "other bytes")
    assert(sock:send(head(#payload) .. payload))
end
t.receive(sock)
sock:send("\x88\0")
--- client
local ws = connect()
local reader = ngx.thread.spawn(function ()
    for i = 1, 12 do
        local data, typ = ws:recv()
        assert(data == noise(i * 150000, i), typ)
    end
    return "read"
end)
local writers = {}
for i = 1, 12 do
    writers[i] = ngx.thread.spawn(function () return ws:send(noise(i * 150000, i), "binary") end)
end
t.post("sent")
for i = 1, 12 do
    local _, bytes, err = ngx.thread.wait(writers[i])
    assert(bytes == i * 150000 + 14, err)
end
t.say(ngx.thread.wait(reader))
t.say(ws:close())
--- response_body
true "read"
true



=== TEST 4: the peer ends it in the middle, or resets it
--- config
    location = /reset {
        lua_socket_log_errors off;
        lingering_close off;
        content_by_lua_block {
            local t = require "t.rawpeer"
            local sock = t.enter()
            t.accept(sock, t.frame_head(50000) .. t.noise(20000))
            -- Closed with unread bytes.
            assert(sock:receive(1))
            t.leave(true)
        }
    }
--- server
t.accept(sock, head(50000) .. noise(20000))
--- client
local ws = connect()
t.say((select(3, ws:recv())))
url = url:gsub("/s$", "/reset")
ws = connect()
assert(ws:send(noise(9000), "binary"))
t.say((select(3, ws:recv())))
t.say(ws:state())
--- error_log
recv() failed (104
--- response_body
1006
1006
"closed"



=== TEST 5: a broken rule in the middle of what is read past the cosocket
--- server
t.accept(sock, head(20000) .. noise(20000) .. head(20000, "\x80") .. noise(20000))
local first, payload = t.receive(sock)
t.closed = ("%02x %d"):format(first, payload:byte(1) * 256 + payload:byte(2))
--- client
local ws = connect()
t.say(ws:recv() == noise(20000))
t.say((select(3, ws:recv())))
t.await_servers()
t.say(t.closed)
--- response_body
true
1002
"88 1002"
