# Objects of resty.websocket.server and .client answer the calls of resty.websocket too, a message at a
# time in either style; the modules' own tables stay upstream's.

use Test::Nginx::Socket::Lua;
use t::Wire;

add_block_preprocessor(sub {
    my $block = shift;
    if (defined(my $lua = $block->lua)) {
        $block->set_value(request => "GET /lua\n");
        $block->set_value(config => <<"END");
    location = /lua {
        lua_socket_log_errors off;
        content_by_lua_block {
            local peer = require "t.peer"
$lua
        }
    }
    location = /echo {
        content_by_lua_block {
            local ws = require("resty.websocket").accept()
            for data, typ in ws:messages() do
                ws:send(data, typ)
            end
        }
    }
    location = /halves {
        content_by_lua_block {
            local ws = require("resty.websocket").accept()
            local writer = ws:send_stream("text")
            writer:write("in ")
            writer:write("frames")
            writer:finish()
            ws:send("whole")
            writer = ws:send_stream("text")
            writer:write("in ")
            ws:recv()
            writer:write("recv")
            writer:finish()
            ws:send("frame")
            ws:recv()
        }
    }
    location = /slow {
        lua_socket_log_errors off;
        content_by_lua_block {
            local t = require "t.rawpeer"
            local sock = t.enter()
            t.accept(sock, "\\129\\5he")
            t.drain(sock)
            t.leave(true)
        }
    }
END
    }
    complete_block($block);
});
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: the module tables
--- lua
    require "resty.websocket"
    for _, name in ipairs { "server", "client", "protocol" } do
        local names = {}
        for key in pairs(require("resty.websocket." .. name)) do names[#names + 1] = key end
        table.sort(names)
        ngx.say(#names, ": ", table.concat(names, " "))
    end
--- response_body
11: _VERSION new recv_frame send_binary send_close send_continue send_frame send_ping send_pong send_text set_timeout
13: _VERSION close connect new recv_frame send_binary send_close send_frame send_ping send_pong send_text set_keepalive set_timeout
5: _VERSION build_frame new_tab recv_frame send_frame



=== TEST 2: the calls a server object answers, and the fields it has
--- handler
    local names = {}
    for _, name in ipairs { "recv", "messages", "send", "send_stream", "ping", "pong", "close", "shutdown", "close_info", "state", "buffered", "subscribe", "unsubscribe", "topics" } do
        names[#names + 1] = name .. "=" .. type(wb[name])
    end
    report(table.concat(names, " ") == ("recv messages send send_stream ping pong close shutdown close_info state buffered subscribe unsubscribe topics"):gsub("(%S+)", "%1=function"))
    report(wb:state(), wb:buffered())
--- results
true
"open" 0



=== TEST 3: server: messages received and sent
--- client
    local p = peer.connect(peer.frame(0x01, "one ") .. peer.frame(0x89, "ping") .. peer.frame(0x80, "two") .. peer.frame(0x82, ""))
    for _ = 1, 6 do peer.say(p:receive()) end
    p:send(peer.frame(0x88, "\3\232bye"))
    peer.say(p:receive())
    p:close()
--- handler
    report(wb:recv())
    report(wb:recv())
    report(wb:send("text"))
    report(wb:send("0", "binary"))
    report(wb:send("\255"))
    local writer = wb:send_stream("text")
    writer:write("a")
    writer:finish()
    wb:ping("p")
    report(wb:recv())
    report(wb:close_info())
    report(wb.fatal)
--- response_body eval
qq{138 "ping"\n129 "text"\n130 "0"\n1 "a"\n128 ""\n137 "p"\n136 } . ::brief("\x03\xe8") . "\n"
--- results
"one two" "text" nil nil
"" "binary" nil nil
6
3
nil "invalid utf-8"
nil "closed" 1000 "bye"
1000 "bye" true
nil



=== TEST 4: server: frames, then messages, then frames
--- handler
    report(wb:recv_frame())
    report(wb:recv_frame())
    report(wb:recv())
    report(wb:recv_frame())
    report(wb:recv())
--- send eval
::masked(0x81, "frame") . ::masked(0x89, "ping") . ::masked(0x01, "mes") . ::masked(0x80, "sage") . ::masked(0x82, "frame") . ::masked(0x81, "message")
--- response_body
--- results
"frame" "text" nil
"ping" "ping" nil
"message" "text" nil nil
"frame" "binary" nil
"message" "text" nil nil



=== TEST 5: server: recv() after half a message in frames is an error
--- handler
    report(wb:recv_frame())
    report(pcall(wb.recv, wb))
    report(wb:recv_frame())
    report(wb:recv())
--- send eval
::masked(0x01, "half") . ::masked(0x80, "other") . ::masked(0x81, "message")
--- results
"half" "text" "again"
false "frame calls and message calls may not be mixed while a message is half read"
"other" "continuation" nil
"message" "text" nil nil



=== TEST 6: server: recv_frame() after half a message in recv() is an error
--- client
    local p = peer.connect(peer.frame(0x81, "one") .. peer.frame(0x01, "half"))
    peer.say(p:receive())
    p:send(peer.frame(0x80, " and half"))
    peer.say(p:receive())
    p:close()
--- handler
    report(wb:recv())
    report(wb:recv(20))
    report(pcall(wb.recv_frame, wb))
    wb:send_text("go")
    report(wb:recv())
    wb:send_text("on")
--- response_body
129 "go"
129 "on"
--- results
"one" "text" nil nil
nil "timeout" nil nil
false "frame calls and message calls may not be mixed while a message is half read"
"half and half" "text" nil nil



=== TEST 7: server: recv_frame() with half a frame received by recv()
--- client
    local p = peer.connect("\129\133\0\0\0\0he")
    peer.say(p:receive())
    p:send("llo")
    peer.say(p:receive())
    p:close()
--- handler
    report(wb:recv(20))
    report(pcall(wb.recv_frame, wb))
    wb:send_text("go")
    report(wb:recv())
    wb:send_text("on")
--- response_body
129 "go"
129 "on"
--- results
nil "timeout" nil nil
false "frame calls and message calls may not be mixed while a message is half read"
"hello" "text" nil nil



=== TEST 8: server: whole messages that recv() had not taken come as frames
--- handler
    report(wb:recv())
    report(wb:recv_frame())
    report(wb:recv_frame())
--- send eval
::masked(0x81, "one") . ::masked(0x01, "t") . ::masked(0x80, "wo") . ::masked(0x82, "three")
--- results
"one" "text" nil nil
"two" "text" nil
"three" "binary" nil



=== TEST 9: server: the frame API's limit holds for messages
--- options: { max_payload_len = 10 }
--- handler
    report(wb:recv())
    report(wb:recv())
--- send eval
::masked(0x01, "12345") . ::masked(0x80, "67890") . ::masked(0x81, "12345678901")
--- response_body eval
::plain(0x88, "\x03\xf1exceeding max payload len")
--- results
"1234567890" "text" nil nil
nil "exceeding max payload len" 1009 "exceeding max payload len"



=== TEST 10: server: a broken rule is answered in message style, and not in frame style
--- handler
    report(wb:recv())
    report(wb:recv_frame())
    report(wb.fatal)
--- send eval: ::masked(0x83, "")
--- response_body eval
::plain(0x88, "\x03\xeareserved non-control frames")
--- results
nil "reserved non-control frames" 1002 "reserved non-control frames"
nil nil "reserved non-control frames"
true



=== TEST 11: server: close()
--- client
    local p = peer.connect()
    peer.say(p:receive())
    p:send(peer.frame(0x88, "\3\232"))
    peer.say(p:rest())
    p:close()
--- handler
    report(wb:close(4000, "over"))
    report(wb:state())
    report(wb:send_text("x"))
--- response_body eval
qq{136 } . ::brief("\x0f\xa0over") . qq{\n"" "closed"\n}
--- results
true
"closed"
nil "failed to send frame: closed"



=== TEST 12: server: close() in the middle of a message read in frames
--- client
    local p = peer.connect(peer.frame(0x01, "half"))
    peer.say((p:receive()))
    p:send(peer.frame(0x00, "more") .. peer.frame(0x89, "") .. peer.frame(0x88, "\15\161why"))
    peer.say(p:rest())
    p:close()
--- handler
    report(wb:recv_frame())
    report(wb:close())
    report(wb:close_info())
--- response_body
136
"" "closed"
--- results
"half" "text" "again"
true
4001 "why" true



=== TEST 13: server: close() after a time-out of recv_frame() inside a frame
--- options: { timeout = 20 }
--- client
    local p = peer.connect("\129\133\0\0\0\0he")
    peer.say((p:receive()))
    p:send("llo" .. peer.frame(0x88, ""))
    peer.say(p:rest())
    p:close()
--- handler
    report(wb:recv_frame())
    report(wb:close())
    report(wb:close_info())
--- response_body
136
"" "closed"
--- results
nil nil "failed to read masking-len and payload: timeout"
true
1005 "" true



=== TEST 14: server: shutdown()
--- handler
    wb:shutdown()
    report(wb:state())
    report(wb:recv())
--- response_body
--- results
"closed"
nil "closed" 1006 "closed"



=== TEST 15: client: messages received and sent, then frames again
--- lua
    local wb = require("resty.websocket.client"):new()
    assert(wb:connect("ws://127.0.0.1:" .. ngx.var.server_port .. "/echo"))
    local function say(...) peer.say(peer.trimmed(...)) end
    say(wb:state(), wb:buffered())
    say(wb:send("message"))
    say(wb:recv())
    say(wb:send_text("frame"))
    say(wb:recv_frame())
    say(wb:send("message"))
    say(wb:recv(1000))
    local writer = wb:send_stream("binary")
    writer:write("a")
    writer:write("b")
    writer:finish()
    say(wb:recv())
    say(wb:recv(20))
    wb:set_timeout(20)
    say(wb:recv_frame())
    say(wb:close())
--- response_body
"open" 0
13
"message" "text"
11
"frame" "text"
13
"message" "text"
"ab" "binary"
nil "timeout"
nil nil "failed to receive the first 2 bytes: timeout"
1



=== TEST 16: client: mixing styles inside a message, and between messages
--- lua
    local wb = require("resty.websocket.client"):new { timeout = 1000 }
    assert(wb:connect("ws://127.0.0.1:" .. ngx.var.server_port .. "/halves"))
    local function say(...) peer.say(peer.trimmed(...)) end
    say(wb:recv_frame())
    say(select(2, pcall(wb.recv, wb)))
    say(wb:recv_frame())
    say(wb:recv_frame())
    say(wb:recv())
    say(wb:recv(20))
    say(select(2, pcall(wb.recv_frame, wb)))
    wb:send("go on")
    say(wb:recv())
    say(wb:recv_frame())
    wb:shutdown()
--- response_body
"in " "text" "again"
"frame calls and message calls may not be mixed while a message is half read"
"frames" "continuation" "again"
"" "continuation"
"whole" "text"
nil "timeout"
"frame calls and message calls may not be mixed while a message is half read"
"in recv" "text"
"frame" "text"



=== TEST 17: client: time-out of frames inside a frame, then messages
--- lua
    local wb = require("resty.websocket.client"):new { timeout = 30000 }
    assert(wb:connect("ws://127.0.0.1:" .. ngx.var.server_port .. "/slow"))
    wb:set_timeout(20)
    local function say(...) peer.say(peer.trimmed(...)) end
    say(wb:recv_frame())
    say(select(2, pcall(wb.recv, wb)))
    wb:shutdown()
--- response_body
nil nil "failed to read masking-len and payload: timeout"
"frame calls and message calls may not be mixed while a message is half read"



=== TEST 18: client: half a message read in frames after message calls were used
--- lua
    local wb = require("resty.websocket.client"):new { timeout = 1000 }
    assert(wb:connect("ws://127.0.0.1:" .. ngx.var.server_port .. "/halves"))
    local function say(...) peer.say(peer.trimmed(...)) end
    say(wb:state())
    say(wb:recv_frame())
    say((tostring(select(2, pcall(function() local a = wb:recv() end))):gsub("^content_by_lua%b():%d+: ", "here: ")))
    say(wb:send("between"))
    wb:recv_frame()
    wb:recv_frame()
    say(wb:recv())
    say(wb:recv())
    wb:shutdown()
--- response_body
"open"
"in " "text" "again"
81 bytes d5beb8e1ac4cf8f5f899d39df5e3c16f
13
"whole" "text"
"in recv" "text"



=== TEST 19: methods on objects that are not connected
--- lua
    local function try(f, ...)
        local ok, err = pcall(f, ...)
        peer.say(ok, (tostring(err):gsub("^content_by_lua%b():%d+: ", "here: ")))
    end
    for _, name in ipairs { "server", "client" } do
        local module = require("resty.websocket." .. name)
        for _, method in ipairs { "recv", "send", "ping", "state", "shutdown" } do
            local object = setmetatable({}, { __index = module })
            try(function() local a = object[method](object, method == "send" and "x" or nil) end)
        end
    end
--- response_body
false "here: not initialized yet"
false "here: not initialized yet"
false "here: not initialized yet"
false "here: not initialized yet"
false "here: not initialized yet"
false "here: not initialized yet"
false "here: not initialized yet"
false "here: not initialized yet"
false "here: not initialized yet"
false "here: not initialized yet"
