package Test::Nginx::Runner::Response;

# An HTTP response taken apart: code, headers, content, and what followed it on the
# connection (`left`, the next response of a pipeline). Made by Test::Nginx::Runner::Exchange,
# read by ResponseChecks. A message that is not HTTP gives a response without a code.

use strict;
use warnings;

use Test::Nginx::Runner::Verdict qw(extra_failure);

# HTTP/0.9 has no head: all is content.
sub from_http09 {
    my ($class, $bytes) = @_;
    return bless { code => 200, raw_headers => '', fields => {}, content => $bytes }, $class;
}

# undef if the transfer coding is broken, which is reported as a failure.
sub parse {
    my ($class, $name, $bytes, $is_head) = @_;
    my $self = bless { raw_headers => '', fields => {} }, $class;

    $self->{raw_headers} = $1 if $bytes =~ /\A(.*?\r\n)\r\n/s;

    my ($status, $rest) = $bytes =~ /\A([^\n]*)\n?(.*)\z/s;
    $status =~ s/\r\z//;
    my @words = split ' ', $status;
    my $code = $status =~ /\A\d{3} / ? $words[0] : $words[1];
    $self->{code} = $code if defined $code && $code =~ /\A\d+\z/;

    $self->{content} = $self->take_fields($rest);

    # 304 has no body; what follows 101 is in the protocol switched to, until close.
    return $self if $self->{code} && ($self->{code} == 304 || $self->{code} == 101);

    my $length = $self->header('Content-Length');
    if (($self->header('Transfer-Encoding') // '') eq 'chunked') {
        return $self->unchunk($name) ? $self : undef;
    }

    if (defined $length && $length =~ /\A\d+\z/) {
        my $got = length $self->{content};
        if ($got > $length) {
            $self->{left} = substr $self->{content}, $length, $got, '';

        } elsif ($got < $length && !$is_head) {
            warn "WARNING: $name - $length bytes of content announced, $got came\n";
        }
    }
    return $self;
}

sub code        { return $_[0]{code} }
sub raw_headers { return $_[0]{raw_headers} }
sub left        { return $_[0]{left} }

sub content {
    my $self = shift;
    $self->{content} = shift if @_;
    return $self->{content};
}

# The value of a header, undef without it; values of a repeated header joined by a comma
# (RFC 9110 5.3). "_" in a name stands for "-".
sub header {
    my ($self, $key) = @_;
    my $values = $self->{fields}{field_key($key)} or return undef;
    return join ', ', @$values;
}

sub field_key {
    my $key = lc shift;
    $key =~ tr/_/-/;
    return $key;
}

# Reads the header lines off $text and returns the rest.
sub take_fields {
    my ($self, $text) = @_;
    my $last;
    while (1) {
        if ($text =~ s/\A([^ \t\r\n:]+)[ \t]*: ?([^\n]*?)\r?(?:\n|\z)//) {
            $last = $self->{fields}{field_key($1)} //= [];
            push @$last, $2;

        } elsif ($last && $text =~ s/\A([ \t][^\n]*?)\r?(?:\n|\z)//) {
            $last->[-1] .= "\n$1";

        } else {
            $text =~ s/\A\r?\n//;
            return $text;
        }
    }
}

# RFC 9112 7.1, without extensions and trailers: nginx sends neither.
sub unchunk {
    my ($self, $name) = @_;
    my ($raw, $content) = ($self->{content}, '');

    pos($raw) = 0;
    while ($raw =~ /\G[ \t]*([0-9A-Fa-f]+)[ \t]*\r\n/gc) {
        my $size = hex $1;
        my $at   = pos $raw;
        if ($at + $size + 2 > length $raw || substr($raw, $at + $size, 2) ne "\r\n") {
            extra_failure("$name - a chunk of $size bytes does not end where it should");
            return 0;
        }

        my $end = $at + $size + 2;
        if ($size == 0) {
            $self->{left} = substr $raw, $end if $end < length $raw;
            $self->{content} = $content;
            return 1;
        }
        $content .= substr $raw, $at, $size;
        pos($raw) = $end;
    }

    my $rest = substr $raw, pos($raw) // 0;
    extra_failure("$name - chunked content without its last chunk", "what is there: \"$rest\"");
    return 0;
}

1;
