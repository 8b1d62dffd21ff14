# Misuse is told to the line that made the mistake, whichever way an error has come to it; and what
# websocket.connect() takes as headers.

use Test::Nginx::Socket::Lua 'no_plan';

repeat_each(2);
no_long_string();

our $HttpConfig = <<'_EOC_';
    lua_socket_log_errors off;
    websocket_topic "room" presence;
    init_worker_by_lua_block {
        websocket = require "resty.websocket"
        frame = require "websocket.frame"
        validator = require "websocket.utf8_validator"

        -- What the third line of a file raises.
        function raised(code)
            local _, err = pcall(assert(loadstring("\n\n" .. code .. "\nreturn 1", "=user")))
            return tostring(err)
        end
    }
_EOC_

run_tests();

__DATA__

=== TEST 1: calls that end in a native
--- http_config eval: $::HttpConfig
--- config
location /t {
    content_by_lua_block {
        ngx.say(raised('local a = websocket.frame_checker()({}, "text")'))
        ngx.say(raised('local a = websocket.frame_checker()("x", "other")'))
        ngx.say(raised('local a = validator({})'))
        ngx.say(raised('local a = validator.validate({})'))
        ngx.say(raised('local a = frame.encode("x", "y")'))
        ngx.say(raised('local a = frame.encode_close("x")'))
        ngx.say(raised('local a = frame.encode_close(65536)'))
        ngx.say(raised('local a = frame.encode_close(1000, {})'))
        ngx.say(validator("\255"))
        ngx.say(validator.validate("x\255"))
        ngx.say(validator("x"))
        ngx.say(#frame.encode_close(), " ", frame.encode_close(1000, "x") == "\3\232x", " ",
                frame.encode_close("1000", 5) == "\3\2325")
    }
}
--- request
GET /t
--- response_body
user:3: bad "data" or "typ" argument: string expected
user:3: bad "typ" argument: a frame type expected
user:3: bad argument #1 (string expected)
user:3: bad argument #1 (string expected)
user:3: bad "opcode" argument (number from 0 to 255 expected)
user:3: bad argument #1 to 'encode_close' (close code expected)
user:3: bad argument #1 to 'encode_close' (close code expected)
user:3: bad argument #2 to 'encode_close' (string expected)
false1
false2
true
0 true true
--- no_error_log
[error]



=== TEST 2: options
--- http_config eval: $::HttpConfig
--- config
location /t {
    content_by_lua_block {
        ngx.say(raised('websocket.accept { compression = { server_no_context_takeover = 1 } }'))
        ngx.say(raised('websocket.accept { compression = { level = 10 } }'))
        ngx.say(raised('websocket.accept { other = 1 }'))
        ngx.say(raised('websocket.accept(1)'))
        ngx.say(raised('websocket.publish("x", "y", { other = 1 })'))
        ngx.say(raised('websocket.history("x", 1)'))
        local connect = 'websocket.connect("ws://127.0.0.1:1/", { headers = '
        ngx.say(raised(connect .. '{ [true] = "x" } })'))
        ngx.say(raised(connect .. '{ { "x" } } })'))
        ngx.say(raised(connect .. '{ x = true } })'))
        ngx.say(raised(connect .. '{ x = { "y", {} } } })'))
        ngx.say(raised('websocket.proxy { url = "ws://127.0.0.1:1/", headers = { [true] = "x" } }'))
        ngx.say(raised('websocket.proxy { url = "ws://127.0.0.1:1/", pass_headers = { "a", true } }'))
    }
}
--- request
GET /t
--- response_body
user:3: bad "compression.server_no_context_takeover" option: boolean expected, got 1
user:3: bad "compression.level" option: 1 to 9 expected, got 10
user:3: unknown option "other" (known: compression, headers, max_frame_size, max_message_size, origins, ping_interval, ping_timeout, protocols, require_origin, send_timeout, timeout)
user:3: bad "opts" argument: table expected, got number
user:3: unknown option "other" (known: confirm, except, idempotency_key, scope, type)
user:3: bad "opts" argument: table expected, got number
user:3: bad "headers" option: names as keys expected, got boolean
user:3: bad "headers" option: lines or names as keys expected, got table
user:3: bad "headers.x" option: string expected, got boolean
user:3: bad "headers.x" option: string expected, got table
user:3: bad "headers" option: names as keys expected, got boolean
user:3: bad "pass_headers" option: array of strings expected, got boolean
--- no_error_log
[error]



=== TEST 3: a call that cannot wait
--- http_config eval: $::HttpConfig
--- config
location /ws {
    content_by_lua_block {
        local ws = assert(websocket.accept())
        assert(ws:subscribe("room"))
        ws:send("here")
        ws:recv()
    }
}
location /t {
    content_by_lua_block {
        -- Still a member when this request is logged.
        ngx.ctx.ws = assert(websocket.connect("ws://127.0.0.1:" .. ngx.var.server_port .. "/ws"))
        ngx.say((ngx.ctx.ws:recv()))
    }
    log_by_lua_block {
        ngx.log(ngx.NOTICE, "raised: ", raised('local a = websocket.presence("room")'))
    }
}
--- request
GET /t
--- response_body
here
--- error_log eval
qr/raised: user:3: cannot wait here/
--- no_error_log
[error]



=== TEST 4: headers of connect(): lines, and names with one value or several
--- http_config eval: $::HttpConfig
--- config
location /ws {
    content_by_lua_block {
        local h = ngx.req.get_headers()
        local ws = assert(websocket.accept())
        ws:send(h["X-Line"] .. " " .. h["X-Number"] .. " " .. table.concat(h["X-Twice"], ","))
        ws:close()
    }
}
location /t {
    content_by_lua_block {
        local ws = assert(websocket.connect("ws://127.0.0.1:" .. ngx.var.server_port .. "/ws", {
            headers = { "X-Line: l", ["X-Number"] = 5, ["X-Twice"] = { "a", "b" } } }))
        ngx.say((ws:recv()))
        ws:close()
    }
}
--- request
GET /t
--- response_body
l 5 a,b
--- no_error_log
[error]
