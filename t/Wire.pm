package t::Wire;

# WebSocket bytes and block shapes for the .t files: frames as clients and servers put them on
# the wire, the opening handshake, and a block preprocessor that builds nginx's configuration
# from shorter sections. Sections of its own:
#   handler   Lua code of a WebSocket handler; `wb` is the server object, report(...) a log line
#   options   Lua source of the table handed to server:new()
#   send      bytes (or an array of them, one packet each) that follow the request head at once
#   head      further header lines of that request
#   client    Lua code of a client of its own instead of `send`: `peer` is t/peer.lua
#   before    Lua code ahead of server:new()
#   refusal   Lua code for when that fails, with `err`; by default ngx.exit(444)
#   directives  of the handler's location
#   results   the lines the handler reported, in order
# Evaluated sections call the exported functions as ::masked(...). TEST_NGINX_SERVER_MODULE names
# another implementation to run the blocks against, such as lua-resty-websocket itself.

use strict;
use warnings;

use Digest::MD5 qw(md5_hex);
use Digest::SHA qw(sha1);
use MIME::Base64 qw(encode_base64);
use Exporter qw(import);
use t::Blocks;

our @EXPORT = qw(upgrade masked plain brief pattern bytewise accept_value complete_block
  log_above_info);

# RFC 6455 1.3's own example: the accept value is s3pPLMBiTxaQ9kYGzzhZRbK+xOo=.
my $KEY = 'dGhlIHNhbXBsZSBub25jZQ==';

# What RFC 6455 4.2.2 has the server answer to a key.
sub accept_value {
    return encode_base64(sha1(shift . '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'), '');
}

# The head of an opening handshake. A line given replaces the usual one of that name; a name
# alone ("Upgrade") leaves it out.
sub upgrade {
    my @lines = (
        'Host: localhost',
        'Upgrade: websocket',
        'Connection: Upgrade',
        "Sec-WebSocket-Key: $KEY",
        'Sec-WebSocket-Version: 13',
    );
    my %given = map { /\A([^:]+)/ ? (lc $1 => 1) : () } @_;
    my @kept = grep { /\A([^:]+)/ && !$given{lc $1} } @lines;
    return join "\r\n", 'GET /ws HTTP/1.1', @kept, (grep { /:/ } @_), '', '';
}

# A client's frame: first byte (FIN, RSV, opcode), payload, and perhaps the form of the length:
# 7, 16 or 64 bits, by default the shortest (RFC 6455 5.2).
sub masked {
    my ($first, $payload, $bits) = @_;
    my $key = "\x9a\x03\xf7\x51";
    return head($first, 0x80, length $payload, $bits) . $key . mask($key, $payload);
}

# A frame without a masking key, as servers send it.
sub plain {
    my ($first, $payload, $bits) = @_;
    return head($first, 0, length $payload, $bits) . $payload;
}

sub head {
    my ($first, $mask, $length, $bits) = @_;
    $bits //= $length < 126 ? 7 : $length < 65536 ? 16 : 64;
    return pack 'CC',  $first, $mask | $length if $bits == 7;
    return pack 'CCn', $first, $mask | 126, $length if $bits == 16;
    return pack 'CCQ>', $first, $mask | 127, $length;
}

sub mask {
    my ($key, $payload) = @_;
    my $pad = $key x (length($payload) / 4 + 1);
    return $payload ^ substr $pad, 0, length $payload;
}

# How report() shows a string: in quotes if it is short and printable, else by size and sum.
sub brief {
    my $string = shift;
    return "\"$string\"" if length $string <= 80 && $string !~ /[^\x20-\x7e]/;
    return length($string) . ' bytes ' . md5_hex($string);
}

# So many bytes of all values that repeat at no power of two.
sub pattern {
    my $length = shift;
    my $period = join '', map { chr } 0 .. 255, 1 .. 250;
    return substr $period x ($length / length($period) + 1), 0, $length;
}

# One packet per byte.
sub bytewise {
    return [split //, join '', @_];
}

# Matches a line above info that nginx logged about a connection.
sub log_above_info {
    return qr/\[(?:notice|warn|error|crit|alert|emerg)\].*(?:client: |\[lua\])/;
}

my $MODULE = $ENV{TEST_NGINX_SERVER_MODULE} // 'resty.websocket.server';

# Lua names of both sides.
my $NAMES = <<"END";
            local peer = require "t.peer"
            local SLOW = $SLOW
            local report = peer.report
END

# What every block says if it does not say otherwise.
sub complete_block {
    my $block = shift;
    add_http($block, '');
    if (defined $block->handler) {
        my ($options, $refusal) = ($block->options // 'nil', $block->refusal // 'ngx.exit(444)');
        add_handler(
            $block, $block->directives // '',
            names   => $NAMES,
            object  => 'wb',
            open    => qq{local wb, err = require("$MODULE"):new($options)},
            refused => 'report("new", err)',
            refusal => "return $refusal",
        );
    }
    if (defined $block->client) {
        add_client($block, $QUIET, $NAMES, 'peer.await_handlers()');
    } else {
        add_send($block, upgrade(split /\n/, $block->head // ''));
    }
    watch_log($block, log_above_info());
}

1;
