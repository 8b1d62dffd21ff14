package t::Blocks;

# What the block shapes of t::Wire, t::Message and t::Client have in common: the locations in which
# their Lua code runs, the bytes of a request, where Lua finds t/, what the log has to have. Each of
# those modules is a preprocessor made of these, with its own sections.

use strict;
use warnings;

use Cwd qw(getcwd);
use Exporter qw(import);
use Test::Nginx::Socket::Lua;

our @EXPORT = qw(add_http add_location add_handler add_client add_send fill_in watch_log quietly
  mock_port $QUIET $SLOW);

our $QUIET = 'lua_socket_log_errors off;';

# What times are multiplied with that are made for a machine of usual speed; also in Lua code.
our $SLOW = $ENV{TEST_NGINX_USE_VALGRIND} ? 5 : 1;

sub mock_port { return server_port() + 1 }
sub tls_port  { return server_port() + 2 }

# Directives of http ahead of the block's own. Lua finds t/ by require.
sub add_http {
    my ($block, $directives) = @_;
    my $path = getcwd();
    $block->set_value(http_config => qq{    lua_package_path "$path/?.lua;;"; $directives\n}
          . ($block->http_config // ''));
}

# A location behind the block's own config.
sub add_location {
    my ($block, $path, $directives, $code) = @_;
    $block->set_value(config => ($block->config // '') . <<"END");
    location = $path {
        $directives
        content_by_lua_block {
$code
        }
    }
END
}

# The section `directives` of a location whose sockets log no errors, unless the block says so.
sub quietly {
    my $directives = shift->directives // '';
    return $directives if $directives =~ /lua_socket_log_errors/;
    return "$QUIET $directives";
}

# The location /ws of a WebSocket handler, t/peer.lua's other side: `object` is what `open`, the Lua
# code of the upgrade, makes; where it makes none `refused` is run, and then `refusal`.
sub add_handler {
    my ($block, $directives, %lua) = @_;
    my ($before, $handler) = ($block->before // '', $block->handler);
    add_location($block, '/ws', $directives, <<"END");
$lua{names}
            peer.enter()
            $before
            $lua{open}
            if not $lua{object} then
                $lua{refused}
                peer.leave()
                $lua{refusal}
            end
            (function ()
$handler
            end)()
            peer.leave()
END
}

# The location /t, which the block requests: Lua code of a client between the names it uses and the wait
# for its other side.
sub add_client {
    my ($block, $directives, $names, $end) = @_;
    my $client = $block->client;
    add_location($block, '/t', $directives, "$names$client\n            $end");
    $block->set_value(request => "GET /t\n") if !defined $block->request;
}

# The request where there is no client: an opening handshake and the section `send`, in packets.
sub add_send {
    my ($block, $handshake) = @_;
    return if defined $block->request || defined $block->raw_request;
    my $send = $block->send // '';
    my ($first, @more) = ref $send ? @$send : $send;
    my $head = $handshake . ($first // '');
    $block->set_value(raw_request => @more ? [$head, @more] : $head);
    $block->set_value(error_code => 101) if !defined $block->error_code;
}

# Ports and folders in the configuration.
sub fill_in {
    my $block = shift;
    my $path = getcwd();
    for my $section (qw(http_config config)) {
        my $text = $block->$section // '';
        $text =~ s/\bHTTP_PORT\b/server_port()/ge;
        $text =~ s/\bMOCK_PORT\b/mock_port()/ge;
        $text =~ s/\bTLS_PORT\b/tls_port()/ge;
        $text =~ s{\bCERT_DIR\b}{$path/t/cert}g;
        $text =~ s{\bSOCK_DIR\b}{$ENV{TEST_NGINX_SERVER_ROOT}/html}g;
        $block->set_value($section => $text);
    }
}

# The log: the handler's `results` in order, the line `info` has to be there, and nothing that
# matches `bad` unless the block itself looks at the log.
sub watch_log {
    my ($block, $bad) = @_;
    if (defined(my $results = $block->results)) {
        $block->set_value(grep_error_log     => qr/(?<=result: ).*?(?=, client: )/);
        $block->set_value(grep_error_log_out => $results);
    }
    $block->set_value(no_error_log => [$bad])
      if !defined $block->no_error_log && !defined $block->error_log;
    $block->set_value(error_log => [split /\n/, $block->info]) if defined $block->info;
}

1;
