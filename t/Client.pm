package t::Client;

# Block shapes for the tests of resty.websocket.client and .protocol. A block's `client` is Lua
# code of a request handler; its peer is `server`, Lua code that has the connection as a raw
# socket, so that it answers whatever the test wants; or a mock server's tcp_* sections; or
# locations in `config`. Sections of its own:
#   client   Lua code; `client`, `protocol` and `t` (t/rawpeer.lua) are there, `url` leads to `server`
#   server   Lua code with `sock`, the raw socket, right after the request head was read
#   directives  of the location of `client`
# In text of these, HTTP_PORT, TLS_PORT and MOCK_PORT stand for the ports, CERT_DIR and SOCK_DIR
# for folders. TEST_NGINX_CLIENT_MODULE and TEST_NGINX_PROTOCOL_MODULE name another implementation
# to run the blocks against.

use strict;
use warnings;

use Cwd qw(getcwd);
use Exporter qw(import);
use IO::Socket::IP;
use Test::Nginx::Socket::Lua;

our @EXPORT = qw(complete_block mock_port response request_head certificates has_debug has_ipv6 $KEY $ACCEPT);

# RFC 6455 1.3's own example.
our $KEY    = 'dGhlIHNhbXBsZSBub25jZQ==';
our $ACCEPT = 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=';

sub mock_port { return server_port() + 1 }
sub tls_port  { return server_port() + 2 }

# A server's answer to $KEY. A line given replaces the usual one of that name, a name alone leaves
# it out; a first argument that begins with HTTP/ replaces the status line.
sub response {
    my $status = @_ && $_[0] =~ m{\AHTTP/} ? shift : 'HTTP/1.1 101 Switching Protocols';
    my @lines = ('Upgrade: websocket', 'Connection: Upgrade', "Sec-WebSocket-Accept: $ACCEPT");
    my %given = map { /\A([^:]+)/ ? (lc $1 => 1) : () } @_;
    my @kept = grep { /\A([^:]+)/ && !$given{lc $1} } @lines;
    return join "\r\n", $status, @kept, (grep { /:/ } @_), '', '';
}

# A request head of these lines.
sub request_head {
    return join "\r\n", @_, '', '';
}

# Whether [::1] can be listened on; not every container has it.
sub has_ipv6 {
    return defined IO::Socket::IP->new(LocalHost => '::1', Listen => 1);
}

# Whether nginx writes debug lines, among them those of ngx_lua that name a pool.
sub has_debug {
    my $nginx = $ENV{TEST_NGINX_BINARY} // 'nginx';
    return `PATH=\$PATH:/usr/sbin $nginx -V 2>&1` =~ /--with-debug\b/;
}

# Makes them if there are none.
sub certificates {
    system(getcwd() . '/t/cert/make.sh') == 0 or bail_out('t/cert/make.sh failed');
}

# Against hanging only; what a block waits for comes sooner, except under valgrind.
timeout($ENV{TEST_NGINX_USE_VALGRIND} ? 300 : 30);

my $CLIENT   = $ENV{TEST_NGINX_CLIENT_MODULE}   // 'resty.websocket.client';
my $PROTOCOL = $ENV{TEST_NGINX_PROTOCOL_MODULE} // 'resty.websocket.protocol';

sub complete_block {
    my $block = shift;

    my $path = getcwd();
    my $http = $block->http_config // '';
    my $config = $block->config // '';
    if (defined $block->client) {
        my $client     = $block->client;
        my $directives = $block->directives // '';
        $directives .= 'lua_socket_log_errors off;' if $directives !~ /lua_socket_log_errors/;
        $config .= <<"END";
    location = /t {
        $directives
        content_by_lua_block {
            local t = require "t.rawpeer"
            local client, protocol = require "$CLIENT", require "$PROTOCOL"
            local url = "ws://127.0.0.1:HTTP_PORT/s"
            local key = { key = "$KEY" }
$client
            t.await_servers()
        }
    }
END
        $block->set_value(request => "GET /t\n") if !defined $block->request;
    }
    if (defined $block->server) {
        my $server = $block->server;
        $config .= <<"END";
    location = /s {
        lua_socket_log_errors off;
        content_by_lua_block {
            local t = require "t.rawpeer"
            local sock = t.enter()
            local ok, err = pcall(function ()
$server
            end)
            t.leave(ok, err)
        }
    }
END
    }
    $http = qq{    lua_package_path "$path/?.lua;;";\n} . $http;

    for ($http, $config) {
        s/\bHTTP_PORT\b/server_port()/ge;
        s/\bMOCK_PORT\b/mock_port()/ge;
        s/\bTLS_PORT\b/tls_port()/ge;
        s{\bCERT_DIR\b}{$path/t/cert}g;
        s{\bSOCK_DIR\b}{$ENV{TEST_NGINX_SERVER_ROOT}/html}g;
    }
    $block->set_value(http_config => $http);
    $block->set_value(config => $config);

    $block->set_value(no_error_log => ['[error]'])
      if !defined $block->no_error_log && !defined $block->error_log;
}

1;
