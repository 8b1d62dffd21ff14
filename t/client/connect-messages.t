# A connection made by websocket.connect(): whole messages both ways against our own accept handler
# and against raw servers, every rule a server can break, close, time-outs, heartbeat, compression,
# and light threads that read, write and close at the same time.

use Test::Nginx::Socket::Lua;
use t::Connect;

# `broken`: close code, text, rule: what a raw server that sends `bytes` gets and causes.
add_block_preprocessor(sub {
    my $block = shift;
    if (defined(my $broken = $block->broken)) {
        my ($code, $text, $rule) = $broken =~ /\A(\d+) (.*) (\w+)\s*\z/;
        my ($bytes, $options) = ($block->bytes, $block->offered // '');
        my $extension = $options =~ /compression/ ? '"Sec-WebSocket-Extensions: permessage-deflate", ' : '';
        $block->set_value(client => <<"END");
            local ws = connect($options)
            say(ws:recv())
            say(ws:close_info())
            say(ws:state())
            say(ws:send("too late"))
END
        $block->set_value(server => <<"END");
            answer($extension"", $bytes)
            local first, payload, key = t.receive(sock)
            assert(first == 136 and key, "no masked close frame")
            assert(payload:byte(1) * 256 + payload:byte(2) == $code, "another code")
            assert(payload:sub(3) == "$text", payload)
END
        $block->set_value(response_body => <<"END");
nil "$text" $code "$text"
$code "$text" false
"closed"
nil "closed"
END
        $block->set_value(info => "websocket peer broke a rule: $text ($rule)");
    }
    complete_connect_block($block);
});
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: every length, there and back
--- options: { max_message_size = "16m" }
--- client
    local ws = connect({ max_message_size = "16m" }, "/ws")
    for _, n in ipairs { 0, 1, 125, 126, 65535, 65536, 2^20, 2^24 } do
        local data = ("0123456789abcdef\255"):rep(n / 17 + 1):sub(1, n)
        local sent = ws:send(data, "binary")
        local back, typ = ws:recv()
        say(n, sent - n, back == data, typ)
    end
    say(ws:send("\226\130\172"))
    say(ws:recv())
    say(ws:close(4000, "done"))
    say(ws:close_info())
    say(ws:close())
    say(ws:recv())
    say(ws:send("x"))
--- response_body
0 6 true "binary"
1 6 true "binary"
125 6 true "binary"
126 8 true "binary"
65535 8 true "binary"
65536 14 true "binary"
1048576 14 true "binary"
16777216 14 true "binary"
9
"\xe2\x82\xac" "text"
true
4000 "" true
true
nil "closed" 4000 ""
nil "closed"
--- timeout: 20



=== TEST 2: frames of the client are masked, each with a key of its own
--- client
    local ws = connect()
    ws:send("text")
    ws:send("", "binary")
    ws:ping("p")
    ws:pong()
    local writer = ws:send_stream("text")
    writer:write("a")
    writer:write("")
    writer:finish()
    ws:shutdown()
--- server
    answer()
    local keys = {}
    for _ = 1, 7 do
        local first, payload, key = t.receive(sock)
        ngx.log(ngx.INFO, "frame: ", first, " ", payload, " ", key and not keys[key])
        keys[key] = true
    end
--- response_body
--- grep_error_log eval: qr/(?<=frame: ).*?(?=, client: )/
--- grep_error_log_out
129 text true
130  true
137 p true
138  true
1 a true
0  true
128  true



=== TEST 3: fragments, pings and pongs of the server
--- client
    local ws = connect()
    say(ws:recv())
    say(ws:recv(10))
    ws:shutdown()
--- server
    answer("", "\1\1a", "\137\2p1", "\0\1b", "\138\0", "\137\0", "\128\1c")
    t.post("pongs")
    for _ = 1, 2 do
        local first, payload = t.receive(sock)
        ngx.log(ngx.INFO, "frame: ", first, " ", payload)
    end
    t.drain(sock)
--- response_body
"abc" "text"
nil "timeout"
--- grep_error_log eval: qr/(?<=frame: ).*?(?=, client: )/
--- grep_error_log_out
138 p1
138 



=== TEST 4: byte by byte
--- client
    local ws = connect()
    say(ws:recv())
    say(ws:recv())
    ws:shutdown()
--- server
    answer()
    for byte in ("\1\5one, \128\3two\130\126\0\1261234"):gmatch(".") do
        sock:send(byte)
        ngx.sleep(0.001)
    end
    sock:send(("x"):rep(122))
    t.drain(sock)
--- response_body eval
qq{"one, two" "text"\n"1234} . 'x' x 122 . qq{" "binary"\n}



=== TEST 5: a time-out, and the same object goes on
--- client
    local ws = connect()
    say(ws:recv(10))
    say(ws:recv(0))
    say(ws:state())
    t.post("go")
    say(ws:recv())
    ws:shutdown()
--- server
    answer("", "\129\5he")
    t.wait("go")
    sock:send("llo")
    t.drain(sock)
--- response_body
nil "timeout"
nil "timeout"
"open"
"hello" "text"



=== TEST 6: messages() until the server closes
--- client
    local ws = connect()
    for data, typ in ws:messages() do say(data, typ) end
    say(ws:close_info())
--- server
    answer("", "\129\1a\130\1b\136\5\3\233bye")
    local first, payload, key = t.receive(sock)
    assert(first == 136 and payload == "\3\233" and key)
--- response_body
"a" "text"
"b" "binary"
1001 "bye" true



=== TEST 7: the option timeout is how long recv() waits
--- client
    local ws = connect { timeout = 500 }
    say(ws:recv())
    ws:shutdown()
--- server
    answer()
    t.drain(sock)
--- response_body
nil "timeout"



=== TEST 8: close: the server echoes, and closes TCP
--- accept
    ngx.log(ngx.INFO, "server: ", table.concat({ tostring((ws:recv())), ws:close_info() }, " ", 1, 3))
--- client
    local ws = connect({}, "/ws")
    say(ws:close(3000, "why"))
    say(ws:state())
    say(ws:close_info())
--- response_body
true
"closed"
3000 "" true
--- grep_error_log eval: qr/(?<=server: ).*?(?=, client: )/
--- grep_error_log_out
nil 3000 why



=== TEST 9: close: the server does not answer
--- client
    local ws = connect()
    say(ws:close(1000, "", 30))
    say(ws:state())
    say(ws:close_info())
--- server
    answer()
    t.drain(sock)
--- response_body
nil "timeout"
"closed"
1006 "closed" false



=== TEST 10: close: the server goes on sending and then answers
--- client
    local ws = connect()
    say(ws:close())
    say(ws:close_info())
--- server
    answer()
    t.receive(sock)
    sock:send("\129\4late\137\1p\136\2\3\232")
--- response_body
true
1000 "" true



=== TEST 11: close codes that must not be sent
--- client
    local ws = connect({}, "/ws")
    for _, code in ipairs { 1004, 1005, 1006, 1015, 5000 } do
        say((select(2, pcall(ws.close, ws, code))))
    end
    say(ws:state())
    ws:shutdown()
--- response_body
"bad "code" argument: not a close code that may be sent"
"bad "code" argument: not a close code that may be sent"
"bad "code" argument: not a close code that may be sent"
"bad "code" argument: not a close code that may be sent"
"bad "code" argument: not a close code that may be sent"
"open"



=== TEST 12: the server goes away
--- client
    local ws = connect()
    say(ws:recv())
    say(ws:close_info())
    say(ws:recv())
    say(ws:send("x"))
--- server: answer("", "\129\3ha")
--- response_body
nil "connection lost" 1006 "connection lost"
1006 "connection lost" false
nil "connection lost" 1006 "connection lost"
nil "closed"



=== TEST 13: shutdown
--- client
    local ws = connect()
    ws:shutdown()
    say(ws:state())
    say(ws:recv())
    say(ws:send("x"))
    say(ws:close())
    say(ws:close_info())
--- server
    answer()
    local data, err = sock:receive(1)
    assert(not data and err == "closed")
--- response_body
"closed"
nil "closed" 1006 "closed"
nil "closed"
true
1006 "closed" false



=== TEST 14: a masked frame
--- bytes: "\129\129\0\0\0\0x"
--- broken: 1002 frame masked masking



=== TEST 15: RSV1 without an extension
--- bytes: "\193\1x"
--- broken: 1002 bad RSV1, RSV2, or RSV3 bits rsv



=== TEST 16: RSV2 with compression
--- offered: { compression = true }
--- bytes: "\225\1x"
--- broken: 1002 bad RSV1, RSV2, or RSV3 bits rsv



=== TEST 17: a reserved opcode
--- bytes: "\131\0"
--- broken: 1002 reserved non-control frames opcode



=== TEST 18: a reserved control opcode
--- bytes: "\143\0"
--- broken: 1002 reserved control frames opcode



=== TEST 19: a fragmented ping
--- bytes: "\9\0"
--- broken: 1002 fragmented control frame control



=== TEST 20: a ping too long
--- bytes: "\137\126\0\126" .. ("x"):rep(126)
--- broken: 1002 too long payload for control frame control



=== TEST 21: a continuation of nothing
--- bytes: "\128\0"
--- broken: 1002 continuation without a message sequence



=== TEST 22: a message inside another
--- bytes: "\1\0\129\0"
--- broken: 1002 new message inside a fragmented one sequence



=== TEST 23: a length not in its shortest form
--- bytes: "\129\126\0\1x"
--- broken: 1002 payload len not in its shortest form length



=== TEST 24: a bad close code
--- bytes: "\136\2\3\237"
--- broken: 1002 bad close code close



=== TEST 25: a close frame of one byte
--- bytes: "\136\1\3"
--- broken: 1002 close frame with a body must carry a 2-byte status code close



=== TEST 26: text that is not UTF-8, before its frame has ended
--- bytes: "\129\5ab\255"
--- broken: 1007 invalid utf-8 utf8



=== TEST 27: a message over the limit
--- offered: { max_message_size = 3 }
--- bytes: "\2\2ab\128\2cd"
--- broken: 1009 exceeding max message len message_size



=== TEST 28: a frame over the limit, by its header alone
--- offered: { max_message_size = "1k", max_frame_size = 3 }
--- bytes: "\130\4"
--- broken: 1009 exceeding max payload len frame_size



=== TEST 29: bad compressed data
--- offered: { compression = true }
--- bytes: "\193\4\255\255\255\255"
--- broken: 1007 bad compressed data compression



=== TEST 30: a server that breaks a rule and goes on sending does not hold the client
--- client
    local ws = connect()
    local began = ngx.now()
    say(ws:recv())
    ngx.update_time()
    say(ngx.now() - began < 2)
--- server
    answer("", "\131\0")
    local sent
    repeat
        sent = sock:send(("x"):rep(1000))
        ngx.sleep(0.002)
    until not sent
--- response_body
nil "reserved non-control frames" 1002 "reserved non-control frames"
true
--- timeout: 10



=== TEST 31: heartbeat: pings while recv() waits, answered by our own server
--- client
    local ws = connect({ ping_interval = 20, ping_timeout = 20000 }, "/ws")
    local before, data, err = websocket.info().pings_sent
    repeat
        data, err = ws:recv(100)
    until err ~= "timeout" or websocket.info().pings_sent - before >= 3
    say(data, err)
    say(ws:state())
    ws:shutdown()
--- response_body
nil "timeout"
"open"



=== TEST 32: heartbeat: a dead server is given up in time
--- client
    local ws = connect { ping_interval = 30, ping_timeout = 50 }
    local began = ngx.now()
    say(ws:recv())
    ngx.update_time()
    local took = ngx.now() - began
    say(took >= 0.075)
    say(ws:close_info())
    say(ws:state())
--- server
    answer()
    local first, payload, key = t.receive(sock)
    assert(first == 137 and payload == "" and key)
    t.drain(sock)
--- response_body
nil "ping timeout" 1006 "ping timeout"
true
1006 "ping timeout" false
"closed"



=== TEST 33: heartbeat by directives
--- directives
    websocket_ping_interval 20ms;
    websocket_ping_timeout 20ms;
--- client
    local ws = connect()
    say(ws:recv())
--- server
    answer()
    t.drain(sock)
--- response_body
nil "ping timeout" 1006 "ping timeout"



=== TEST 34: limits by directives
--- directives: websocket_max_message_size 3;
--- client
    local ws = connect()
    say(ws:recv())
    say(ws:recv())
--- server
    answer("", "\129\3abc\129\4abcd")
    t.drain(sock)
--- response_body
"abc" "text"
nil "exceeding max payload len" 1009 "exceeding max payload len"



=== TEST 35: compression both ways
--- options: { compression = { threshold = 0 } }
--- accept
    for data, typ in ws:messages() do ws:send(data, typ) end
--- client
    local ws = connect({ compression = { threshold = 0 } }, "/ws")
    say(ws.extensions)
    local data = ("all work and no play "):rep(10000)
    say(ws:send(data) < 2000)
    say(ws:send(data) < 2000)
    say((ws:recv()) == data, (ws:recv()) == data)
    say(ws:close())
--- response_body
"permessage-deflate"
true
true
true true
true



=== TEST 36: compression without context, with small windows, from the client's side
--- options: { compression = { threshold = 0 } }
--- client
    local ws = connect({ compression = { threshold = 0, client_no_context_takeover = true, server_no_context_takeover = true, server_max_window_bits = 9, client_max_window_bits = 9 } }, "/ws")
    say(ws.extensions)
    for n = 1, 50 do
        local data = ("line " .. n .. " of a text, "):rep(n * 20)
        ws:send(data)
        assert(ws:recv() == data)
    end
    say(ws:close())
--- response_body
"permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9; client_max_window_bits=9"
true



=== TEST 37: a bomb of a server
--- options: { compression = { level = 9 }, max_message_size = "8m" }
--- accept: ws:send(("\0"):rep(2^23), "binary") ngx.log(ngx.INFO, "server: ", (select(2, ws:recv())), " ", (ws:close_info()))
--- client
    local ws = connect({ compression = true, max_message_size = "1m" }, "/ws")
    say(ws:recv())
--- response_body
nil "exceeding max message len" 1009 "exceeding max message len"
--- grep_error_log eval: qr/(?<=server: ).*?(?=, client: )/
--- grep_error_log_out
closed 1009



=== TEST 38: one light thread reads, another writes
--- client
    local ws = connect({}, "/ws")
    local reader = ngx.thread.spawn(function()
        for n = 1, 200 do assert(ws:recv() == "message " .. n) end
        return "all read"
    end)
    for n = 1, 200 do assert(ws:send("message " .. n)) end
    say(ngx.thread.wait(reader))
    say(ws:close())
--- response_body
true "all read"
true



=== TEST 39: large messages of several writers while another reads
--- options: { max_message_size = "4m" }
--- client
    local ws = connect({ max_message_size = "4m" }, "/ws")
    local writers, seen = {}, {}
    for w = 1, 4 do
        writers[w] = ngx.thread.spawn(function()
            for n = 1, 3 do assert(ws:send(w .. ("x"):rep(2^18 * w), "binary")) end
        end)
    end
    for _ = 1, 12 do
        local data = assert(ws:recv())
        local w = tonumber(data:sub(1, 1))
        assert(data == w .. ("x"):rep(2^18 * w))
        seen[w] = (seen[w] or 0) + 1
    end
    for w = 1, 4 do ngx.thread.wait(writers[w]) end
    say(unpack(seen))
    say(ws:close())
--- response_body
3 3 3 3
true
--- timeout: 20



=== TEST 40: two receivers
--- client
    local ws = connect({}, "/ws")
    local first = ngx.thread.spawn(function() return ws:recv() end)
    say(ws:recv())
    ws:send("for the first")
    say(ngx.thread.wait(first))
    say(ws:close())
--- response_body
nil "socket busy reading"
true "for the first" "text"
true



=== TEST 41: close() while another light thread receives
--- client
    local ws = connect({}, "/ws")
    local reader = ngx.thread.spawn(function() return ws:recv() end)
    say(ws:close(4000))
    say(ws:state())
    say(ngx.thread.wait(reader))
--- response_body
true
"closed"
true nil "closed" 4000 ""



=== TEST 42: close() while another light thread receives and the server does not answer
--- client
    local ws = connect()
    local reader = ngx.thread.spawn(function() return ws:recv(200) end)
    say(ws:close(4000, "", 20))
    say(ws:state())
    say(ngx.thread.wait(reader))
--- server
    answer()
    t.drain(sock)
--- response_body
nil "timeout"
"closed"
true nil "closed" 1006 "closed"



=== TEST 43: a slow server: writers wait above the high-water mark
--- client
    local ws = connect { send_timeout = 5000 }
    local first = ngx.thread.spawn(function() return ws:send(("a"):rep(2^23), "binary") end)
    local sent, most = 0, 0
    local second = ngx.thread.spawn(function()
        for n = 1, 100 do
            assert(ws:send(("b"):rep(100000), "binary"))
            most = math.max(most, ws:buffered())
        end
        return "all sent"
    end)
    t.post("read")
    say(ngx.thread.wait(first))
    say(ngx.thread.wait(second))
    say(most < 600000)
    ws:shutdown()
--- server
    answer()
    t.wait("read")
    t.drain(sock)
--- response_body
true 8388622
true "all sent"
true
--- timeout: 20



=== TEST 44: a server that does not read: the send fails after its time-out
--- client
    local ws = connect { send_timeout = 100 }
    local ok, err
    repeat
        ok, err = ws:send(("a"):rep(2^20), "binary")
    until not ok
    say(err)
    say(ws:state())
    t.post("over")
--- server
    answer()
    t.wait("over")
--- response_body
"timeout"
"closed"
--- timeout: 20



=== TEST 45: streams, and what is refused while one is open
--- client
    local ws = connect({}, "/ws")
    local writer = ws:send_stream("text")
    say(ws:send("no"))
    say(writer:write("\226\130"))
    say(writer:write("x"))
    say(ws:ping())
    say(writer:write("\172"))
    say(writer:finish())
    say(writer:finish())
    say(#ws:recv())
    say(ws:send("\255"))
    say(ws:close())
--- response_body
nil "a stream is being sent"
8
nil "invalid utf-8"
6
7
6
nil "stream finished"
3
nil "invalid utf-8"
true



=== TEST 46: messages in one packet with the end are answered before it
--- client
    local ws = connect()
    for data in ws:messages() do
        say(ws:send("re: " .. data))
    end
    say(ws:close_info())
--- server
    answer("", "\129\3one\129\3two\177\3bad\129\5three")
    for _, expected in ipairs { "re: one", "re: two", "\3\234bad RSV1, RSV2, or RSV3 bits" } do
        local first, payload = t.receive(sock)
        assert(payload == expected, payload)
    end
--- response_body
13
13
1002 "bad RSV1, RSV2, or RSV3 bits" false
--- info
websocket peer broke a rule: bad RSV1, RSV2, or RSV3 bits (rsv)



=== TEST 47: recv(0) takes what has come
--- client
    local ws = connect()
    say(ws:recv(0))
    ws:send("now")
    local data, typ
    repeat
        data, typ = ws:recv(0)
    until data or typ ~= "timeout"
    say(data, typ)
    say(ws:recv())
    say(ws:close_info())
--- server
    answer("")
    assert(select(2, t.receive(sock)) == "now")
    sock:send("\129\4here\136\0")
--- response_body
nil "timeout"
"here" "text"
nil "closed" 1005 ""
1005 "" true
