# websocket.accept(): every option, and what it says to options of the wrong name or type. The
# effects of sizes and times have files of their own; here is that they are taken as given.

use Test::Nginx::Socket::Lua;
use t::Message;

add_block_preprocessor(sub { complete_message_block(@_) });
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: the least there is
--- handler
    report(ws.role, ws.protocol, ws.extensions, ws:state(), ws:buffered(), ws:close_info())
    report(ws:send("hello"))
    report(ws:recv())
--- send eval: ::masked(0x81, "hi")
--- response_headers
Upgrade: websocket
Connection: upgrade
Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=
! Sec-WebSocket-Protocol
! Sec-WebSocket-Extensions
! Content-Type
--- frames
text "hello"
close 1000 ""
--- results
"server" nil nil "open" 0
7
"hi" "text"



=== TEST 2: an empty table, and nil
--- options: {}
--- handler
    report(ws:recv())
    report(pcall(websocket.accept, nil))
--- send eval: ::masked(0x82, "\0")
--- results eval
::brief("\0") . qq{ "binary"\ntrue nil "response header already sent" 500\n}



=== TEST 3: the server's preference decides on the subprotocol
--- options: { protocols = { "v3", "v2", "v1" } }
--- handler: report(ws.protocol)
--- head
Sec-WebSocket-Protocol: v1, v2
--- response_headers
Sec-WebSocket-Protocol: v2
--- results
"v2"



=== TEST 4: the client's subprotocols on several lines, with odd white space
--- options: { protocols = { "v3", "v2" } }
--- handler: report(ws.protocol)
--- head eval
"Sec-WebSocket-Protocol: v1\nSec-WebSocket-Protocol: ,\tv2 ,\nSec-WebSocket-Protocol:v3"
--- response_headers
Sec-WebSocket-Protocol: v3
--- results
"v3"



=== TEST 5: no subprotocol in common: none is answered, and the handler decides
--- options: { protocols = { "v3", "V1" } }
--- handler: report(ws.protocol)
--- head
Sec-WebSocket-Protocol: v1, v2
--- response_headers
! Sec-WebSocket-Protocol
--- results
nil



=== TEST 6: a client's subprotocol without protocols of ours
--- handler: report(ws.protocol)
--- head
Sec-WebSocket-Protocol: v1
--- response_headers
! Sec-WebSocket-Protocol
--- results
nil



=== TEST 7: protocols as a single string
--- options: { protocols = "chat" }
--- handler: report(ws.protocol)
--- head
Sec-WebSocket-Protocol: superchat, chat
--- response_headers
Sec-WebSocket-Protocol: chat
--- results
"chat"



=== TEST 8: an allowed origin, in any case
--- options: { origins = { "https://other.test", "https://example.com" } }
--- handler: report(ws:state())
--- head
Origin: https://EXAMPLE.com
--- results
"open"



=== TEST 9: a wildcard takes hosts below a domain, with any scheme and port
--- options: { origins = { "*.example.com" } }
--- handler: report(ws:state())
--- head
Origin: http://a.b.example.com:8080
--- results
"open"



=== TEST 10: a request without Origin passes where origins are listed
--- options: { origins = "https://example.com" }
--- handler: report(ws:state())
--- results
"open"



=== TEST 11: any origin passes where none are listed, but there has to be one
--- options: { require_origin = true }
--- handler: report(ws:state())
--- head
Origin: null
--- results
"open"



=== TEST 12: further response headers
--- options: { headers = { ["X-One"] = "1", ["Set-Cookie"] = { "a=b", "c=d" } } }
--- handler: report(ws:state())
--- raw_response_headers_like: (?=.*\r\nX-One: 1\r\n)(?=.*\r\nSet-Cookie: a=b\r\n)(?=.*\r\nSet-Cookie: c=d\r\n)
--- results
"open"



=== TEST 13: headers cannot replace the handshake's own
--- options: { headers = { Upgrade = "h2c", ["Sec-WebSocket-Accept"] = "x", ["Sec-WebSocket-Extensions"] = "x", ["Content-Type"] = "text/x" } }
--- handler: report(ws:state())
--- response_headers
Upgrade: websocket
Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=
! Sec-WebSocket-Extensions
! Content-Type
--- results
"open"



=== TEST 14: sizes as numbers and in nginx's way
--- config
    location = /sizes {
        content_by_lua_block {
            for _, size in ipairs { 64, "64", "64k", "64K", "1m", "1M", "1g", 0, 0.5, -1, "64kb", "k", "", " 1", "-1", "1.5k", 0/0 } do
                local _, fault = pcall(require("resty.websocket").accept, { max_message_size = size })
                ngx.say(type(size), " ", tostring(size), ": ", (tostring(fault):gsub("^.-%.lua:%d+: ", "")))
            end
        }
    }
--- request
GET /sizes
--- response_body
number 64: nil
string 64: nil
string 64k: nil
string 64K: nil
string 1m: nil
string 1M: nil
string 1g: nil
number 0: bad "max_message_size" option: size in bytes expected, got 0
number 0.5: bad "max_message_size" option: size in bytes expected, got 0.5
number -1: bad "max_message_size" option: size in bytes expected, got -1
string 64kb: bad "max_message_size" option: size in bytes expected, got string
string k: bad "max_message_size" option: size in bytes expected, got string
string : bad "max_message_size" option: size in bytes expected, got string
string  1: bad "max_message_size" option: size in bytes expected, got string
string -1: bad "max_message_size" option: size in bytes expected, got string
string 1.5k: bad "max_message_size" option: size in bytes expected, got string
number nan: bad "max_message_size" option: size in bytes expected, got nan



=== TEST 15: unknown options, with the list of those there are
--- config
    location = /try {
        content_by_lua_block {
            local accept = require("resty.websocket").accept
            local function try(opts)
                local _, err = pcall(accept, opts)
                ngx.say((tostring(err):gsub("^.-:%d+: ", "")))
            end
            try { maxpayload = 1 }
            try { [1] = "protocols" }
            try { compression = { lvl = 1 } }
            try { compression = { 9 } }
        }
    }
--- request
GET /try
--- response_body
unknown option "maxpayload" (known: compression, headers, max_frame_size, max_message_size, origins, ping_interval, ping_timeout, protocols, require_origin, send_timeout, timeout)
unknown option "1" (known: compression, headers, max_frame_size, max_message_size, origins, ping_interval, ping_timeout, protocols, require_origin, send_timeout, timeout)
unknown option "compression.lvl" (known: level, threshold, server_no_context_takeover, client_no_context_takeover, server_max_window_bits, client_max_window_bits)
unknown option "compression.1" (known: level, threshold, server_no_context_takeover, client_no_context_takeover, server_max_window_bits, client_max_window_bits)



=== TEST 16: values of the wrong type name the option
--- config
    location = /try {
        content_by_lua_block {
            local accept = require("resty.websocket").accept
            local function try(opts)
                local _, err = pcall(accept, opts)
                ngx.say((tostring(err):gsub("^.-:%d+: ", "")))
            end
            try("text")
            try(1)
            for _, name in ipairs { "protocols", "origins" } do
                try { [name] = 1 }
                try { [name] = { "a", 1 } }
            end
            try { require_origin = 1 }
            try { headers = "X-One: 1" }
            try { headers = { "X-One: 1" } }
            try { headers = { ["X-One"] = true } }
            try { headers = { ["X-One"] = { "a", {} } } }
            for _, name in ipairs { "timeout", "send_timeout", "ping_interval", "ping_timeout" } do
                try { [name] = "1s" }
                try { [name] = -1 }
                try { [name] = 2^31 }
                try { [name] = 0/0 }
            end
            try { max_message_size = true }
            try { max_frame_size = {} }
            try { compression = 1 }
            try { compression = "on" }
            try { compression = { level = 0 } }
            try { compression = { level = 10 } }
            try { compression = { level = "6" } }
            try { compression = { level = 1.5 } }
            try { compression = { threshold = -1 } }
            try { compression = { server_no_context_takeover = 1 } }
            try { compression = { client_no_context_takeover = "on" } }
            try { compression = { server_max_window_bits = 7 } }
            try { compression = { client_max_window_bits = 16 } }
        }
    }
--- request
GET /try
--- response_body
bad "opts" argument: table expected, got string
bad "opts" argument: table expected, got number
bad "protocols" option: array of strings expected, got 1
bad "protocols" option: array of strings expected, got 1
bad "origins" option: array of strings expected, got 1
bad "origins" option: array of strings expected, got 1
bad "require_origin" option: boolean expected, got 1
bad "headers" option: table expected, got string
bad "headers" option: names as keys expected, got 1
bad "headers.X-One" option: string expected, got boolean
bad "headers.X-One" option: string expected, got table
bad "timeout" option: milliseconds expected, got string
bad "timeout" option: milliseconds expected, got -1
bad "timeout" option: milliseconds expected, got 2147483648
bad "timeout" option: milliseconds expected, got nan
bad "send_timeout" option: milliseconds expected, got string
bad "send_timeout" option: milliseconds expected, got -1
bad "send_timeout" option: milliseconds expected, got 2147483648
bad "send_timeout" option: milliseconds expected, got nan
bad "ping_interval" option: milliseconds expected, got string
bad "ping_interval" option: milliseconds expected, got -1
bad "ping_interval" option: milliseconds expected, got 2147483648
bad "ping_interval" option: milliseconds expected, got nan
bad "ping_timeout" option: milliseconds expected, got string
bad "ping_timeout" option: milliseconds expected, got -1
bad "ping_timeout" option: milliseconds expected, got 2147483648
bad "ping_timeout" option: milliseconds expected, got nan
bad "max_message_size" option: size in bytes expected, got boolean
bad "max_frame_size" option: size in bytes expected, got table
bad "compression" option: boolean or table expected, got 1
bad "compression" option: boolean or table expected, got string
bad "compression.level" option: 1 to 9 expected, got 0
bad "compression.level" option: 1 to 9 expected, got 10
bad "compression.level" option: 1 to 9 expected, got string
bad "compression.level" option: 1 to 9 expected, got 1.5
bad "compression.threshold" option: 0 to 2147483647 expected, got -1
bad "compression.server_no_context_takeover" option: boolean expected, got 1
bad "compression.client_no_context_takeover" option: boolean expected, got string
bad "compression.server_max_window_bits" option: 8 to 15 expected, got 7
bad "compression.client_max_window_bits" option: 8 to 15 expected, got 16



=== TEST 17: errors of options are the caller's line
--- config
    location = /try {
        content_by_lua_block {
            local accept = require("resty.websocket").accept
            local function try(opts)
                accept(opts) return 1
            end
            for _, opts in ipairs { { x = 1 }, { timeout = "x" }, { max_frame_size = {} }, { protocols = 1 }, { compression = { level = 77 } }, { compression = { x = 1 } } } do
                local _, err = pcall(try, opts)
                ngx.say((tostring(err):gsub("^content_by_lua%b():%d+: .*", "here")))
            end
            local _, err = pcall(try, 1)
            ngx.say((tostring(err):gsub("^content_by_lua%b():%d+: .*", "here")))
        }
    }
--- request
GET /try
--- response_body
here
here
here
here
here
here
here



=== TEST 18: a second accept of the same request
--- handler
    local again, err, status = websocket.accept()
    report(again, err, status)
    local wb
    wb, err = require("resty.websocket.server"):new()
    report(wb, err)
    report(ws:send("still here"))
--- frames
text "still here"
close 1000 ""
--- results
nil "response header already sent" 500
nil "response header already sent"
12



=== TEST 19: after a response of another kind
--- directives: keepalive_timeout 0;
--- before
    ngx.say("hello")
    ngx.flush(true)
--- refusal
    report(status)
    return ngx.say("over")
--- handler
--- error_code: 200
--- response_body_like: hello[\s\S]*over
--- results
"refused" "response header already sent" 500
500



=== TEST 20: ids differ, and look like nothing else
--- directives: add_header X-Request-Id $request_id;
--- client
    local a, b = peer.connect(), peer.connect()
    local _, first = a:receive()
    local _, second = b:receive()
    peer.say(first ~= second, #first == #second, first:match("^[%w_-]+$") ~= nil)
    a:close()
    b:close()
--- handler
    ws:send(ws.id)
    report(type(ws.id), ws.request_id == ngx.var.request_id)
    ws:recv()
--- response_body
true true true
--- results
"string" true
"string" true



=== TEST 21: the body of the request is no message
--- handler
    report(ws:recv())
--- head
Content-Length: 4
--- send eval: "body" . ::masked(0x81, "message")
--- results
"message" "text"



=== TEST 22: a handler in the rewrite phase
--- config
    location = /ws {
        rewrite_by_lua_block {
            local ws = require("resty.websocket").accept()
            local peer = require("t.peer")
            peer.report(peer.trimmed(ws:recv()))
            ws:send("rewrite")
            ngx.exit(444)
        }
    }
--- send eval: ::masked(0x81, "message")
--- frames
text "rewrite"
--- results
"message" "text"



=== TEST 23: phases that cannot send a response
--- config
    location = /ws {
        keepalive_timeout 0;
        content_by_lua_block { ngx.say("x") }
        header_filter_by_lua_block {
            local ok, err = pcall(require("resty.websocket").accept)
            ngx.log(ngx.INFO, "result: ", tostring(ok), " ", (tostring(err):gsub("^.-:%d+: ", "")))
        }
        log_by_lua_block {
            local ok, err = pcall(require("resty.websocket").accept)
            ngx.log(ngx.INFO, "result: ", tostring(ok), " ", (tostring(err):gsub("^.-:%d+: ", "")))
        }
    }
--- error_code: 200
--- grep_error_log eval: qr/(?<=result: ).*?(?= while |, client: )/
--- grep_error_log_out
false API disabled in the context of header_filter_by_lua*
true nil
