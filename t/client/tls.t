# resty.websocket.client over TLS: verification on and off, names asked for and sent, client
# certificates. The certificates are t/cert/make.sh's, made when they are missing.

use Test::Nginx::Socket::Lua;
use t::Client;

certificates();

# The server that every block has: three names on one port. `ws.test` (the default) tells what it
# was asked for and whom it talks to; `self.test` has a certificate that nobody signed; `mtls.test`
# wants one of the client.
add_block_preprocessor(sub {
    my $block = shift;
    my $server = <<'END';
        location = /s {
            content_by_lua_block {
                local wb = assert(require("resty.websocket.server"):new())
                local v = ngx.var
                wb:send_text("sni=" .. (v.ssl_server_name or "none") .. " host=" .. v.http_host
                             .. " client=" .. (v.ssl_client_s_dn or "none"))
                local data, typ = wb:recv_frame()
                if typ == "text" or typ == "binary" then
                    wb:send_binary(data)
                end
            }
        }
END
    $block->set_value(http_config => <<"END" . ($block->http_config // ''));
    server {
        listen TLS_PORT ssl default_server;
        @{[has_ipv6() ? 'listen [::1]:TLS_PORT ssl;' : '']}
        listen unix:SOCK_DIR/tls.sock ssl;
        server_name ws.test;
        ssl_certificate CERT_DIR/ws.test.pem;
        ssl_certificate_key CERT_DIR/ws.test.key.pem;
$server
    }
    server {
        listen TLS_PORT ssl;
        server_name self.test;
        ssl_certificate CERT_DIR/self-signed.pem;
        ssl_certificate_key CERT_DIR/self-signed.key.pem;
$server
    }
    server {
        listen TLS_PORT ssl;
        server_name mtls.test;
        ssl_certificate CERT_DIR/ws.test.pem;
        ssl_certificate_key CERT_DIR/ws.test.key.pem;
        ssl_verify_client on;
        ssl_client_certificate CERT_DIR/ca.pem;
$server
    }
END
    # `try`: option tables; each is tried, and what came of it is said.
    $block->set_value(client => <<"END" . $block->try) if defined $block->try;
            local tls = "wss://127.0.0.1:TLS_PORT/s"
            local function try(opts, url)
                local wb = client:new{ timeout = 20000 }
                local ok, err = wb:connect(url or tls, opts)
                if not ok then
                    t.say(ok, err)
                else
                    t.say(wb:recv_frame())
                    wb:close()
                end
            end
            local ssl = require "ngx.ssl"
            local function pem(name)
                local file = assert(io.open("CERT_DIR/" .. name .. ".pem"))
                return file:read("*a"), file:close()
            end
            local function client_cert(name, server_name)
                return {
                    host = server_name,
                    client_cert = assert(ssl.parse_pem_cert((pem(name)))),
                    client_priv_key = assert(ssl.parse_pem_priv_key((pem(name .. ".key")))),
                }
            end
END
    $block->set_value(directives => 'lua_ssl_trusted_certificate CERT_DIR/ca.pem;')
      if !defined $block->directives;
    complete_block($block);
});

our $PORT = server_port() + 2;
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: names asked for (SNI) and sent (Host)
--- try
try()
try{ server_name = "sni.test" }
try{ host = "host.test" }
try{ host = "host.test:8443" }
try{ host = "host.test", server_name = "sni.test" }
try({}, "wss://unix:SOCK_DIR/tls.sock:/s")
try({ host = "host.test" }, "wss://unix:SOCK_DIR/tls.sock:/s")
try({ server_name = "sni.test" }, "wss://unix:SOCK_DIR/tls.sock:/s")
--- response_body eval
qq{"sni=127.0.0.1 host=127.0.0.1:$::PORT client=none" "text" nil
"sni=sni.test host=127.0.0.1:$::PORT client=none" "text" nil
"sni=host.test host=host.test client=none" "text" nil
"sni=host.test:8443 host=host.test:8443 client=none" "text" nil
"sni=sni.test host=host.test client=none" "text" nil
"sni=unix:$ENV{TEST_NGINX_SERVER_ROOT}/html/tls.sock host=unix_sock client=none" "text" nil
"sni=host.test host=host.test client=none" "text" nil
"sni=sni.test host=unix_sock client=none" "text" nil
}



=== TEST 2: verified
--- try
try{ ssl_verify = true, server_name = "ws.test" }
try{ ssl_verify = true, host = "ws.test" }
try{ ssl_verify = 1, host = "other.test", server_name = "ws.test" }
--- response_body eval
qq{"sni=ws.test host=127.0.0.1:$::PORT client=none" "text" nil
"sni=ws.test host=ws.test client=none" "text" nil
"sni=ws.test host=other.test client=none" "text" nil
}



=== TEST 3: the certificate is for another name
--- try
try{ ssl_verify = true }
try{ ssl_verify = true, server_name = "other.test" }
try{ ssl_verify = true, server_name = "ws.test:8443" }
try{ ssl_verify = false, server_name = "other.test" }
--- response_body eval
qq{nil "ssl handshake failed: certificate host mismatch"
nil "ssl handshake failed: certificate host mismatch"
nil "ssl handshake failed: certificate host mismatch"
"sni=other.test host=127.0.0.1:$::PORT client=none" "text" nil
}



=== TEST 4: a certificate that nobody signed
--- directives
lua_ssl_trusted_certificate CERT_DIR/ca.pem;
lua_socket_log_errors on;
--- try
try{ ssl_verify = true, server_name = "self.test" }
try{ server_name = "self.test" }
--- response_body_like eval
qr{^nil "ssl handshake failed: 18: self.signed certificate"
"sni=self.test host=127.0.0.1:$::PORT client=none" "text" nil
$}
--- error_log eval
qr/lua ssl certificate verify error: \(18: self.signed certificate\)/



=== TEST 5: no authority is trusted unless the directive names one
--- directives
lua_socket_log_errors off;
--- try
try{ ssl_verify = true, server_name = "ws.test" }
--- response_body_like: ^nil "ssl handshake failed: 2[01]: unable to .*"\n$



=== TEST 6: a client certificate
--- try
try(client_cert("client", "mtls.test"))
try(client_cert("stranger", "mtls.test"))
try{ host = "mtls.test" }
try(client_cert("client", "ws.test"))
--- response_body eval
my $refused = 'nil "failed websocket handshake: unexpected response status: 400"';
qq{"sni=mtls.test host=mtls.test client=CN=client-one" "text" nil
$refused
$refused
"sni=ws.test host=ws.test client=none" "text" nil
}



=== TEST 7: a client certificate is not kept for the next connection of the same object
--- try
local wb = client:new{ timeout = 20000 }
t.say((wb:connect(tls, client_cert("client", "mtls.test"))))
t.say((wb:recv_frame()))
wb:close()
t.say((select(2, wb:connect(tls, { host = "mtls.test" }))))
--- response_body eval
qq{1
"sni=mtls.test host=mtls.test client=CN=client-one"
"failed websocket handshake: unexpected response status: 400"
}



=== TEST 8: what is no client certificate
--- try
local good = client_cert("client", "mtls.test")
try{ client_cert = "text", client_priv_key = good.client_priv_key }
try{ client_cert = good.client_cert, client_priv_key = "text" }
t.say(t.raised(client.connect, client:new(), tls, { client_cert = good.client_cert }))
-- The key alone is no certificate.
try{ client_priv_key = good.client_priv_key }
-- Without TLS it is not used.
try({ client_cert = "text", client_priv_key = "text" }, "ws://127.0.0.1:1/")
--- response_body eval
qq{nil "failed to set TLS client certificate: bad cert arg: cdata expected, got string"
nil "failed to set TLS client certificate: bad pkey arg: cdata expected, got string"
"client_priv_key must be provided with client_cert"
nil "failed to set TLS client certificate: client certificate must be supplied with corresponding private key"
nil "failed to connect: connection refused"
}



=== TEST 9: a peer that does not speak TLS
--- tcp_listen eval: ::mock_port()
--- tcp_reply eval: "HTTP/1.1 400 Bad Request\r\n\r\n"
--- try
local wb = client:new{ timeout = 20000 }
t.say(wb:connect("wss://127.0.0.1:MOCK_PORT/s"))
t.say(wb:send_text("x"))
t.say(wb:close())
--- response_body
nil "ssl handshake failed: handshake failed"
nil "already closed"
nil "closed"
--- no_error_log
[alert]
--- error_log
SSL_do_handshake() failed



=== TEST 10: a peer that says nothing
--- tcp_listen eval: ::mock_port()
--- tcp_reply
--- tcp_no_close
--- try
t.say(client:new{ timeout = 50 }:connect("wss://127.0.0.1:MOCK_PORT/s"))
--- response_body
nil "ssl handshake failed: timeout"



=== TEST 11: large frames over TLS, both ways
--- client
local wb = client:new{ timeout = 20000, max_payload_len = 65535 }
assert(wb:connect("wss://127.0.0.1:TLS_PORT/s", { ssl_verify = true, server_name = "ws.test" }))
wb:recv_frame()
local payload = ("0123456789abcdef"):rep(4095)
t.say(wb:send_text(payload))
local data, typ = wb:recv_frame()
t.say(data == payload, typ)
t.say(wb:close())
--- response_body
65528 nil
true "binary"
1



=== TEST 12: an IPv6 address is no name to ask for, but it is one to verify
--- skip_eval: 3: !t::Client::has_ipv6()
--- try
try({}, "wss://[::1]:TLS_PORT/s")
try({ host = "host.test" }, "wss://[::1]:TLS_PORT/s")
try({ ssl_verify = true }, "wss://[::1]:TLS_PORT/s")
try({ ssl_verify = true, server_name = "ws.test" }, "wss://[::1]:TLS_PORT/s")
--- response_body eval
qq{"sni=none host=[::1]:$::PORT client=none" "text" nil
"sni=host.test host=host.test client=none" "text" nil
nil "ssl handshake failed: certificate host mismatch"
"sni=ws.test host=[::1]:$::PORT client=none" "text" nil
}



=== TEST 13: an address is verified against the certificate's addresses
--- http_config
    server {
        listen MOCK_PORT ssl;
        ssl_certificate CERT_DIR/address.pem;
        ssl_certificate_key CERT_DIR/address.key.pem;
        location = /s {
            content_by_lua_block {
                local wb = assert(require("resty.websocket.server"):new())
                wb:send_text("sni=" .. (ngx.var.ssl_server_name or "none"))
                wb:recv_frame()
            }
        }
    }
--- try
try({ ssl_verify = true }, "wss://127.0.0.1:MOCK_PORT/s")
try({ ssl_verify = true, server_name = "::1" }, "wss://127.0.0.1:MOCK_PORT/s")
try({ ssl_verify = true, server_name = "127.0.0.2" }, "wss://127.0.0.1:MOCK_PORT/s")
try({ ssl_verify = true, host = "host.test" }, "wss://127.0.0.1:MOCK_PORT/s")
-- Unverified, an address is asked for as ever.
try({}, "wss://127.0.0.1:MOCK_PORT/s")
local ws, err = require("resty.websocket").connect("wss://127.0.0.1:MOCK_PORT/s")
t.say(ws and ws:recv(), err)
--- response_body
"sni=none" "text" nil
"sni=none" "text" nil
nil "ssl handshake failed: certificate host mismatch"
"sni=host.test" "text" nil
"sni=127.0.0.1" "text" nil
"sni=none" nil
