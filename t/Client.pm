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
use t::Blocks;

our @EXPORT = qw(complete_block mock_port response request_head certificates has_debug has_ipv6 $KEY $ACCEPT);

# RFC 6455 1.3's own example.
our $KEY    = 'dGhlIHNhbXBsZSBub25jZQ==';
our $ACCEPT = 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=';

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
    add_client($block, quietly($block), <<"END", 't.await_servers()') if defined $block->client;
            local t = require "t.rawpeer"
            local client, protocol = require "$CLIENT", require "$PROTOCOL"
            local url = "ws://127.0.0.1:HTTP_PORT/s"
            local key = { key = "$KEY" }
END
    my $server = $block->server;
    add_location($block, '/s', $QUIET, <<"END") if defined $server;
            local t = require "t.rawpeer"
            local sock = t.enter()
            local ok, err = pcall(function ()
$server
            end)
            t.leave(ok, err)
END
    add_http($block, '');
    fill_in($block);
    watch_log($block, '[error]');
}

1;
