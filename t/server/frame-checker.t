# websocket.frame_checker(): the rules of messages for a handler that reads frames. The codec's own
# tests hold every rule; here is what Lua gets, over a connection and by itself.

use Test::Nginx::Socket::Lua;
use t::Message;

add_block_preprocessor(sub { complete_message_block(@_) });
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: frames of a connection
--- before
    local wb = require("resty.websocket.server"):new()
    local check = websocket.frame_checker(10)
    for _ = 1, 5 do
        local data, typ, err = wb:recv_frame()
        local ok, fault, code = check(data, typ, err)
        report(typ, ok, fault, code)
        if not ok then
            wb:send_close(code, fault)
        end
    end
    if true then return peer.leave() end
--- handler
--- send eval: ::masked(0x01, "\xe2\x82") . ::masked(0x89, "x") . ::masked(0x80, "\xac") . ::masked(0x82, "\xff") . ::masked(0x01, "\xc0")
--- frames
close 1007 "invalid utf-8"
--- results
"text" true
"ping" true
"continuation" true
"binary" true
"text" nil "invalid utf-8" 1007



=== TEST 2: every fault, and its code
--- config
    location = /t {
        content_by_lua_block {
            local new = require("resty.websocket").frame_checker
            local function faults(check, ...)
                local n = select("#", ...)
                for i = 1, n, 3 do
                    local data, typ, err = select(i, ...)
                    ngx.say(check(data, typ, err))
                end
            end
            faults(new(), "x", "continuation", nil)
            faults(new(), "x", "text", "again", "y", "binary", nil)
            faults(new(3), "xx", "binary", "again", "yy", "continuation", nil)
            faults(new(), "\226", "text", nil)
            faults(new(), "bye", "close", 1005)
            faults(new(), "\255", "close", 1000)
            faults(new(), "", "close", nil)
            faults(new(), "bye", "close", 3000)
            faults(new(), "any", "pong", nil)
        }
    }
--- request
GET /t
--- response_body
nilcontinuation without a message1002
true
nilnew message inside a fragmented one1002
true
nilexceeding max message len1009
nilinvalid utf-81007
nilbad close code1002
nilinvalid utf-81007
true
true
true



=== TEST 3: misuse
--- config
    location = /t {
        content_by_lua_block {
            local new = require("resty.websocket").frame_checker
            local check = new()
            for _, call in ipairs {
                function() new("1k") end,
                function() new(-1) end,
                function() check(nil, nil, "timeout") end,
                function() check("x", "frame") end,
            } do
                ngx.say((select(2, pcall(call)):match("bad.*")))
            end
        }
    }
--- request
GET /t
--- response_body
bad "max_message_size" argument: size in bytes expected
bad "max_message_size" argument: size in bytes expected
bad "data" or "typ" argument: string expected
bad "typ" argument: a frame type expected
