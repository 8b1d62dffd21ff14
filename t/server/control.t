# Ping and pong: they are handed to the program and nothing is answered on its behalf.

use Test::Nginx::Socket::Lua;
use t::Wire;

add_block_preprocessor(sub { complete_block(@_) });
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: a ping is not answered by itself
--- handler
    report(wb:recv_frame())
    report(wb:recv_frame())
    wb:send_text("only this")
--- send eval: ::masked(0x89, "are you there") . ::masked(0x81, "x")
--- response_body eval: ::plain(0x81, "only this")
--- results
"are you there" "ping" nil
"x" "text" nil



=== TEST 2: a pong nobody asked for
--- handler
    report(wb:recv_frame())
    report(wb:recv_frame())
    wb:send_text("only this")
--- send eval: ::masked(0x8a, "here i am") . ::masked(0x81, "x")
--- response_body eval: ::plain(0x81, "only this")
--- results
"here i am" "pong" nil
"x" "text" nil



=== TEST 3: 0, 1 and 125 bytes
--- handler
    for _ = 1, 6 do
        report(wb:recv_frame())
    end
--- send eval
CORE::join "", map { my $len = $_; map { ::masked($_, "p" x $len) } 0x89, 0x8a } 0, 1, 125
--- results eval
CORE::join "", map { my $data = ::brief("p" x $_); "$data \"ping\" nil\n$data \"pong\" nil\n" } 0, 1, 125



=== TEST 4: payloads of any bytes
--- handler
    local data = wb:recv_frame()
    report(data == "\228\189\160\0\255")
    report((wb:send_pong(data)))
--- send eval: ::masked(0x89, "\xe4\xbd\xa0\0\xff")
--- response_body eval: "\x8a\x05\xe4\xbd\xa0\0\xff"
--- results
true
7



=== TEST 5: a handler that answers pings, to a client that waits for each
--- handler
    while true do
        local data, typ = wb:recv_frame()
        if typ == "ping" then
            wb:send_pong(data)
        else
            report(data, typ)
            return
        end
    end
--- client
    local p = peer.connect()
    for i = 0, 125, 25 do
        p:send(peer.frame(0x89, ("p"):rep(i)))
        local first, data = p:receive()
        peer.say(first == 0x8a, #data)
    end
    p:send(peer.frame(0x81, "done"))
    peer.say(p:rest())
--- response_body
true 0
true 25
true 50
true 75
true 100
true 125
"" "closed"
--- results
"done" "text"



=== TEST 6: a handler that asks and waits for the pong
--- handler
    report(wb:send_ping("question"))
    report(wb:recv_frame())
    report(wb:send_ping())
    report(wb:recv_frame())
--- client
    local p = peer.connect()
    for _ = 1, 2 do
        local first, data = p:receive()
        peer.say(first, data)
        p:send(peer.frame(0x8a, data))
    end
    peer.say(p:rest())
--- response_body
137 "question"
137 ""
"" "closed"
--- results
10 nil
"question" "pong" nil
2 nil
"" "pong" nil



=== TEST 7: control frames in the middle of a large frame wait for its end
--- options: { max_payload_len = 300000 }
--- handler
    for _ = 1, 3 do
        report(wb:recv_frame())
    end
--- send eval
::masked(0x02, "x" x 300000) . ::masked(0x89, "in between") . ::masked(0x80, "end")
--- results eval
::brief("x" x 300000) . " \"binary\" \"again\"\n\"in between\" \"ping\" nil\n\"end\" \"continuation\" nil\n"



=== TEST 8: a thousand pings without a break, each answered
--- handler
    for _ = 1, 1000 do
        local data, typ = wb:recv_frame()
        assert(typ == "ping")
        assert(wb:send_pong(data))
    end
--- send eval
CORE::join "", map { ::masked(0x89, "ping $_") } 1 .. 1000
--- response_body eval
CORE::join "", map { ::plain(0x8a, "ping $_") } 1 .. 1000



=== TEST 9: a message after idle time in which pings came
--- options: { timeout = 1000 * SLOW }
--- handler
    -- The time-out is for silence: pings that come in time keep the connection.
    while true do
        local data, typ, err = wb:recv_frame()
        if typ ~= "ping" then
            report(data, typ, err)
            return
        end
        wb:send_pong()
    end
--- client
    local p = peer.connect()
    local until_ = ngx.now() + 1.2 * SLOW
    repeat
        ngx.sleep(0.01)
        p:send(peer.frame(0x89, ""))
        assert(p:receive() == 0x8a)
    until ngx.now() > until_
    p:send(peer.frame(0x81, "late"))
    peer.say(p:rest())
--- response_body
"" "closed"
--- results
"late" "text" nil
