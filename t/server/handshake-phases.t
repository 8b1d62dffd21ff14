# Where resty.websocket.server:new() may be called: the phases that can read a request body, on the
# main request of an HTTP/1.1 connection. Elsewhere ngx_lua's own error is raised, or the check
# that fails there gives its text.

use Test::Nginx::Socket::Lua;
use t::Wire;

add_block_preprocessor(sub { complete_block(@_) });
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: rewrite_by_lua
--- config
    location = /ws {
        rewrite_by_lua_block {
            local wb = require("resty.websocket.server"):new()
            local data, typ = wb:recv_frame()
            wb:send_text(data .. " " .. typ .. " in rewrite")
        }
        content_by_lua_block { ngx.log(ngx.WARN, "content phase") }
    }
--- send eval: ::masked(0x81, "hello")
--- response_body eval: ::plain(0x81, "hello text in rewrite")



=== TEST 2: access_by_lua
--- config
    location = /ws {
        access_by_lua_block {
            local wb = require("resty.websocket.server"):new()
            local data, typ = wb:recv_frame()
            wb:send_text(data .. " " .. typ .. " in access")
        }
        content_by_lua_block { ngx.log(ngx.WARN, "content phase") }
    }
--- send eval: ::masked(0x81, "hello")
--- response_body eval: ::plain(0x81, "hello text in access")



=== TEST 3: server_rewrite_by_lua
--- skip_eval: 3: system("grep -qs server_rewrite_by_lua_block $ENV{TEST_NGINX_LOAD_MODULES} /dev/null")
--- config
    server_rewrite_by_lua_block {
        local wb = require("resty.websocket.server"):new()
        wb:send_text(wb:recv_frame())
    }
--- send eval: ::masked(0x81, "hello")
--- response_body eval: ::plain(0x81, "hello")



=== TEST 4: a phase handler that ends by ngx.exit: what it sent still leaves
--- config
    location = /ws {
        access_by_lua_block {
            local wb = require("resty.websocket.server"):new()
            for i = 1, 100 do
                wb:send_text("frame " .. i)
            end
            ngx.exit(444)
        }
    }
--- response_body eval
CORE::join "", map { ::plain(0x81, "frame $_") } 1 .. 100



=== TEST 5: ngx.exit(200) and ngx.exit(101) change nothing about it
--- config
    location = /ws {
        content_by_lua_block {
            local wb = require("resty.websocket.server"):new()
            wb:send_text("last words")
            ngx.exit(tonumber((wb:recv_frame())))
        }
    }
--- send eval: ::masked(0x81, "200")
--- response_body eval: ::plain(0x81, "last words")



=== TEST 6: phases of a request that cannot have it
--- config
    location = /t {
        set_by_lua_block $unused { require("t.peer").attempt("set_by_lua"); return "" }
        content_by_lua_block { ngx.print("content") }
        header_filter_by_lua_block { require("t.peer").attempt("header_filter_by_lua") }
        body_filter_by_lua_block { if ngx.arg[2] then require("t.peer").attempt("body_filter_by_lua") end }
        log_by_lua_block { require("t.peer").attempt("log_by_lua") }
    }
--- request
GET /t
--- response_body chop
content
--- grep_error_log eval: qr/\w+_by_lua: .*?(?=,| while logging)/
--- grep_error_log_out
set_by_lua: raised API disabled in the context of set_by_lua*
header_filter_by_lua: raised API disabled in the context of header_filter_by_lua*
body_filter_by_lua: returned nil response header already sent
log_by_lua: returned nil response header already sent
--- no_error_log
[error]



=== TEST 7: a timer
--- config
    location = /t {
        content_by_lua_block {
            local done = require("ngx.semaphore").new()
            assert(ngx.timer.at(0, function ()
                require("t.peer").attempt("timer")
                done:post()
            end))
            assert(done:wait(2))
            ngx.print("ok")
        }
    }
--- request
GET /t
--- response_body chop
ok
--- grep_error_log eval: qr/timer: .*?(?=,)/
--- grep_error_log_out
timer: raised API disabled in the current context
--- no_error_log
[error]



=== TEST 8: init_by_lua and init_worker_by_lua
--- http_config
    init_by_lua_block { in_init = require("t.peer").attempt("init_by_lua") }
    init_worker_by_lua_block { in_worker = require("t.peer").attempt("init_worker_by_lua") }
--- config
    location = /t {
        content_by_lua_block { ngx.say(in_init) ngx.say(in_worker) }
    }
--- request
GET /t
--- response_body
init_by_lua: raised no request found
init_worker_by_lua: raised API disabled in the current context
--- no_error_log
[error]



=== TEST 9: the module loaded in init_by_lua serves requests
--- http_config
    init_by_lua_block { server = require("resty.websocket.server") }
--- config
    location = /ws {
        content_by_lua_block {
            local wb = server:new()
            wb:send_text(wb:recv_frame())
        }
    }
--- send eval: ::masked(0x81, "hello")
--- response_body eval: ::plain(0x81, "hello")



=== TEST 10: a subrequest
--- config
    location = /sub {
        content_by_lua_block {
            local wb, err = require("resty.websocket.server"):new()
            ngx.say(type(wb), " ", err)
        }
    }
    location = /ws {
        content_by_lua_block {
            local res = ngx.location.capture("/sub")
            ngx.header.content_length = #res.body
            ngx.print(res.body)
        }
        keepalive_timeout 0;
    }
--- error_code: 200
--- response_body
nil failed to flush response header: nothing to flush



=== TEST 11: HTTP/2
--- skip_eval: 3: `$Test::Nginx::Util::NginxBinary -V 2>&1` !~ /http_v2_module/
--- http_config
    server {
        listen unix:$TEST_NGINX_SERVER_ROOT/html/h2.sock http2;
        location = /ws {
            content_by_lua_block {
                local wb, err = require("resty.websocket.server"):new()
                ngx.say(type(wb), " ", err)
            }
        }
    }
--- config
    location = /t {
        content_by_lua_block {
            local function literal(s)
                return string.char(#s) .. s
            end
            local function frame(kind, flags, stream, payload)
                return string.char(0, 0, #payload, kind, flags, 0, 0, 0, stream) .. payload
            end

            -- RFC 9113 3.4 and RFC 7541: preface, SETTINGS, HEADERS with END_STREAM, END_HEADERS.
            local headers = "\x82\x86\x04" .. literal("/ws") .. "\x01" .. literal("localhost")
                            .. "\x0f\x0d" .. literal("0")
            local function header(name, value)
                headers = headers .. "\0" .. literal(name) .. literal(value)
            end
            header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            header("sec-websocket-version", "13")

            local sock = ngx.socket.tcp()
            sock:settimeout(2000)
            assert(sock:connect("unix:$TEST_NGINX_SERVER_ROOT/html/h2.sock"))
            assert(sock:send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" .. frame(4, 0, 0, "")
                             .. frame(1, 5, 1, headers)))
            local body, last = "", false
            repeat
                local a, b, c, kind, flags = assert(sock:receive(9)):byte(1, 5)
                local len = a * 65536 + b * 256 + c
                local payload = len > 0 and assert(sock:receive(len)) or ""
                assert(kind ~= 3 and kind ~= 7, "refused by nginx")
                if kind == 0 then
                    body = body .. payload
                end
                last = (kind == 0 or kind == 1) and flags % 2 == 1
            until last
            ngx.print(body)
        }
    }
--- request
GET /t
--- response_body
nil bad http version
