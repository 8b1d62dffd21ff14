# Time-outs of reading: what they are called at every point of a frame, that none of them is fatal
# nor loses a byte, where their length comes from, and set_timeout(). With them the ends of a
# connection that recv_frame() reports: FIN and RST, which are fatal.

use Test::Nginx::Socket::Lua;
use t::Wire;

add_block_preprocessor(sub { complete_block(@_) });
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: nothing came; then something does
--- options: { timeout = 20 }
--- handler
    report(wb:recv_frame())
    report(wb.fatal)
    wb:send_text("waiting")
    wb:set_timeout(5000)
    report(wb:recv_frame())
--- client
    local p = peer.connect()
    peer.say(p:receive())
    p:send(peer.frame(0x81, "here"))
    peer.say(p:rest())
--- response_body
129 "waiting"
"" "closed"
--- results
nil nil "failed to receive the first 2 bytes: timeout"
nil
"here" "text" nil



=== TEST 2: at every point of a frame, after which the rest comes and the frame is whole
--- options: { timeout = 15, max_payload_len = 100000 }
--- handler
    report(wb:recv_frame())
    wb:set_timeout(5000)
    wb:send_text("go on")
    report(wb:recv_frame())
--- client
    local short, medium = peer.frame(0x81, "abc"), peer.frame(0x82, ("m"):rep(300))
    local long, empty = peer.frame(0x82, ("l"):rep(66000)), peer.frame(0x89, "")
    for _, case in ipairs({
        { short, 1 }, { short, 2 }, { short, 5 }, { short, 6 }, { short, 8 }, { empty, 3 },
        { medium, 2 }, { medium, 3 }, { medium, 4 }, { medium, 307 },
        { long, 2 }, { long, 9 }, { long, 10 }, { long, 14 }, { long, 30000 }, { long, 66013 },
    }) do
        local frame, cut = case[1], case[2]
        local p = peer.connect(frame:sub(1, cut))
        local _, word = p:receive()
        assert(word == "go on")
        p:send(frame:sub(cut + 1))
        peer.say(p:rest())
    end
--- response_body eval
"\"\" \"closed\"\n" x 16
--- results eval
my $first = 'nil nil "failed to receive the first 2 bytes: timeout"' . "\n";
my $body = 'nil nil "failed to read masking-len and payload: timeout"' . "\n";
my $two = 'nil nil "failed to receive the 2 byte payload length: timeout"' . "\n";
my $eight = 'nil nil "failed to receive the 8 byte payload length: timeout"' . "\n";
my $short = "\"abc\" \"text\" nil\n";
my $medium = ::brief("m" x 300) . " \"binary\" nil\n";
my $long = ::brief("l" x 66000) . " \"binary\" nil\n";
"$first$short" . "$body$short" x 4 . "$body\"\" \"ping\" nil\n" . "$two$medium" x 2
. "$body$medium" x 2 . "$eight$long" x 2 . "$body$long" x 4



=== TEST 3: several time-outs within one frame
--- options: { timeout = 10 }
--- handler
    for _ = 1, 3 do
        report(wb:recv_frame())
    end
    wb:send_text("go on")
    repeat
        local data, typ, err = wb:recv_frame()
        if data then
            report(data, typ, err)
        end
    until data
--- client
    local frame = peer.frame(0x82, "whole after all")
    local p = peer.connect(frame:sub(1, 9))
    p:receive()
    p:send(frame:sub(10))
    peer.say(p:rest())
--- response_body
"" "closed"
--- results
nil nil "failed to read masking-len and payload: timeout"
nil nil "failed to read masking-len and payload: timeout"
nil nil "failed to read masking-len and payload: timeout"
"whole after all" "binary" nil



=== TEST 4: sending works between the time-out in a frame and its rest
--- options: { timeout = 10 }
--- handler
    report(wb:recv_frame())
    wb:set_timeout(5000)
    report(wb:send_ping("there?"))
    report(wb:recv_frame())
    report(wb:recv_frame())
--- client
    local frame = peer.frame(0x81, "long text")
    local p = peer.connect(frame:sub(1, 7))
    peer.say(p:receive())
    p:send(frame:sub(8) .. peer.frame(0x8a, "here"))
    peer.say(p:rest())
--- response_body
137 "there?"
"" "closed"
--- results
nil nil "failed to read masking-len and payload: timeout"
8 nil
"long text" "text" nil
"here" "pong" nil



=== TEST 5: the limit in force when a frame's header came holds for its rest
--- options: { timeout = 10 }
--- handler
    report(wb:recv_frame())
    wb.max_recv_len = 1
    wb:set_timeout(5000)
    wb:send_text("go on")
    report(wb:recv_frame())
    report(wb:recv_frame())
--- client
    local frame = peer.frame(0x81, "more than one")
    local p = peer.connect(frame:sub(1, 8))
    p:receive()
    p:send(frame:sub(9) .. peer.frame(0x81, "ab"))
    peer.say(p:rest())
--- response_body
"" "closed"
--- results
nil nil "failed to read masking-len and payload: timeout"
"more than one" "text" nil
nil nil "exceeding max payload len"



=== TEST 6: the timeout option
--- options: { timeout = 30 }
--- handler
    local from = ngx.now()
    report(wb:recv_frame())
    ngx.update_time()
    local took = ngx.now() - from
    report(took >= 0.029 and took < 2 or took)
--- client
    peer.say(peer.connect():rest())
--- response_body
"" "closed"
--- results
nil nil "failed to receive the first 2 bytes: timeout"
true



=== TEST 7: lua_socket_read_timeout, without an option
--- directives
    lua_socket_read_timeout 30ms;
--- handler
    report(wb:recv_frame())
--- client
    peer.say(peer.connect():rest())
--- response_body
"" "closed"
--- results
nil nil "failed to receive the first 2 bytes: timeout"



=== TEST 8: an option of 0, or of less than a millisecond, stands for the directive
--- directives
    lua_socket_read_timeout 30ms;
--- handler
    for _, timeout in ipairs({ 0, 0.9 }) do
        -- Ten seconds are over the client's patience, 30 ms are not.
        wb:set_timeout(10000)
        wb:set_timeout(timeout)
        local from = ngx.now()
        report(wb:recv_frame())
        ngx.update_time()
        report(ngx.now() - from >= 0.029)
    end
--- client
    peer.say(peer.connect():rest())
--- response_body
"" "closed"
--- results
nil nil "failed to receive the first 2 bytes: timeout"
true
nil nil "failed to receive the first 2 bytes: timeout"
true



=== TEST 9: so does the option of new()
--- directives
    lua_socket_read_timeout 30ms;
--- options: { timeout = tonumber(ngx.var.arg_timeout) }
--- handler
    local from = ngx.now()
    report(wb:recv_frame())
    ngx.update_time()
    report(ngx.now() - from >= 0.029)
--- client
    peer.say(peer.connect("", "/ws?timeout=0"):rest())
    peer.say(peer.connect("", "/ws?timeout=0.9"):rest())
--- response_body
"" "closed"
"" "closed"
--- results
nil nil "failed to receive the first 2 bytes: timeout"
true
nil nil "failed to receive the first 2 bytes: timeout"
true



=== TEST 10: the option wins over the directive
--- directives
    lua_socket_read_timeout 1ms;
    lua_socket_send_timeout 1ms;
--- options: { timeout = 5000 }
--- handler
    report(wb:recv_frame())
--- client
    local p = peer.connect()
    ngx.sleep(0.02)
    p:send(peer.frame(0x81, "late, but in time"))
    peer.say(p:rest())
--- response_body
"" "closed"
--- results
"late, but in time" "text" nil



=== TEST 11: set_timeout() without a value goes back to the directive
--- directives
    lua_socket_read_timeout 20ms;
--- options: { timeout = 10000 }
--- handler
    wb:set_timeout()
    report(wb:recv_frame())
    wb:set_timeout(10000)
    wb:set_timeout(nil)
    report(wb:recv_frame())
--- client
    peer.say(peer.connect():rest())
--- response_body
"" "closed"
--- results
nil nil "failed to receive the first 2 bytes: timeout"
nil nil "failed to receive the first 2 bytes: timeout"



=== TEST 12: what set_timeout() returns
--- handler
    report(select("#", wb:set_timeout(100)))
    report(select("#", wb:set_timeout()))
    local bare = setmetatable({}, getmetatable(wb))
    report(select("#", bare:set_timeout(100)), bare:set_timeout(100))
--- response_body
--- results
0
0
3 nil nil "not initialized yet"



=== TEST 13: values that set_timeout() refuses
--- handler
    for _, value in ipairs({ -1, -0.5, 2147483648, math.huge, 0 / 0, "soon", true, {} }) do
        local ok, err = pcall(function ()
            wb:set_timeout(value)
        end)
        report(ok, err:match("^content_by_lua%b():%d+: (.*)$"))
    end
    wb:set_timeout(2147483647)
    report(wb:recv_frame())
--- send eval: ::masked(0x81, "x")
--- response_body
--- results
false "bad timeout value"
false "bad timeout value"
false "bad timeout value"
false "bad timeout value"
false "bad timeout value"
false "bad timeout value: number expected, got string"
false "bad timeout value: number expected, got boolean"
false "bad timeout value: number expected, got table"
"x" "text" nil



=== TEST 14: the time counts from the last byte, not from the call
--- options: { timeout = 250 }
--- handler
    report(wb:recv_frame())
--- client
    local frame = peer.frame(0x81, "slow typing")
    local p = peer.connect()
    for i = 1, #frame do
        ngx.sleep(0.02)
        p:send(frame:sub(i, i))
    end
    peer.say(p:rest())
--- response_body
"" "closed"
--- results
"slow typing" "text" nil



=== TEST 15: time passed before the call does not count
--- options: { timeout = 200 }
--- handler
    ngx.sleep(0.25)
    wb:send_text("now")
    report(wb:recv_frame())
--- client
    local p = peer.connect()
    p:receive()
    p:send(peer.frame(0x81, "in time"))
    peer.say(p:rest())
--- response_body
"" "closed"
--- results
"in time" "text" nil



=== TEST 16: a time-out is logged at info, unless lua_socket_log_errors is off
--- options: { timeout = 10 }
--- handler
    report(wb:recv_frame())
--- response_body
--- error_log eval
qr/\[info\] .*lua tcp socket read timed out, client: /
--- no_error_log
[error]
--- results
nil nil "failed to receive the first 2 bytes: timeout"



=== TEST 17: lua_socket_log_errors off
--- directives
    lua_socket_log_errors off;
--- options: { timeout = 10 }
--- handler
    report(wb:recv_frame())
--- response_body
--- no_error_log
timed out,
--- results
nil nil "failed to receive the first 2 bytes: timeout"



=== TEST 18: the peer's FIN between frames
--- handler
    report(wb:recv_frame())
    report(wb:recv_frame())
    report(wb.fatal)
    report(wb:recv_frame())
    report(wb:send_text("x"))
--- send eval: ::masked(0x81, "last")
--- shutdown: 1
--- response_body
--- results
"last" "text" nil
nil nil "failed to receive the first 2 bytes: closed"
true
nil nil "fatal error already happened"
nil "fatal error already happened"



=== TEST 19: FIN at every point of a frame
--- handler
    report(wb:recv_frame())
    report(wb.fatal)
--- client
    local short, medium = peer.frame(0x81, "abc"), peer.frame(0x82, ("m"):rep(300))
    local long = peer.frame(0x82, ("l"):rep(60000)):sub(1, 1) .. "\255\0\0\0\0\0\0\1\44" .. medium:sub(5)
    for _, case in ipairs({
        { short, 1 }, { short, 2 }, { short, 5 }, { short, 6 }, { short, 8 },
        { medium, 2 }, { medium, 3 }, { medium, 4 }, { medium, 307 },
        { long, 2 }, { long, 9 }, { long, 10 }, { long, 313 },
    }) do
        local p = peer.connect(case[1]:sub(1, case[2]))
        p:close()
    end
    ngx.print("left")
--- response_body chop
left
--- results eval
my $first = 'nil nil "failed to receive the first 2 bytes: closed"' . "\ntrue\n";
my $body = 'nil nil "failed to read masking-len and payload: closed"' . "\ntrue\n";
my $two = 'nil nil "failed to receive the 2 byte payload length: closed"' . "\ntrue\n";
my $eight = 'nil nil "failed to receive the 8 byte payload length: closed"' . "\ntrue\n";
$first . $body x 4 . $two x 2 . $body x 2 . $eight x 2 . $body x 2



=== TEST 20: after its FIN the peer can still read
--- handler
    wb:send_text("before")
    report(wb:recv_frame())
    wb.fatal = nil
    report(wb:send_text("after"))
--- send
--- shutdown: 1
--- response_body eval
::plain(0x81, "before") . ::plain(0x81, "after")
--- results
nil nil "failed to receive the first 2 bytes: closed"
7 nil



=== TEST 21: RST between frames, and in the middle of one
--- options: { max_payload_len = 100000 }
--- handler
    -- More than the peer will read, so that its close becomes a reset.
    wb:send_binary(("x"):rep(100000))
    report(wb:recv_frame())
    report(wb:recv_frame())
    report(wb.fatal)
--- client
    for _, more in ipairs({ "", "\129", "\129\131abcde" }) do
        local p = peer.connect()
        p:send(peer.frame(0x81, "last") .. more)
        p.sock:receive(1)
        p:close()
        peer.await_handlers()
    end
    ngx.print("left")
--- response_body chop
left
--- results
"last" "text" nil
nil nil "failed to receive the first 2 bytes: connection reset by peer"
true
"last" "text" nil
nil nil "failed to receive the first 2 bytes: connection reset by peer"
true
"last" "text" nil
nil nil "failed to read masking-len and payload: connection reset by peer"
true
