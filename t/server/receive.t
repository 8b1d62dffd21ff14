# Frames a client sends and recv_frame() returns: every opcode, every class of length, fragments,
# and every way their bytes can arrive. Refused frames are in t/server/receive-errors.t.

use Test::Nginx::Socket::Lua;
use t::Wire;

# With `frames` the handler reports so many frames and ends.
add_block_preprocessor(sub {
    my $block = shift;
    if (defined(my $count = $block->frames)) {
        $count =~ s/\s+//g;
        $block->set_value(handler => "for _ = 1, $count do report(wb:recv_frame()) end\n");
    }
    complete_block($block);
});
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: every opcode
--- frames: 6
--- send eval
::masked(0x81, "t") . ::masked(0x82, "b") . ::masked(0x80, "c") . ::masked(0x89, "pi")
. ::masked(0x8a, "po") . ::masked(0x88, "\x03\xe8bye")
--- results
"t" "text" nil
"b" "binary" nil
"c" "continuation" nil
"pi" "ping" nil
"po" "pong" nil
"bye" "close" 1000



=== TEST 2: empty payloads
--- frames: 6
--- send eval
CORE::join "", map { ::masked(0x80 + $_, "") } 1, 2, 0, 9, 10, 8
--- results
"" "text" nil
"" "binary" nil
"" "continuation" nil
"" "ping" nil
"" "pong" nil
"" "close" nil



=== TEST 3: lengths in 7 bits
--- frames: 4
--- send eval
CORE::join "", map { ::masked(0x81, "a" x $_) } 0, 1, 124, 125
--- results eval
CORE::join "", map { ::brief("a" x $_) . " \"text\" nil\n" } 0, 1, 124, 125



=== TEST 4: lengths in 16 bits
--- frames: 5
--- send eval
CORE::join "", map { ::masked(0x82, ::pattern($_)) } 126, 127, 128, 65534, 65535
--- results eval
CORE::join "", map { ::brief(::pattern($_)) . " \"binary\" nil\n" } 126, 127, 128, 65534, 65535



=== TEST 5: lengths in 64 bits
--- options: { max_payload_len = 1048576 }
--- frames: 4
--- send eval
CORE::join "", map { ::masked(0x82, ::pattern($_)) } 65536, 65537, 131072, 1048576
--- results eval
CORE::join "", map { ::brief(::pattern($_)) . " \"binary\" nil\n" } 65536, 65537, 131072, 1048576



=== TEST 6: 16 MiB
--- options: { max_recv_len = 16 * 1024 * 1024 }
--- frames: 2
--- send eval
::masked(0x82, ::pattern(16 * 1024 * 1024)) . ::masked(0x81, "after")
--- results eval
::brief(::pattern(16 * 1024 * 1024)) . " \"binary\" nil\n\"after\" \"text\" nil\n"
--- timeout: 20



=== TEST 7: lengths in more bits than they need
--- frames: 6
--- send eval
::masked(0x81, "", 16) . ::masked(0x81, "", 64) . ::masked(0x81, "a" x 125, 16)
. ::masked(0x81, "a" x 125, 64) . ::masked(0x81, "a" x 65535, 64) . ::masked(0x89, "ping", 64)
--- results eval
"\"\" \"text\" nil\n" x 2 . (::brief("a" x 125) . " \"text\" nil\n") x 2
. ::brief("a" x 65535) . " \"text\" nil\n\"ping\" \"ping\" nil\n"



=== TEST 8: every byte, at every place of the masking key
--- frames: 4
--- send eval
my $all = CORE::join "", map { chr } 0 .. 255;
CORE::join "", map { ::masked(0x82, substr $all, $_) } 0 .. 3
--- results eval
my $all = CORE::join "", map { chr } 0 .. 255;
CORE::join "", map { ::brief(substr $all, $_) . " \"binary\" nil\n" } 0 .. 3



=== TEST 9: a masking key of zeros, and one of ones
--- frames: 2
--- send eval
"\x81\x83\0\0\0\0abc" . "\x81\x83\xff\xff\xff\xff\x9e\x9d\x9c"
--- results
"abc" "text" nil
"abc" "text" nil



=== TEST 10: text is not looked into
--- frames: 1
--- send eval: ::masked(0x81, "\xff\xfe\xc0")
--- results eval
::brief("\xff\xfe\xc0") . " \"text\" nil\n"



=== TEST 11: fragments of a message
--- frames: 4
--- send eval
::masked(0x01, "first") . ::masked(0x00, "") . ::masked(0x00, "middle") . ::masked(0x80, "last")
--- results
"first" "text" "again"
"" "continuation" "again"
"middle" "continuation" "again"
"last" "continuation" nil



=== TEST 12: control frames between fragments
--- frames: 5
--- send eval
::masked(0x02, "first") . ::masked(0x89, "now") . ::masked(0x00, "middle") . ::masked(0x8a, "") . ::masked(0x80, "")
--- results
"first" "binary" "again"
"now" "ping" nil
"middle" "continuation" "again"
"" "pong" nil
"" "continuation" nil



=== TEST 13: the sequence is not checked: lone continuation, messages inside messages
--- frames: 5
--- send eval
::masked(0x80, "lone") . ::masked(0x00, "lone") . ::masked(0x01, "a") . ::masked(0x81, "b") . ::masked(0x02, "c")
--- results
"lone" "continuation" nil
"lone" "continuation" "again"
"a" "text" "again"
"b" "text" nil
"c" "binary" "again"



=== TEST 14: frames behind a close frame
--- frames: 2
--- send eval
::masked(0x88, "\x03\xe8") . ::masked(0x81, "more")
--- results
"" "close" 1000
"more" "text" nil



=== TEST 15: a thousand frames in one packet with the request head
--- handler
    local sum = 0
    for i = 1, 1000 do
        local data, typ, err = wb:recv_frame()
        if data ~= "frame " .. i or typ ~= "text" or err then
            report(i, data, typ, err)
            return
        end
        sum = sum + i
    end
    report(sum)
--- send eval
CORE::join "", map { ::masked(0x81, "frame $_") } 1 .. 1000
--- results
500500



=== TEST 16: byte by byte, one packet each, the request head included
--- raw_request eval
::bytewise(::upgrade(), ::masked(0x01, "frag"), ::masked(0x80, "ment"), ::masked(0x82, "b" x 130), ::masked(0x88, "\x03\xe9away"))
--- raw_request_middle_delay: 0.001
--- frames: 4
--- error_code: 101
--- results eval
"\"frag\" \"text\" \"again\"\n\"ment\" \"continuation\" nil\n" . ::brief("b" x 130) . " \"binary\" nil\n\"away\" \"close\" 1001\n"



=== TEST 17: cuts inside the header, the length, the masking key and the payload
--- options: { max_payload_len = 70000 }
--- handler
    for _ = 1, 3 do report(wb:recv_frame()) end
--- client
    local frame = peer.frame(0x82, ("x"):rep(70000))
    -- Both ends are in one worker: a turn of its event loop between the pieces makes each of them
    -- a read of its own.
    local function pieces(p, bytes, cuts)
        local from = 1
        for _, cut in ipairs(cuts) do
            p:send(bytes:sub(from, cut))
            ngx.sleep(0.001)
            from = cut + 1
        end
        p:send(bytes:sub(from))
    end
    local p = peer.connect(frame:sub(1, 1))
    pieces(p, frame:sub(2), { 1, 2, 8, 9, 12, 13, 14, 4096, 65536, 69999 })
    pieces(p, peer.frame(0x81, ("y"):rep(300)), { 1, 2, 3, 4, 5, 7, 8, 9, 307 })
    pieces(p, peer.frame(0x89, "z"), { 1, 2, 3, 4, 5, 6 })
    peer.say(p:rest())
--- response_body
"" "closed"
--- results eval
::brief("x" x 70000) . " \"binary\" nil\n" . ::brief("y" x 300) . " \"text\" nil\n\"z\" \"ping\" nil\n"



=== TEST 18: one frame at a time, each after the answer to the one before
--- handler
    while true do
        local data, typ = wb:recv_frame()
        if typ == "close" then
            break
        end
        wb:send_text(data .. "!")
    end
--- client
    local p = peer.connect()
    for i = 1, 100 do
        p:send(peer.frame(0x81, "message " .. i))
        local first, data = p:receive()
        if first ~= 0x81 or data ~= "message " .. i .. "!" then
            peer.say(i, first, data)
        end
    end
    p:send(peer.frame(0x88, ""))
    peer.say(p:rest())
--- response_body
"" "closed"



=== TEST 19: a frame that came while the handler was busy elsewhere
--- handler
    report(wb:recv_frame())
    ngx.sleep(0.01)
    report(wb:recv_frame())
    ngx.sleep(0.01)
    report(wb:recv_frame())
--- client
    local p = peer.connect(peer.frame(0x81, "one") .. peer.frame(0x81, "two"):sub(1, 3))
    p:send(peer.frame(0x81, "two"):sub(4) .. peer.frame(0x81, "three"))
    peer.say(p:rest())
--- response_body
"" "closed"
--- results
"one" "text" nil
"two" "text" nil
"three" "text" nil



=== TEST 20: a payload is the program's own: later frames do not change it
--- handler
    local all = {}
    for i = 1, 50 do
        all[i] = wb:recv_frame()
    end
    collectgarbage()
    report(table.concat(all, ","))
--- send eval
CORE::join "", map { ::masked(0x81, $_ x 3) } 1 .. 50
--- results eval
::brief(CORE::join ",", map { $_ x 3 } 1 .. 50) . "\n"



=== TEST 21: nginx's debug builds log the mask bit of every frame
--- skip_eval: 4: `$Test::Nginx::Util::NginxBinary -V 2>&1` !~ /--with-debug/
--- frames: 2
--- send eval: ::masked(0x81, "a") . ::plain(0x81, "b")
--- results
"a" "text" nil
nil nil "frame unmasked"
--- error_log
recv_frame: mask bit: 1
recv_frame: mask bit: 0



=== TEST 22: a frame that was waited for has one line, too
--- skip_eval: 4: `$Test::Nginx::Util::NginxBinary -V 2>&1` !~ /--with-debug/
--- handler
    wb:send_text("waits")
    report((wb:recv_frame()))
--- client
    local p = peer.connect()
    local _, data = p:receive()
    peer.say(data)
    p:send(peer.frame(0x81, "a"))
    peer.say(p:rest())
--- response_body
"waits"
"" "closed"
--- results
"a"
--- grep_error_log eval: qr/recv_frame: mask bit: \d/
--- grep_error_log_out eval
[("recv_frame: mask bit: 1\n") x 2]
