package Test::Nginx::Runner::Request;

# What a block sends: turns the sections request, raw_request, pipelined_requests and
# more_headers into a list of requests. Each request is a list of packets, a packet is a hash
# with `value` (the bytes) and perhaps `delay_before` (seconds). Called by
# Test::Nginx::Runner::Exchange.

use strict;
use warnings;

use Exporter qw(import);
use Test::Nginx::Util;

our @EXPORT_OK = qw(requests_of);

sub requests_of ($) {
    my $block = shift;
    my $name  = $block->name;

    if (defined(my $raw = $block->raw_request)) {
        return [[map { { value => $_ } } ref $raw eq 'ARRAY' ? @$raw : $raw]];
    }

    my $headers = $block->more_headers || '';

    if (my $pipelined = $block->pipelined_requests) {
        ref $pipelined eq 'ARRAY' or bail_out("$name - pipelined_requests must be an array");
        my $all = '';
        for my $i (0 .. $#$pipelined) {
            my $connection = $i < $#$pipelined ? 'keep-alive' : 'close';
            my $extra = headers_for($name, $headers, $i);
            $all .= join '', complete_request($name, $extra, $connection, $pipelined->[$i]);
        }
        return [[{ value => $all }]];
    }

    my $request = $block->request;
    defined $request or bail_out("$name - neither request nor raw_request given");

    if (!ref $request) {
        # Leading white space and lines of comment are not part of the request.
        $request =~ s/\A(?:\s+|#[^\n]+\s+)+//;
        my @packets = complete_request($name, headers_for($name, $headers, 0), 'close', $request);
        return [[{ value => join '', @packets }]];
    }

    ref $request eq 'ARRAY' && @$request
      or bail_out("$name - request must be text or an array of requests");

    my @requests;
    for my $i (0 .. $#$request) {
        my @parts = ref $request->[$i] eq 'ARRAY' ? @{ $request->[$i] } : $request->[$i];
        my @values = map {
                !ref $_          ? $_
              : ref $_ eq 'HASH' ? $_->{value}
              :                    bail_out("$name - a packet must be text or a hash with a value")
        } @parts;

        my @packets = complete_request($name, headers_for($name, $headers, $i), 'close', @values);
        # A hash keeps what became of its packet, as in Test::Nginx from CPAN: the next repetition
        # of the block completes that.
        push @requests, [map {
            my $packet = ref $parts[$_] ? $parts[$_] : {};
            $packet->{value} = $packets[$_];
            $packet;
        } 0 .. $#packets];
    }
    return \@requests;
}

# The lines of more_headers for the $i-th request, as they go on the wire. Lines that begin
# with "#" are comments.
sub headers_for {
    my ($name, $headers, $i) = @_;
    if (ref $headers eq 'ARRAY') {
        $headers = $headers->[$i] // bail_out("$name - more_headers has no entry for request $i");
    }

    my $wire = '';
    for my $line (grep { !/^\s*#/ } split /\n+/, $headers) {
        my ($key, $value) = split /:\s*/, $line, 2;
        $wire .= "$key: " . ($value // '') . "\r\n";
    }
    $wire =~ s/(?<!\r)\n/\r\n/g;
    return $wire;
}

# Makes a full HTTP request out of "METHOD [url [version]]\nbody" given in one or more
# packets, and cuts the result where the packets were cut: white space around the words of
# the first line goes, the default url and version, the headers and CRLF come in, and a body
# whose length is ours to announce is trimmed.
sub complete_request {
    my ($name, $extra, $connection, @packets) = @_;
    my $source = join '', @packets;

    my ($line, $body) = $source =~ /\A([^\n]*\n?)(.*)\z/s;
    $line =~ /\A(\s*)(\S+)( *)(?:(\S+)( *))?(?:(\S+)( *))?(\s*)\z/
      or bail_out("$name - not of the form 'METHOD [url [version]]': \"$line\"");
    my @words = ($1, $2, $3, $4 // '', $5 // '', $6 // '', ($7 // '') . $8);

    my $headers = '';
    $headers .= 'Host: ' . server_name() . "\r\n" if $extra !~ /^Host:/mi;
    $headers .= "Connection: $connection\r\n" if $extra !~ /^Connection/mi;
    $headers .= $extra;

    my $new_body = $body;
    if ($body ne '' && $extra !~ /^Content-Length:/m && $extra !~ /^Transfer-Encoding: chunked\r$/mi)
    {
        $new_body =~ s/\A\s+|\s+\z//g;
        $headers .= 'Content-Length: ' . length($new_body) . "\r\n";
    }

    my @edits = (
        [$words[0], ''],
        [$words[1], "$words[1] "],
        [$words[2], ''],
        [$words[3], ($words[3] eq '' ? '/' : $words[3]) . ' '],
        [$words[4], ''],
        [$words[5], ($words[5] eq '' ? 'HTTP/1.1' : $words[5]) . "\r\n"],
        [$words[6], ''],
        ['',        "$headers\r\n"],
        [$body,     $new_body],
    );

    my $result = join '', map { $_->[1] } @edits;
    my @pieces;
    my ($old_end, $cut) = (0, 0);
    for my $i (0 .. $#packets) {
        $old_end += length $packets[$i];
        my $new_end = $i == $#packets ? length $result : moved_offset($old_end, \@edits);
        push @pieces, substr $result, $cut, $new_end - $cut;
        $cut = $new_end;
    }
    return @pieces;
}

# Where an offset into the source is in the result. Text that comes in at a cut belongs to
# the packet before the cut.
sub moved_offset {
    my ($offset, $edits) = @_;
    my ($old, $new) = (0, 0);
    for my $edit (@$edits) {
        my ($from, $to) = map { length } @$edit;
        if ($old + $from > $offset) {
            my $into = $offset - $old;
            return $new + ($into < $to ? $into : $to);
        }
        $old += $from;
        $new += $to;
    }
    return $new;
}

1;
