# What goes out by send(), send_stream(), ping() and pong(): the frames, the results, what is refused
# before a byte is sent, and that nothing interleaves. Slow readers are in back-pressure.t.

use Test::Nginx::Socket::Lua;
use t::Message;

add_block_preprocessor(sub { complete_message_block(@_) });
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: text is the default; results are bytes on the wire
--- handler
    report(ws:send("text"))
    report(ws:send("text", "text"))
    report(ws:send("\0\255", "binary"))
    report(ws:send(""))
    report(ws:send("", "binary"))
    report(ws:send(42))
--- frames eval
qq{text "text"\ntext "text"\nbinary } . ::brief("\0\xff") . qq{\ntext ""\nbinary ""\ntext "42"\nclose 1000 ""\n}
--- results
6
6
4
2
2
4



=== TEST 2: every class of length
--- handler
    local all = {}
    for b = 0, 255 do all[#all + 1] = string.char(b) end
    all = table.concat(all) .. table.concat(all, "", 2, 251)
    for _, n in ipairs { 125, 126, 65535, 65536, 1048576, 16777216 } do
        report(ws:send(all:rep(math.floor(n / 506)) .. all:sub(1, n % 506), "binary"))
    end
--- frames eval
use bytes;
sub part { my $n = shift; my $all = CORE::join('', map { chr } 0 .. 255) . CORE::join('', map { chr } 1 .. 250); $all x int($n / 506) . substr $all, 0, $n % 506 }
(CORE::join '', map { 'binary ' . ::brief(part($_)) . "\n" } 125, 126, 65535, 65536, 1048576, 16777216) . qq{close 1000 ""\n}
--- results
127
130
65539
65546
1048586
16777226
--- timeout: 20



=== TEST 3: text that is not UTF-8 is refused, and the connection goes on
--- handler
    for _, bad in ipairs { "\255", "\192\128", "\237\160\128", "\244\144\128\128", "\226\130", "ok\128" } do
        report(ws:send(bad))
    end
    report(ws:send("\226\130", "binary"))
    report(ws:send("\226\130\172"))
--- frames eval
'binary ' . ::brief("\xe2\x82") . "\ntext " . ::brief("\xe2\x82\xac") . qq{\nclose 1000 ""\n}
--- results
nil "invalid utf-8"
nil "invalid utf-8"
nil "invalid utf-8"
nil "invalid utf-8"
nil "invalid utf-8"
nil "invalid utf-8"
4
5



=== TEST 4: a large text with its last byte wrong
--- handler
    report(ws:send(("x"):rep(200000) .. "\255"))
    report(ws:buffered())
--- frames
close 1000 ""
--- results
nil "invalid utf-8"
0



=== TEST 5: a message in fragments
--- handler
    local writer = ws:send_stream("text")
    report(writer:write("one "))
    report(writer:write(""))
    report(writer:write(2))
    report(writer:finish())
    writer = ws:send_stream("binary")
    report(writer:write("\255"))
    report(writer:finish())
--- frames eval
qq{text ... "one "\ncontinuation ... ""\ncontinuation ... "2"\ncontinuation ""\nbinary ... } . ::brief("\xff") . qq{\ncontinuation ""\nclose 1000 ""\n}
--- results
6
2
3
2
3
2



=== TEST 6: a stream of nothing is an empty message; the type is text by default
--- handler
    report(ws:send_stream():finish())
    report(ws:send_stream("binary"):finish())
--- frames
text ""
binary ""
close 1000 ""
--- results
2
2



=== TEST 7: during a stream other messages are refused, control frames go between
--- handler
    local writer = ws:send_stream("text")
    report(ws:send("no"))
    report(ws:send_stream("text"))
    writer:write("a")
    report(ws:send("no", "binary"))
    report(ws:ping("p"))
    writer:write("b")
    report(ws:pong("q"))
    report(writer:finish())
    report(ws:send("yes"))
--- frames
text ... "a"
ping "p"
continuation ... "b"
pong "q"
continuation ""
text "yes"
close 1000 ""
--- results
nil "a stream is being sent"
nil "a stream is being sent"
nil "a stream is being sent"
3
3
2
5



=== TEST 8: a ping of the peer is answered between fragments
--- client
    local p = peer.connect()
    say(p:receive())
    p:send(peer.frame(0x89, "now"))
    say(p:receive())
    go:post()
    say(p:receive())
    p:close()
--- http_config
    init_by_lua_block { go = require("ngx.semaphore").new() }
--- handler
    local writer = ws:send_stream("text")
    writer:write("a")
    go:wait(5)
    writer:finish()
--- response_body
1 "a"
138 "now"
128 ""



=== TEST 9: a finished stream takes nothing more
--- handler
    local writer = ws:send_stream("text")
    writer:finish()
    report(writer:write("x"))
    report(writer:finish())
--- frames
text ""
close 1000 ""
--- results
nil "stream finished"
nil "stream finished"



=== TEST 10: the writer of a finished stream cannot write into the next one
--- handler
    local old = ws:send_stream("text")
    old:finish()
    local new = ws:send_stream("binary")
    report(old:write("x"))
    report(old:finish())
    report(new:write("y"))
    report(new:finish())
--- frames
text ""
binary ... "y"
continuation ""
close 1000 ""
--- results
nil "stream finished"
nil "stream finished"
3
2



=== TEST 11: characters cut between chunks are valid text
--- handler
    local writer = ws:send_stream("text")
    for byte in ("\226\130\172\240\159\152\128"):gmatch(".") do
        report(writer:write(byte))
    end
    report(writer:finish())
--- frames eval
qq{text ... } . ::brief("\xe2") . "\n" . (CORE::join '', map { 'continuation ... ' . ::brief($_) . "\n" } "\x82", "\xac", "\xf0", "\x9f", "\x98", "\x80") . qq{continuation ""\nclose 1000 ""\n}
--- results
3
3
3
3
3
3
3
2



=== TEST 12: a chunk that cannot become valid is refused and leaves the stream as it was
--- handler
    local writer = ws:send_stream("text")
    report(writer:write("\226\130"))
    report(writer:write("x"))
    report(writer:write("\172\255"))
    report(writer:finish())
    report(writer:write("\172"))
    report(writer:finish())
--- frames eval
qq{text ... } . ::brief("\xe2\x82") . "\ncontinuation ... " . ::brief("\xac") . qq{\ncontinuation ""\nclose 1000 ""\n}
--- results
4
nil "invalid utf-8"
nil "invalid utf-8"
nil "invalid utf-8"
3
2



=== TEST 13: pings and pongs
--- handler
    report(ws:ping())
    report(ws:ping("data"))
    report(ws:ping(7))
    report(ws:pong())
    report(ws:pong(("x"):rep(125)))
    report(ws:ping("\0\255"))
--- frames eval
qq{ping ""\nping "data"\nping "7"\npong ""\npong } . ::brief("x" x 125) . "\nping " . ::brief("\0\xff") . qq{\nclose 1000 ""\n}
--- results
2
6
3
2
127
4



=== TEST 14: wrong arguments
--- handler
    local writer = ws:send_stream("text")
    local function try(f, ...)
        local ok, err = pcall(f, ...)
        report(ok, (tostring(err):gsub("^content_by_lua%b():%d+: ", "here: "):gsub("^[^:]*:%d+: ", "")))
    end
    try(function(...) ws:send(...) return 1 end)
    try(function(...) ws:send(...) return 1 end, true)
    try(function(...) ws:send(...) return 1 end, {})
    try(function(...) ws:send(...) return 1 end, "x", "ping")
    try(function(...) ws:send(...) return 1 end, "x", 1)
    try(function(...) ws:send_stream(...) return 1 end, "continuation")
    try(function(...) writer:write(...) return 1 end)
    try(function(...) writer:write(...) return 1 end, {})
    try(function(...) ws:ping(...) return 1 end, ("x"):rep(126))
    try(function(...) ws:pong(...) return 1 end, ("x"):rep(126))
    try(function(...) ws:ping(...) return 1 end, {})
    try(function(...) ws:ping(...) return 1 end, false)
--- frames
close 1000 ""
--- results
false "here: bad "data" argument: string expected, got nil"
false "here: bad "data" argument: string expected, got boolean"
false "here: bad "data" argument: string expected, got table"
false "here: bad "type" argument: "text" or "binary" expected"
false "here: bad "type" argument: "text" or "binary" expected"
false "here: bad "type" argument: "text" or "binary" expected"
false "here: bad "chunk" argument: string expected, got nil"
false "here: bad "chunk" argument: string expected, got table"
false "here: bad "data" argument: longer than 125 bytes"
false "here: bad "data" argument: longer than 125 bytes"
false "here: bad "data" argument: string expected, got table"
false "here: bad "data" argument: string expected, got boolean"



=== TEST 15: several senders never interleave
--- client
    local p = peer.connect()
    local last, seen = {}, 0
    for _ = 1, 200 do
        local first, data = p:receive()
        local t, n, rest = data:match("^(%d+) (%d+) (x*)$")
        assert(first == 0x81 and tonumber(n) == (last[t] or 0) + 1 and #rest == 2000 * (tonumber(n) % 7))
        last[t] = tonumber(n)
        seen = seen + 1
    end
    say(seen)
    p:close()
--- handler
    local threads = {}
    for t = 1, 10 do
        threads[t] = ngx.thread.spawn(function()
            for n = 1, 20 do
                assert(ws:send(t .. " " .. n .. " " .. ("x"):rep(2000 * (n % 7))))
                if (t + n) % 3 == 0 then ngx.sleep(0.001) end
            end
        end)
    end
    for t = 1, 10 do assert(ngx.thread.wait(threads[t])) end
    report("sent")
--- response_body
200
--- results
"sent"



=== TEST 16: sent from another request of the worker, while the handler receives
--- client
    local p = peer.connect()
    ready:wait(5)
    say(other.ws:send("pushed"))
    say(p:receive())
    p:send(peer.frame(0x81, "back"))
    say(p:receive())
    p:close()
--- http_config
    init_by_lua_block {
        ready, other = require("ngx.semaphore").new(), {}
    }
--- handler
    other.ws = ws
    ready:post()
    ws:send("echo " .. ws:recv())
--- response_body
8
129 "pushed"
129 "echo back"



=== TEST 17: sends after our close frame, after the peer's, and after the connection is lost
--- handler
    local writer = ws:send_stream("text")
    ws:close(1000, "", 1)
    report(writer:write("x"))
    report(writer:finish())
    report(ws:send("x"))
    report(ws:ping())
    report(ws:pong())
    report(ws:send_stream("text"))
--- frames
close 1000 ""
--- results
nil "closed"
nil "closed"
nil "closed"
nil "closed"
nil "closed"
nil "closed"



=== TEST 18: what was sent before the handler's end arrives
--- handler
    for n = 1, 3 do ws:send(("x"):rep(100000)) end
    report("over")
--- frames eval
(CORE::join '', ('text ' . ::brief("x" x 100000) . "\n") x 3) . qq{close 1000 ""\n}
--- results
"over"



=== TEST 19: buffered() counts what the kernel has not taken
--- handler
    report(ws:buffered())
    ws:send("12345")
    report(ws:buffered())
    ngx.sleep(0.01)
    report(ws:buffered())
--- frames
text "12345"
close 1000 ""
--- results
0
7
0
