# websocket.proxy: upstreams of every kind: upstream blocks with their balancers, unix sockets, IPv6, TLS.

use Test::Nginx::Socket::Lua;
use t::Proxy;
use t::Client qw(certificates has_ipv6);

certificates();
add_block_preprocessor(sub { complete_proxy_block(@_) });
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: an upstream block: its peers in turn, the next where one is dead
--- http_config
    upstream chat {
        server 127.0.0.1:1 max_fails=0;
        server 127.0.0.1:HTTP_PORT max_fails=0;
    }
--- lua: { upstream = "chat", url = "ws://chat/up?x" }
--- upstream
    report(ngx.var.http_host, ngx.var.args)
--- client
    for _ = 1, 3 do
        listen(peer.connect())
    end
--- response_body
close 1000 
closed
close 1000 
closed
close 1000 
closed
--- error_log
result: "chat" "x"
result: "done" true nil 1000 "" 1000 ""
--- no_error_log
[alert]



=== TEST 2: without a URL: the block's name is the host, path and query are the client's
--- http_config
    upstream chat {
        least_conn;
        server 127.0.0.1:HTTP_PORT;
    }
--- config
    location /own/ {
        if ($http_x_forwarded_for) {
            content_by_lua_block {
                local ws = require("resty.websocket").accept()
                ws:send(ngx.var.http_host .. ngx.var.request_uri)
            }
        }
        content_by_lua_block { require("resty.websocket").proxy { upstream = "CHAT" } }
    }
--- client
    listen(peer.connect("", "/own/a%20b?c=%64"))
    listen(peer.connect("", "/own/?at=unix:d"))
--- response_body
text CHAT/own/a%20b?c=%64
close 1000 
closed
text CHAT/own/?at=unix:d
close 1000 
closed



=== TEST 3: balancer_by_lua chooses, tries again, and leaves the handler as it is
--- http_config
    lua_shared_dict tries 1m;
    upstream picked {
        server 0.0.0.1;
        balancer_by_lua_block {
            local balancer = require "ngx.balancer"
            local tries = ngx.shared.tries:incr("n", 1, 0)
            if tries % 2 == 1 then
                assert(balancer.set_more_tries(1))
                assert(balancer.set_current_peer("127.0.0.1", 1))
            else
                assert(balancer.set_current_peer("127.0.0.1", ngx.var.server_port))
            end
        }
    }
--- lua
    (function ()
        ngx.ctx.mine = "kept"
        local woken = ngx.thread.spawn(function () ngx.sleep(0.01) report("still here", ngx.ctx.mine) end)
        return { upstream = "picked", url = "ws://picked/up", on_open = function () ngx.thread.wait(woken) end }
    end)()
--- upstream
    report(ngx.var.http_host, ngx.shared.tries:get("n") % 2)
    ws:recv()
--- client
    local p = peer.connect(peer.frame(0x81, "x"))
    listen(p)
--- response_body
close 1000 
closed
--- error_log
result: "picked" 0
result: "still here" "kept"
result: "done" true nil 1000 "" 1000 ""
--- no_error_log
[alert]



=== TEST 4: nobody left, a balancer that fails, and a block that is not there
--- http_config
    upstream dead { server 127.0.0.1:1 max_fails=1; server 127.0.0.1:1 down; }
    upstream failing {
        server 0.0.0.1;
        balancer_by_lua_block { error("oops") }
    }
--- config
    location /to/ {
        content_by_lua_block {
            local ok, err, status = require("resty.websocket").proxy { upstream = ngx.var.uri:sub(5) }
            ngx.ctx.said = tostring(err) .. " " .. tostring(status)
            ngx.exit(status)
        }
        header_filter_by_lua_block { ngx.header.X_Said = ngx.ctx.said }
    }
--- client
    peer.connect("", "/to/dead"):close()
    for _, name in ipairs { "dead", "failing", "absent" } do
        local p = peer.connect("", "/to/" .. name)
        ngx.say(p.head:match("[^\r]*"), "; ", p.head:match("X%-Said: ([^\r]*)"))
        p:close()
    end
--- response_body
HTTP/1.1 502 Bad Gateway; no live upstreams 502
HTTP/1.1 502 Bad Gateway; the upstream's balancer failed 502
HTTP/1.1 500 Internal Server Error; nil
--- error_log
oops
bad "upstream" option: no upstream block "absent"



=== TEST 5: a refusal is an answer: no other peer is asked
--- http_config
    upstream chat { server 127.0.0.1:HTTP_PORT max_fails=0; server 127.0.0.1:1 backup; }
--- config
    location = /401 { content_by_lua_block { ngx.status = 401 ngx.print("no") } }
--- lua: { upstream = "chat", url = "ws://chat/401" }
--- client
    local p = peer.connect()
    ngx.say(p.head:match("[^\r]*"))
    p:close()
--- response_body
HTTP/1.1 401 Unauthorized
--- results
"done" nil "upstream refused" 401



=== TEST 6: a connection that keepalive has kept is not used
--- http_config
    upstream chat {
        server 127.0.0.1:HTTP_PORT;
        keepalive 4;
    }
--- config
    location = /fill { proxy_pass http://chat/plain; proxy_http_version 1.1; proxy_set_header Connection ""; }
    location = /plain { return 200 "plain"; }
--- lua: { upstream = "chat", url = "ws://chat/up" }
--- upstream
    report(ngx.var.connection_requests)
--- client
    local p = peer.connect("", "/fill")
    p:close()
    listen(peer.connect())
--- response_body
close 1000 
closed
--- results
"1"
"done" true nil 1000 "" 1000 ""



=== TEST 7: a unix socket, as URL and in a block
--- http_config
    server {
        listen unix:SOCK_DIR/up.sock;
        location / {
            content_by_lua_block {
                local ws = assert(require("resty.websocket").accept())
                ws:send(ngx.var.http_host .. ngx.var.request_uri)
            }
        }
    }
    upstream local { server unix:SOCK_DIR/up.sock; }
--- config
    location = /block {
        content_by_lua_block { require("resty.websocket").proxy { upstream = "local" } }
    }
--- lua: { url = "ws://unix:SOCK_DIR/up.sock:/deep?x" }
--- client
    listen(peer.connect())
    listen(peer.connect("", "/block?y"))
--- response_body
text unix_sock/deep?x
close 1000 
closed
text local/block?y
close 1000 
closed
--- results
"done" true nil 1000 "" 1000 ""



=== TEST 8: IPv6, as URL and in a block
--- skip_eval: 3: !::has_ipv6()
--- http_config
    server {
        listen [::1]:TLS_PORT;
        location / {
            content_by_lua_block {
                local ws = assert(require("resty.websocket").accept())
                ws:send(ngx.var.server_addr)
            }
        }
    }
    upstream six { server [::1]:TLS_PORT; }
--- config
    location = /block {
        content_by_lua_block { require("resty.websocket").proxy { upstream = "six" } }
    }
--- lua: { url = "ws://[::1]:TLS_PORT/" }
--- client
    listen(peer.connect())
    listen(peer.connect("", "/block"))
--- response_body
text ::1
close 1000 
closed
text ::1
close 1000 
closed
--- results
"done" true nil 1000 "" 1000 ""



=== TEST 9: wss: verified by name and authority, with a certificate of our own, through a block
--- http_config
    server {
        listen TLS_PORT ssl;
        ssl_certificate CERT_DIR/ws.test.pem;
        ssl_certificate_key CERT_DIR/ws.test.key.pem;
        ssl_client_certificate CERT_DIR/ca.pem;
        ssl_verify_client optional;
        location / {
            content_by_lua_block {
                local ws = assert(require("resty.websocket").accept())
                ws:send(ngx.var.ssl_client_verify .. " " .. ngx.var.ssl_server_name)
            }
        }
    }
    upstream ws.test { server 127.0.0.1:TLS_PORT; }
    lua_ssl_trusted_certificate CERT_DIR/ca.pem;
--- config
    location /wss/ {
        content_by_lua_block {
            local function read(name)
                local file = assert(io.open("CERT_DIR/" .. name))
                local text = file:read("*a")
                file:close()
                return text
            end
            local ssl = require "ngx.ssl"
            local name = ngx.var.uri:sub(6)
            local opts = { url = "wss://127.0.0.1:TLS_PORT/", server_name = "ws.test" }
            if name == "own" then
                opts.client_cert = assert(ssl.parse_pem_cert(read("client.pem")))
                opts.client_priv_key = assert(ssl.parse_pem_priv_key(read("client.key.pem")))
            elseif name == "block" then
                opts = { upstream = "ws.test", url = "wss://ws.test/" }
            elseif name == "name" then
                opts.server_name = "other.test"
            elseif name == "any" then
                opts.server_name, opts.ssl_verify = "any.test", false
            end
            local ok, err, status = require("resty.websocket").proxy(opts)
            if not ok then
                return ngx.exit(status)
            end
        }
    }
--- client
    for _, name in ipairs { "plain", "own", "block", "any" } do
        listen(peer.connect("", "/wss/" .. name))
    end
    local p = peer.connect("", "/wss/name")
    ngx.say(p.head:match("[^\r]*"))
    p:close()
--- response_body
text NONE ws.test
close 1000 
closed
text SUCCESS ws.test
close 1000 
closed
text NONE ws.test
close 1000 
closed
text NONE any.test
close 1000 
closed
HTTP/1.1 502 Bad Gateway
--- error_log
lua ssl certificate does not match host "other.test"



=== TEST 10: balancer_by_lua hears how the last peer has failed, and makes the request anew
--- http_config eval: $t::Proxy::ANEW
--- lua: { upstream = "picked", url = "ws://picked/up" }
--- upstream
    report(ngx.var.http_host)
--- client
    listen(peer.connect())
--- response_body
close 1000 
closed
--- error_log
result: failed 502
result: "picked"
result: "done" true nil 1000 "" 1000 ""
--- no_error_log
[alert]



=== TEST 11: variables tell who was asked, and what the answer was
--- http_config
    upstream chat { server 127.0.0.1:1 max_fails=0; server 127.0.0.1:HTTP_PORT backup; }
    upstream dead { server 127.0.0.1:1 down; }
--- config
    log_by_lua_block {
        local v = ngx.var
        if v.websocket_upstream_addr then
            ngx.log(ngx.INFO, "result: ", v.websocket_upstream_addr, "; ", v.websocket_upstream_status, "; ",
                    v.upstream_addr == v.websocket_upstream_addr, ", client: ")
        end
    }
    location = /up { content_by_lua_block { require("resty.websocket").accept() } }
    location = /401 { return 401; }
    location = /again { proxy_pass http://127.0.0.1:HTTP_PORT/401; }
    location /to/ {
        content_by_lua_block {
            local here = "ws://127.0.0.1:HTTP_PORT"
            local opts = {
                up = { url = here .. "/up" }, no = { url = here .. "/401" },
                block = { upstream = "chat", url = "ws://chat/up" }, dead = { upstream = "dead" },
                refused = { url = "ws://127.0.0.1:1/" },
            }
            local _, err, status = require("resty.websocket").proxy(opts[ngx.var.uri:sub(5)])
            if err == "no live upstreams" then
                return ngx.exec("/again")
            end
            return err ~= "upstream refused" and ngx.exit(tonumber(status) or 0)
        }
    }
--- client
    for _, to in ipairs { "up", "block" } do
        peer.connect("", "/to/" .. to):rest()
    end
    for _, to in ipairs { "no", "refused", "dead" } do
        peer.connect("", "/to/" .. to):close()
    end
--- response_body
--- error_log eval
[qr{result: 127.0.0.1:\d+; 101; true},
 qr{result: 127.0.0.1:1, 127.0.0.1:\d+; 502, 101; true},
 qr{result: 127.0.0.1:\d+; 401; true},
 qr{result: 127.0.0.1:1; 502; true},
 qr{result: dead : 127.0.0.1:\d+; 502 : 401; true}]
--- no_error_log
[alert]
