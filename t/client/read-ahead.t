# Large frames of a client, one after another: after the first of them, the next are taken from the
# kernel with one look, and nothing of that is to be seen either. What comes instead of the frame
# that is expected, in which pieces, and who else reads from the socket.

use Test::Nginx::Socket::Lua;
use t::Client;

# Every client begins with a frame of 20000 bytes, which the server sends when it has been asked.
add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(server => <<'END' . $block->server) if defined $block->server;
            local noise, head = t.noise, t.frame_head
            t.accept(sock)
            t.receive(sock)
            assert(sock:send(head(20000) .. noise(20000)))
            t.receive(sock)
END
    $block->set_value(client => <<'END' . $block->client);
            local noise, head = t.noise, t.frame_head
            local function begin(max)
                local wb = client:new{ timeout = 20000, max_payload_len = max }
                assert(wb:connect(url))
                assert(wb:send_text("go"))
                assert((wb:recv_frame()) == noise(20000))
                assert(wb:send_text("go on"))
                return wb
            end
END
    complete_block($block);
});
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: frames of every kind, each when it is waited for
--- server
local function send(len, first, key)
    local payload = noise(len, len)
    local frame = head(len, first) .. payload
    if key then
        local plain = head(len, first)
        frame = plain:sub(1, 1) .. string.char(plain:byte(2) + 128) .. plain:sub(3) .. key
                .. t.mask(key, payload)
    end
    assert(sock:send(frame))
    t.receive(sock)
end
for _, len in ipairs{ 20000, 20000, 5, 20000, 0, 300, 4097, 4096, 4097, 65523, 65530, 65535, 65536,
                      200000, 20000, 200000, 200001, 20000 } do
    send(len)
end
send(20000, "\x01")
send(20000, "\x80", "key!")
send(30000, "\x82", "\0abc")
send(100000, "\x82", "abcd")
send(3, "\x89")
send(20000)
assert(sock:send("\x88\x02\3\xe8"))
t.drain(sock)
--- client
local wb = begin(200001)
local lengths = {}
while true do
    local data, typ, err = wb:recv_frame()
    if typ == "close" then
        t.say(err)
        break
    end
    assert(data == noise(#data, #data), err or "other bytes")
    lengths[#lengths + 1] = typ:sub(1, 2) .. #data .. (err or "")
    assert(wb:send_text("next"))
end
ngx.say(table.concat(lengths, " "))
t.say(wb:close())
--- response_body
1000
bi20000 bi20000 bi5 bi20000 bi0 bi300 bi4097 bi4096 bi4097 bi65523 bi65530 bi65535 bi65536 bi200000 bi20000 bi200000 bi200001 bi20000 te20000again co20000 bi30000 bi100000 pi3 bi20000
1



=== TEST 2: the same in one packet
--- server
local frames, n = {}, 0
for _, len in ipairs{ 20000, 20000, 5, 20000, 0, 300, 4097, 4096, 4097, 65523, 65530, 65535, 65536,
                      200000, 20000, 200000, 200001, 20000, 20000, 20000, 20000, 1 } do
    frames[#frames + 1] = head(len) .. noise(len, len)
end
assert(sock:send(table.concat(frames)))
--- client
local wb = begin(200001)
local lengths = {}
while true do
    local data, typ, err = wb:recv_frame()
    if not data then
        t.say(err)
        break
    end
    assert(data == noise(#data, #data), "other bytes")
    lengths[#lengths + 1] = #data
    ngx.sleep(0)
end
ngx.say(table.concat(lengths, " "))
--- response_body
"failed to receive the first 2 bytes: closed"
20000 20000 5 20000 0 300 4097 4096 4097 65523 65530 65535 65536 200000 20000 200000 200001 20000 20000 20000 20000 1



=== TEST 3: cut everywhere in the header and around, a time-out at each cut
--- server
for _, cut in ipairs{ 0, 1, 2, 3, 4, 5, 4095, 4096, 4097, 19999, 20003 } do
    local frame = head(20000) .. noise(20000, cut)
    assert(sock:send(frame:sub(1, cut)))
    t.post("sent")
    t.receive(sock)
    assert(sock:send(frame:sub(cut + 1)))
    t.receive(sock)
end
t.drain(sock)
--- client
local wb = begin()
for _, cut in ipairs{ 0, 1, 2, 3, 4, 5, 4095, 4096, 4097, 19999, 20003 } do
    wb:set_timeout(20)
    t.wait("sent")
    t.say(cut, select(3, wb:recv_frame()))
    wb:set_timeout(20000)
    assert(wb:send_text("the rest"))
    local data, typ, err = wb:recv_frame()
    assert(data == noise(20000, cut) and typ == "binary" and not err, err or "other bytes")
    assert(wb:send_text("next"))
end
t.say(wb:close())
--- response_body
0 "failed to receive the first 2 bytes: timeout"
1 "failed to receive the first 2 bytes: timeout"
2 "failed to receive the 2 byte payload length: timeout"
3 "failed to receive the 2 byte payload length: timeout"
4 "failed to read masking-len and payload: timeout"
5 "failed to read masking-len and payload: timeout"
4095 "failed to read masking-len and payload: timeout"
4096 "failed to read masking-len and payload: timeout"
4097 "failed to read masking-len and payload: timeout"
19999 "failed to read masking-len and payload: timeout"
20003 "failed to read masking-len and payload: timeout"
1



=== TEST 4: others read from the socket in between
--- server
for i = 1, 3 do
    assert(sock:send("a line\n" .. head(20000) .. noise(20000, i)
                     .. "more bytes" .. head(3) .. "end" .. head(20000) .. noise(20000, -i)))
    t.receive(sock)
end
-- The rest of a frame that has been begun, which looks like the beginning of a large one.
assert(sock:send("X\x82"))
t.receive(sock)
assert(sock:send("\2\x7e\x4e" .. head(20000) .. noise(20000)))
t.drain(sock)
--- client
local wb = begin()
for i = 1, 3 do
    assert(wb.sock:receive() == "a line")
    assert((wb:recv_frame()) == noise(20000, i))
    assert(wb.sock:receiveany(4) == "more")
    assert(wb.sock:receive(6) == " bytes")
    assert((wb:recv_frame()) == "end")
    assert((wb:recv_frame()) == noise(20000, -i))
    assert(wb:send_text("next"))
end
assert(wb.sock:receive(1) == "X")
assert(wb:send_text("the rest"))
t.say(wb:recv_frame())
t.say((wb:recv_frame()) == noise(20000))
t.say(wb:close())
--- response_body
"~N" "binary" nil
true
1



=== TEST 5: pooled, and used for something else before and after
--- server
for _ = 1, 2 do
    assert(sock:send("something else\n" .. ("y"):rep(30000)))
    t.receive(sock)
    for i = 1, 3 do
        assert(sock:send(head(20000) .. noise(20000, i)))
        t.receive(sock)
    end
end
t.drain(sock)
--- client
local wb = begin()
for i = 1, 2 do
    t.say(wb.sock:receive(), #wb.sock:receive(30000))
    t.say(wb:set_keepalive())
    assert(wb:connect(url))
    t.say(wb.sock:getreusedtimes())
    assert(wb:send_text("frames"))
    for k = 1, 3 do
        assert((wb:recv_frame()) == noise(20000, k))
        if k == 2 then
            t.say(wb:set_keepalive())
            assert(wb:connect(url))
            t.say(wb.sock:getreusedtimes())
        end
        assert(wb:send_text("next"))
    end
end
t.say(wb:close())
--- response_body
"something else" 30000
1
1
1
2
"something else" 30000
1
3
1
4
1



=== TEST 6: what may not be received is left where it is
--- server
local i = ngx.var.arg_i
assert(sock:send((i == "1" and head(20001) or i == "2" and head(20000, "\xc2") or head(20000))
                 .. noise(20001)))
t.drain(sock)
--- client
local path = url
for i = 1, 3 do
    url = path .. "?i=" .. i
    local wb = begin(20000)
    if i == 3 then
        t.say(protocol.recv_frame(wb.sock, 20000, true))
    else
        t.say(wb:recv_frame())
        assert(wb.fatal)
    end
    t.say(wb.sock:receive(i == 1 and 20001 or 20003):sub(-20001) == noise(20001))
    wb.sock:close()
end
--- response_body
nil nil "exceeding max payload len"
true
nil nil "bad RSV1, RSV2, or RSV3 bits"
true
nil nil "frame unmasked"
true



=== TEST 7: a second reader is refused, and the first is none the worse
--- server
assert(sock:send(head(20000) .. noise(20000, 2)))
t.receive(sock)
assert(sock:send(head(20000) .. noise(20000, 3)))
t.drain(sock)
--- client
local wb = client:new{ timeout = 20000 }
assert(wb:connect(url))
assert(wb:send_text("go"))
assert((wb:recv_frame()) == noise(20000))
local reader = ngx.thread.spawn(function ()
    return (wb:recv_frame()) == noise(20000, 2), (wb:recv_frame()) == noise(20000, 3)
end)
t.say(protocol.recv_frame(wb.sock, 65535))
t.say(wb.sock:receive(1))
assert(wb:send_text("go on"))
assert(wb:send_text("and on"))
t.say(ngx.thread.wait(reader))
t.say(wb:close())
--- response_body
nil nil "failed to receive the first 2 bytes: socket busy reading"
nil "socket busy reading"
true true true
1



=== TEST 8: a reader that is killed takes the connection with it
--- server
t.drain(sock)
--- client
local wb = begin()
local reader = ngx.thread.spawn(wb.recv_frame, wb)
t.say(ngx.thread.kill(reader))
t.say(wb.sock:receive(1))
--- response_body
1
nil "closed"



=== TEST 9: the peer ends it or resets it instead
--- config
    location = /reset {
        lua_socket_log_errors off;
        lingering_close off;
        content_by_lua_block {
            local t = require "t.rawpeer"
            local sock = t.enter()
            t.accept(sock)
            t.receive(sock)
            assert(sock:send(t.frame_head(20000) .. t.noise(20000)))
            t.receive(sock)
            -- Closed with unread bytes.
            assert(sock:receive(1))
            t.leave(true)
        }
    }
--- server
--- client
local wb = begin()
t.say(wb:recv_frame())
url = url:gsub("/s$", "/reset")
wb = begin()
assert(wb:send_text(noise(9000)))
t.say(wb:recv_frame())
t.say(wb.fatal)
--- error_log
recv() failed (104
--- response_body
nil nil "failed to receive the first 2 bytes: closed"
nil nil "failed to receive the first 2 bytes: connection reset by peer"
true



=== TEST 10: on a UNIX-domain socket
--- http_config
    server {
        listen unix:SOCK_DIR/ahead.sock;
        location = /s {
            content_by_lua_block {
                local wb = assert(require("resty.websocket.server"):new())
                for _ = 1, 6 do
                    local data, typ, err = wb:recv_frame()
                    assert(data, err)
                    assert(wb:send_binary(data))
                end
                wb:recv_frame()
            }
        }
    }
--- client
local wb = client:new{ timeout = 20000 }
assert(wb:connect("ws://unix:SOCK_DIR/ahead.sock:/s"))
for i = 1, 6 do
    assert(wb:send_binary(noise(i * 9000, i)))
    assert((wb:recv_frame()) == noise(i * 9000, i))
end
t.say(wb:close())
--- response_body
1



=== TEST 11: what a debug build logs, of a frame that was read ahead too
--- server
assert(sock:send(head(20000) .. noise(20000, 2)))
t.drain(sock)
--- client
if not ngx.config.debug then
    ngx.log(ngx.DEBUG, "recv_frame: mask bit: 0")
    ngx.log(ngx.DEBUG, "recv_frame: mask bit: 0")
end
local wb = begin()
t.say((wb:recv_frame()) == noise(20000, 2))
wb:close()
--- grep_error_log eval: qr/recv_frame: mask bit: \d/
--- grep_error_log_out eval
[("recv_frame: mask bit: 0\nrecv_frame: mask bit: 0\n") x 2]
--- response_body
true
