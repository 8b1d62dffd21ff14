package t::Message;

# Block shapes for the tests of resty.websocket, beside t::Wire (bytes) and t::Client (raw servers).
# Sections of its own:
#   handler   Lua code of a WebSocket handler; `ws` is what accept() returned, report(...) a log line
#   options   Lua source of the table handed to accept()
#   before    Lua code ahead of accept()
#   refusal   Lua code for when it fails, with `err` and `status`; by default ngx.exit(status)
#   send      bytes (or an array of them, one packet each) that follow the request head at once
#   head      further header lines of that request
#   client    Lua code of a client instead of `send`: `peer` is t/peer.lua, `websocket` the module,
#             say(...) a line of the response
#   directives  of the handler's location
#   frames    what the handler's side sent, a line for each frame (see `listed`)
#   results   the lines the handler reported, in order
#   info      a line of the info log that has to be there
# Unless a block says otherwise nothing above info may be logged.

use strict;
use warnings;

use Compress::Raw::Zlib;
use Exporter qw(import);
use t::Blocks;
use t::Wire qw(upgrade masked plain brief pattern bytewise log_above_info);

our @EXPORT = qw(upgrade masked plain brief pattern bytewise deflated listed complete_message_block);

# A message's payload by RFC 7692 7.2.1: raw DEFLATE, flushed, without the last four bytes.
sub deflated {
    my ($data, %more) = @_;
    my ($z, $status) = Compress::Raw::Zlib::Deflate->new(
        -WindowBits => -($more{bits} // 15), -AppendOutput => 1, -Bufsize => 65536);
    $status == Z_OK or die "deflate: $status";
    my $out = '';
    $z->deflate($data, $out) == Z_OK or die 'deflate';
    $z->flush($out, Z_SYNC_FLUSH) == Z_OK or die 'deflate';
    return substr $out, 0, -4;
}

my %names = (0 => 'continuation', 1 => 'text', 2 => 'binary', 8 => 'close', 9 => 'ping', 10 => 'pong');

# Frames as a server sends them, a line each: opcode, payload; `...` for a frame without FIN,
# `deflated` (and what it inflates to, in one window for all) for RSV1; a close frame's code.
sub listed {
    my $bytes = shift // return '';
    my $inflate = Compress::Raw::Zlib::Inflate->new(
        -WindowBits => -15, -AppendOutput => 1, -ConsumeInput => 0);
    my @lines;
    while (length $bytes) {
        return join "\n", @lines, brief($bytes), '' if length $bytes < 2;
        my ($first, $length) = unpack 'CC', $bytes;
        my $at = 2;
        ($length, $at) = (unpack('x2n', $bytes), 4)   if $length == 126;
        ($length, $at) = (unpack('x2Q>', $bytes), 10) if $length == 127;
        return join "\n", @lines, 'not a frame: ' . brief($bytes), ''
          if $length > 127 && $at == 2 || $at + $length > length $bytes;
        my $payload = substr $bytes, $at, $length;
        $bytes = substr $bytes, $at + $length;
        my $line = $names{$first & 0x0f} // sprintf 'opcode %d', $first & 0x0f;
        if ($first & 0x40) {
            my ($input, $out) = ("$payload\x00\x00\xff\xff", '');
            my $status = $inflate->inflate($input, $out);
            $line .= ' deflated' . ($status == Z_OK || $status == Z_BUF_ERROR ? '' : " ($status)");
            $payload = $out;
        }
        $line .= ' ...' if !($first & 0x80);
        $line .= ' rsv' if $first & 0x30;
        if (($first & 0x0f) == 8 && length $payload >= 2) {
            $line .= ' ' . unpack 'n', $payload;
            $payload = substr $payload, 2;
        }
        push @lines, "$line " . brief($payload);
    }
    return join "\n", @lines, '';
}

# Lua names of both sides.
my $NAMES = <<"END";
            local peer = require "t.peer"
            local SLOW = $SLOW
            local websocket = require "resty.websocket"
            local function report(...)
                return peer.report(peer.trimmed(...))
            end
            local function say(...)
                return peer.say(peer.trimmed(...))
            end
END

sub complete_message_block {
    my $block = shift;
    # The default heartbeat would ping at random: no block waits for that without saying so.
    my $pings = ($block->http_config // '') =~ /websocket_ping_interval/;
    add_http($block, $pings ? '' : 'websocket_ping_interval 0;');
    if (defined $block->handler) {
        my $options = $block->options // '';
        add_handler(
            $block, quietly($block),
            names   => $NAMES,
            object  => 'ws',
            open    => "local ws, err, status = websocket.accept($options)",
            refused => 'report("refused", err, status)',
            refusal => $block->refusal // 'return ngx.exit(status)',
        );
    }
    if (defined $block->client) {
        add_client($block, $QUIET, $NAMES, 'peer.await_handlers()');
    } else {
        add_send($block, upgrade(split /\n/, $block->head // ''));
    }
    if (defined(my $frames = $block->frames)) {
        $block->set_value(response_body_filters => \&listed);
        $block->set_value(response_body         => $frames);
    }
    $block->set_value(no_error_log => [log_above_info()]) if !defined $block->no_error_log;
    watch_log($block, log_above_info());
}

1;
