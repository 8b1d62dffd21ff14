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



=== TEST 12: `wb.sock` is each object's own
--- handler
    local peers = package.loaded["test.peers"]
    peers[wb.sock] = wb
    wb:send_text("noted")
    wb:recv_frame()
--- client
    local peers = {}
    package.loaded["test.peers"] = peers
    local first, second = peer.connect(), peer.connect()
    first:receive()
    second:receive()
    for sock, wb in pairs(peers) do
        peer.say(type(sock), wb.sock == sock)
    end
    first:send(peer.frame(0x88, ""))
    second:send(peer.frame(0x88, ""))
    first:rest()
    second:rest()
    package.loaded["test.peers"] = nil
--- response_body
"table" true
"table" true



=== TEST 13: time-outs of `wb.sock` are the object's
--- handler
    wb.sock:settimeout(20)
    report(wb:recv_frame())
    wb.sock:settimeouts(nil, 5000, 30)
    report(wb:recv_frame())
    report(select("#", wb.sock:settimeouts(1, 2, 3)), select("#", wb.sock:settimeout(5000)))
    for _, time in ipairs{ -1, "1", 2^31 } do
        report((select(2, pcall(wb.sock.settimeout, wb.sock, time)):gsub("^.-:%d+: ", "")))
        report((select(2, pcall(wb.sock.settimeouts, wb.sock, 1, 2, time)):gsub("^.-:%d+: ", "")))
    end
    wb.sock:settimeouts()
    wb:send_text("now")
    report(wb:recv_frame())
--- client
    local p = peer.connect()
    p:receive()
    p:send(peer.frame(0x81, "here"))
    peer.say(p:rest())
--- response_body
"" "closed"
--- results
nil nil "failed to receive the first 2 bytes: timeout"
nil nil "failed to receive the first 2 bytes: timeout"
0 0
"bad timeout value"
"bad timeout value"
"bad timeout value: number expected, got string"
"bad timeout value: number expected, got string"
"bad timeout value"
"bad timeout value"
"here" "text" nil



=== TEST 14: the bytes of `wb.sock` are not to be had
--- handler
    local sock = wb.sock
    report(sock:receive(2))
    report(sock:receiveany(10))
    report(sock:receiveuntil("x")())
    report(sock:send("raw"))
    report(require("resty.websocket.protocol").recv_frame(sock, 10, true))
    report(wb:recv_frame())
    report(wb:send_text("unharmed"))
--- send eval: ::masked(0x81, "x")
--- response_body eval: ::plain(0x81, "unharmed")
--- results
nil "bytes belong to the websocket object"
nil "bytes belong to the websocket object"
nil "bytes belong to the websocket object"
nil "bytes belong to the websocket object"
nil nil "failed to receive the first 2 bytes: bytes belong to the websocket object"
"x" "text" nil
10 nil



=== TEST 15: an object built by hand around the socket of another
--- handler
    local server = require "resty.websocket.server"
    local other = setmetatable({ sock = wb.sock, max_recv_len = 1, max_send_len = 2 },
                               { __index = server })
    report(other:recv_frame())
    report(other:send_text("two"))
    report(other.fatal, wb.fatal)
    report(wb:send_text("two"))
--- send eval: ::masked(0x81, "x")
--- response_body eval: ::plain(0x81, "two")
--- results
"x" "text" nil
nil "payload too big"
true nil
5 nil



=== TEST 16: a mock in place of the socket, and an object made of one
--- handler
    local server = require "resty.websocket.server"
    local function mock(input)
        local sock = { sent = "" }
        function sock.receive(_, n)
            if #input < n then
                return nil, "closed"
            end
            local data = input:sub(1, n)
            input = input:sub(n + 1)
            return data
        end
        function sock:send(data)
            if self.broken then
                return nil, self.broken ~= true and self.broken or nil
            end
            self.sent = self.sent .. data
            return #data
        end
        function sock:settimeout(ms)
            self.ms = ms
        end
        return sock
    end
    local frame = "\129\130\0\0\0\0hi"

    local bare = setmetatable({ sock = mock(frame .. "\129\0"), max_recv_len = 10,
                                max_send_len = 10 }, { __index = server })
    report(bare:recv_frame())
    report(bare:recv_frame())
    report(bare.fatal)
    bare.fatal = nil
    report(bare:recv_frame())
    bare.fatal = nil
    bare:set_timeout(7)
    report(bare:send_text("a"), bare:send_continue("b"), bare:send_close(1000, "c"))
    report(bare.sock.sent, bare.sock.ms)
    report(bare:send_text(("x"):rep(11)))
    bare.fatal = nil
    bare.sock.broken = "closed"
    report(bare:send_text("x"))
    bare.fatal = nil
    bare.sock.broken = true
    report(bare:send_text("x"))
    report(bare:send_text("x"))

    -- In place of a real one, and back.
    local own = wb.sock
    wb.sock = mock(frame)
    wb.send_masked = true
    report(wb:recv_frame())
    report(wb:send_text("mocked"), #wb.sock.sent)
    wb.sock, wb.send_masked = own, nil
    report(wb:recv_frame())
    report(wb:send_text("real"))
    wb.sock = nil
    report(wb:recv_frame())
    report(wb:send_text("x"))
--- send eval: ::masked(0x81, "real")
--- response_body eval: ::plain(0x81, "real")
--- results
"hi" "text" nil
nil nil "frame unmasked"
true
nil nil "failed to receive the first 2 bytes: closed"
3 3 5 nil
11 bytes 453cd32bbbab4a39a4245fb9151efc0a 7
nil "payload too big"
nil "failed to send frame: closed"
nil "failed to send frame: unknown"
nil "fatal error already happened"
"hi" "text" nil
12 12
"real" "text" nil
6 nil
nil nil "not initialized yet"
nil "not initialized yet"



=== TEST 17: a limit that is none is named
--- handler
    local function try(call)
        report((select(2, pcall(call)):gsub("^.-:%d+: ", "")))
    end
    wb.max_recv_len, wb.max_send_len = nil, "1"
    try(function () wb:recv_frame() end)
    try(function () wb:send_text("x") end)
    wb.sock = {}
    try(function () wb:recv_frame() end)
    try(function () wb:send_text("x") end)
    report(wb.fatal)
--- results
"bad "max_recv_len" field: number expected, got nil"
"bad "max_send_len" field: number expected, got string"
"bad "max_recv_len" field: number expected, got nil"
"bad "max_send_len" field: number expected, got string"
nil
