# What resty.websocket.client looks like and what its new() and connect() say to bad options: which
# are returned and which raised, in which order, and all of it before any I/O.

use Test::Nginx::Socket::Lua;
use t::Client;

add_block_preprocessor(sub { complete_block(@_) });
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: keys of the modules, and nothing beside them
--- client
for _, module in ipairs{ client, protocol } do
    local names = {}
    for name in pairs(module) do
        names[#names + 1] = name
    end
    table.sort(names)
    ngx.say(#names, ": ", table.concat(names, " "))
    t.say(module._VERSION)
end
--- response_body
13: _VERSION close connect new recv_frame send_binary send_close send_frame send_ping send_pong send_text set_keepalive set_timeout
"0.13"
5: _VERSION build_frame new_tab recv_frame send_frame
"0.13"



=== TEST 2: the object's fields
--- client
local function fields(opts)
    local wb = client:new(opts)
    local names = {}
    for name, value in pairs(wb) do
        names[#names + 1] = name .. "=" .. (type(value) == "table" and "table" or tostring(value))
    end
    table.sort(names)
    ngx.say(table.concat(names, " "))
    assert(getmetatable(wb).__index == client)
    assert(getmetatable(wb.sock) == getmetatable(ngx.socket.tcp()))
end
fields()
fields{}
fields(false)
fields{ max_payload_len = 10 }
fields{ max_payload_len = 10, max_recv_len = 20 }
fields{ max_recv_len = 20, max_send_len = 30, send_unmasked = true, timeout = 5 }
fields{ max_payload_len = false, max_recv_len = false, timeout = false, other = 1 }
-- The first argument is not looked at, so that this loses its options (but works).
local wb = client.new{ max_payload_len = 10 }
t.say(wb.max_recv_len)
t.say(client.new(nil, { max_payload_len = 10 }).max_recv_len)
--- response_body
max_recv_len=65535 max_send_len=65535 sock=table
max_recv_len=65535 max_send_len=65535 sock=table
max_recv_len=65535 max_send_len=65535 sock=table
max_recv_len=10 max_send_len=10 sock=table
max_recv_len=20 max_send_len=10 sock=table
max_recv_len=20 max_send_len=30 send_unmasked=true sock=table
max_recv_len=65535 max_send_len=65535 sock=table
65535
10



=== TEST 3: new() with values of the wrong type
--- client
local function try(opts)
    t.say((t.raised(function ()
        client:new(opts)
    end):gsub("^resty.*lua:%d+: ", "")))
end
try("a string")
try(1)
try{ max_payload_len = "10" }
try{ max_recv_len = {} }
try{ max_send_len = true }
try{ timeout = -1 }
--- response_body
"here: bad "opts" argument: table expected, got string"
"here: bad "opts" argument: table expected, got number"
"here: bad "max_payload_len" option: number expected, got string"
"here: bad "max_recv_len" option: number expected, got table"
"here: bad "max_send_len" option: number expected, got boolean"
"bad timeout value"



=== TEST 4: connect() with options that are returned as errors
--- client
local function try(opts)
    t.say(client:new():connect("ws://127.0.0.1:1/", opts))
end
for _, name in ipairs{ "server_name", "headers", "host", "key" } do
    for _, value in ipairs{ 1, true, name == "headers" and "A: b" or {} } do
        try{ [name] = value }
    end
end
try{ server_name = false }
try{ host = false }
try{ key = false }
--- response_body
nil "SSL server_name must be a string"
nil "SSL server_name must be a string"
nil "SSL server_name must be a string"
nil "custom headers must be a table"
nil "custom headers must be a table"
nil "custom headers must be a table"
nil "custom host header must be a string"
nil "custom host header must be a string"
nil "custom host header must be a string"
nil "custom Sec-WebSocket-Key must be a string"
nil "custom Sec-WebSocket-Key must be a string"
nil "custom Sec-WebSocket-Key must be a string"
nil "SSL server_name must be a string"
nil "custom host header must be a string"
nil "custom Sec-WebSocket-Key must be a string"



=== TEST 5: connect() with options that raise
--- client
local function try(opts, uri)
    t.say(t.raised(function ()
        client:new():connect(uri or "ws://127.0.0.1:1/", opts)
    end))
end
try("a string")
try(1)
try{ protocols = true }
try{ protocols = print }
try{ protocols = { "a", {} } }
try{ origin = {} }
try{ headers = { "A: b", true } }
try{ headers = { {} } }
try{ client_cert = "x" }
try{ pool = {} }
try{ pool_size = 0 }
try{ pool_size = -1 }
try{ pool_size = "many" }
try{ pool_size = 1, backlog = -1 }
--- response_body_like eval
my @lines = (
    'here: bad "opts" argument: table expected, got string',
    'here: bad "opts" argument: table expected, got number',
    'here: bad "protocols" option: string expected, got boolean',
    'here: bad "protocols" option: string expected, got function',
    'here: bad "protocols" option: no string at index 2',
    'here: bad "origin" option: string expected, got table',
    'here: bad "headers" option: no string at index 2',
    'here: bad "headers" option: no string at index 1',
    'client_priv_key must be provided with client_cert',
    qr/.*bad "pool" option type: table\)/,
    qr/.*bad "pool_size" option value: 0\)/,
    qr/.*bad "pool_size" option value: -1\)/,
    qr/.*bad "pool_size" option type: string\)/,
    qr/.*bad "backlog" option value: -1\)/,
);
'^' . CORE::join('', map { '"' . (ref $_ ? $_ : quotemeta) . "\"\n" } @lines) . '$'



=== TEST 6: the order in which options are looked at
--- client
local order = {
    { "protocols", true }, { "origin", {} }, { "client_cert", "x" }, { "server_name", 1 },
    { "headers", 1 }, { "host", 1 }, { "key", 1 }, { "pool", {} },
}
-- All of them are bad; then one after the other is put right.
local opts = {}
for _, option in ipairs(order) do
    opts[option[1]] = option[2]
end
t.say(client:new():connect("no uri", opts))
for _, option in ipairs(order) do
    local ok, res, err = pcall(client.connect, client:new(), "ws://127.0.0.1:1/", opts)
    t.say((ok and err or res):gsub("^.*: bad ", "bad "):gsub("^bad argument.*%((.*)%)$", "%1"))
    opts[option[1]] = nil
end
--- response_body_like eval
'^nil "bad websocket uri"
"bad "protocols" option: string expected, got boolean" \d
"bad "origin" option: string expected, got table" \d
"client_priv_key must be provided with client_cert" \d
"SSL server_name must be a string" \d
"custom headers must be a table" \d
"custom host header must be a string" \d
"custom Sec-WebSocket-Key must be a string" \d
"bad "pool" option type: table.*
$'



=== TEST 7: methods of what is no connected object
--- client
-- Called with a dot: the URI is taken for the object.
t.say(client.connect("ws://127.0.0.1/"))
local wb = client:new()
wb.sock = nil
t.say(wb:connect(url))
t.say(wb:recv_frame())
t.say(wb:send_text("x"))
t.say(wb:set_timeout(1))
t.say(wb:close())
t.say(wb:set_keepalive())
t.say(wb.fatal)

wb = client:new()
t.say(wb:set_keepalive())
t.say(wb:close())
t.say(wb.fatal, wb.closed)
wb = client:new()
t.say(wb:recv_frame())
t.say(wb.fatal)
wb = client:new()
t.say(wb:send_text("x"))
t.say(wb:send_text("x"))
t.say(wb:recv_frame())
t.say(wb:close())
--- response_body
nil "not initialized"
nil "not initialized"
nil nil "not initialized yet"
nil "not initialized yet"
nil nil "not initialized yet"
nil "not initialized"
nil "not initialized"
nil
nil "closed"
nil "failed to send close frame: failed to send frame: closed"
true true
nil nil "failed to receive the first 2 bytes: closed"
true
nil "failed to send frame: closed"
nil "fatal error already happened"
nil nil "fatal error already happened"
nil "fatal error already happened"



=== TEST 8: what cannot be connected to
--- client
t.say(client:new():connect("ws://127.0.0.1:1/"))
t.say(client:new():connect("ws://nowhere.test:1/"))
t.say(client:new():connect("ws://127.0.0.1:99999/"))
t.say(client:new():connect("ws://[/"))
t.say(client:new():connect("ws://unix:SOCK_DIR/nobody.sock:/"))
--- error_log
[crit]
--- response_body
nil "failed to connect: connection refused"
nil "failed to connect: no resolver defined to resolve "nowhere.test""
nil "failed to connect: bad port number: 99999"
nil "bad websocket uri"
nil "failed to connect: no such file or directory"



=== TEST 9: the object is of one request
--- config
    location = /use {
        content_by_lua_block {
            local t = require "t.rawpeer"
            ngx.say((t.raised(t.kept.recv_frame, t.kept):gsub("^resty.*lua:%d+: ", "")))
            ngx.say((t.raised(t.kept.send_text, t.kept, "x"):gsub("^resty.*lua:%d+: ", "")))
            ngx.say((t.raised(t.kept.connect, t.kept, "ws://127.0.0.1:1/"):gsub("^resty.*lua:%d+: ", "")))
        }
    }
--- server
t.accept(sock, "\x81\x05hello")
t.drain(sock)
--- client
t.kept = client:new()
assert(t.kept:connect(url, key))
ngx.print(ngx.location.capture("/use").body)
t.say(t.kept:recv_frame())
t.say(t.kept:close())
--- response_body
bad request
bad request
bad request
"hello" "text" nil
1



=== TEST 10: from a timer
--- server
t.accept(sock, "\x81\x05hello")
t.first = t.receive(sock)
--- client
ngx.timer.at(0, function ()
    local wb = client:new{ timeout = 20000 }
    assert(wb:connect(url, key))
    t.result = t.line(wb:recv_frame()) .. " " .. t.line(wb:close())
    t.post("timer")
end)
t.wait("timer")
t.await_servers()
ngx.say(t.result, " ", t.first)
--- response_body
"hello" "text" nil 1 136
