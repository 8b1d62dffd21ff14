# What programs see of resty.websocket.server besides its functions' effects: the keys of the
# module, its version, the fields of an object, and that both are plain tables.

use Test::Nginx::Socket::Lua;
use t::Wire;

add_block_preprocessor(sub { complete_block(@_) });
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: the module's keys
--- config
    location = /t {
        content_by_lua_block {
            local names = {}
            for name, value in pairs(require("resty.websocket.server")) do
                names[#names + 1] = name .. " " .. type(value)
            end
            table.sort(names)
            ngx.say(#names, " keys")
            ngx.say(table.concat(names, "\n"))
        }
    }
--- request
GET /t
--- response_body
11 keys
_VERSION string
new function
recv_frame function
send_binary function
send_close function
send_continue function
send_frame function
send_ping function
send_pong function
send_text function
set_timeout function



=== TEST 2: the version it stands for
--- config
    location = /t {
        content_by_lua_block { ngx.say(require("resty.websocket.server")._VERSION) }
    }
--- request
GET /t
--- response_body
0.13



=== TEST 3: loaded once per Lua VM
--- config
    location = /t {
        content_by_lua_block {
            local first = require("resty.websocket.server")
            ngx.say(type(first), " ", first == require("resty.websocket.server"), " ",
                    first == package.loaded["resty.websocket.server"])
        }
    }
--- request
GET /t
--- response_body
table true true



=== TEST 4: no globals
--- config
    location = /t {
        content_by_lua_block {
            local known = {}
            for name in pairs(_G) do
                known[name] = true
            end
            local server = require("resty.websocket.server")
            local names = {}
            for name in pairs(_G) do
                if not known[name] then
                    names[#names + 1] = name
                end
            end
            ngx.say(#names, table.concat(names, " "))
        }
    }
--- request
GET /t
--- response_body
0
--- no_error_log
writing a global



=== TEST 5: an object's fields
--- options: { max_recv_len = 10, max_send_len = 20, send_masked = true }
--- handler
    report(type(wb), type(wb.sock), wb.max_recv_len, wb.max_send_len, wb.send_masked, wb.fatal)
    report(getmetatable(wb).__index == require("resty.websocket.server"))
--- results
"table" "table" 10 20 true nil
true



=== TEST 6: `fatal` becomes true with the failure
--- handler
    report(wb.fatal)
    report(wb:recv_frame())
    report(wb.fatal)
--- send eval: "\x83\x80\0\0\0\0"
--- results
nil
nil nil "reserved non-control frames"
true



=== TEST 7: `fatal` set or cleared by the program is taken at its word
--- handler
    wb.fatal = true
    report(wb:recv_frame())
    report(wb:send_text("no"))
    wb.fatal = nil
    report(wb:recv_frame())
    report(wb:send_text("yes"))
--- send eval: ::masked(0x81, "x")
--- response_body eval: ::plain(0x81, "yes")
--- results
nil nil "fatal error already happened"
nil "fatal error already happened"
"x" "text" nil
5 nil



=== TEST 8: limits and masking changed on the object hold from the next call on
--- options: { max_payload_len = 3 }
--- handler
    report(wb:recv_frame())
    wb.max_recv_len = 4
    report(wb:recv_frame())
    wb.max_send_len = 4
    report(wb:send_text("four"))
    wb.send_masked = true
    report(wb:send_text("four"))
    wb.max_recv_len = 2
    report(wb:recv_frame())
--- send eval: ::masked(0x81, "abc") . ::masked(0x81, "abcd") . ::masked(0x81, "abc")
--- response_body_like eval
qr/\A\x81\x04four\x81\x84.{8}\z/s
--- results
"abc" "text" nil
"abcd" "text" nil
6 nil
10 nil
nil nil "exceeding max payload len"



=== TEST 9: fields of the program's own, and functions it overrides
--- handler
    wb.name = "mine"
    function wb:send_text(data)
        return self:send_binary(self.name .. data)
    end
    report(wb:send_text("!"))
--- response_body eval: ::plain(0x82, "mine!")
--- results
7 nil



=== TEST 10: methods on a table that is no object yet
--- handler
    local bare = setmetatable({}, getmetatable(wb))
    report(bare:set_timeout(100))
    report(bare:recv_frame())
    report(bare:send_frame(true, 1, "x"))
    report(bare:send_continue("x"))
    report(bare:send_text("x"))
    report(bare:send_binary("x"))
    report(bare:send_close())
    report(bare:send_close(1000, "bye"))
    report(bare:send_ping("x"))
    report(bare:send_pong("x"))
    report(bare.fatal)
--- results
nil nil "not initialized yet"
nil nil "not initialized yet"
nil "not initialized yet"
nil "not initialized yet"
nil "not initialized yet"
nil "not initialized yet"
nil "not initialized yet"
nil "not initialized yet"
nil "not initialized yet"
nil "not initialized yet"
nil



=== TEST 11: `wb.sock` is a socket that refuses what would break the stream
--- handler
    report(pcall(ngx.say, "x"))
    report(pcall(ngx.print, "x"))
    report(pcall(ngx.flush, true))
    report(wb:send_text("ok"))
--- response_body eval: ::plain(0x81, "ok")
--- results
true nil "raw request socket acquired"
true nil "raw request socket acquired"
true nil "raw request socket acquired"
4 nil
