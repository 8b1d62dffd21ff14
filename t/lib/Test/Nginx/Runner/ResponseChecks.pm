package Test::Nginx::Runner::ResponseChecks;

# The assertions about one response: error_code, raw_response_headers_(un)like,
# response_headers(_like), response_body(_(un)like) and those added by
# add_response_body_check(). Their number per response follows from the sections alone: one
# for the code, one a header, one for the body. Called by Test::Nginx::Runner::Exchange.

use strict;
use warnings;

use Digest::MD5 ();
use Digest::SHA ();
use Exporter qw(import);
use Test::Nginx::Runner::Verdict
  qw(expect_is expect_text expect_like expect_unlike);
use Test::Nginx::Util qw(:DEFAULT trim);

our @EXPORT_OK = qw(check_response add_response_body_check);

my @body_checks;

my %filters = (
    md5_hex  => \&Digest::MD5::md5_hex,
    sha1_hex => \&Digest::SHA::sha1_hex,
    uc       => sub { uc $_[0] },
    lc       => sub { lc $_[0] },
    ucfirst  => sub { ucfirst $_[0] },
    lcfirst  => sub { lcfirst $_[0] },
    length   => sub { length $_[0] },
);

sub add_response_body_check ($) {
    push @body_checks, shift;
}

# $at is { request => index, repeat => index, many => whether the block has several requests }.
sub check_response ($$$) {
    my ($block, $response, $at) = @_;
    check_code($block, $response, $at);
    check_raw_headers($block, $response, $at);
    check_headers($block, $response, $at);
    filter_body($block, $response, $at);
    check_body($block, $response, $at);
}

# The value of a section for the request at hand: with several requests an array of values.
sub value_for {
    my ($block, $section, $at) = @_;
    my $value = $block->$section;
    return $value->[$at->{request}] if ref $value eq 'ARRAY';
    bail_out($block->name . " - several requests need an array in $section") if $at->{many};
    return $value;
}

sub check_code {
    my ($block, $response, $at) = @_;
    my $code = ($response && $response->code) || '';
    my $name = title($block, $at, 'status');

    if (defined $block->error_code_like) {
        my $pattern = value_for($block, 'error_code_like', $at);
        expect_like($code, qr/$pattern/sm, $name);

    } else {
        my $expected = defined $block->error_code ? value_for($block, 'error_code', $at) : 200;
        expect_is($code, $expected, $name);
    }
}

sub check_raw_headers {
    my ($block, $response, $at) = @_;
    my $raw = $response ? $response->raw_headers : undef;

    if (defined $block->raw_response_headers_like) {
        my $pattern = value_for($block, 'raw_response_headers_like', $at);
        expect_like($raw, qr/$pattern/s, title($block, $at, 'raw headers match'));
    }

    if (defined $block->raw_response_headers_unlike) {
        my $pattern = value_for($block, 'raw_response_headers_unlike', $at);
        expect_unlike($raw, qr/$pattern/s, title($block, $at, 'raw headers do not match'));
    }
}

sub check_headers {
    my ($block, $response, $at) = @_;

    if (defined $block->response_headers) {
        my $expected = header_lines(value_for($block, 'response_headers', $at));
        for my $key (sort keys %$expected) {
            my $value = $expected->{$key};
            if (defined $value) {
                my $got = $response ? $response->header($key) : undef;
                expect_is($got // '', with_ports($value), title($block, $at, "header $key"));

            } else {
                my $raw = $response ? $response->raw_headers : undef;
                expect_unlike($raw, qr/^\s*\Q$key\E\s*:/m, title($block, $at, "no header $key"));
            }
        }

    } elsif (defined $block->response_headers_like) {
        my $expected = header_lines(value_for($block, 'response_headers_like', $at));
        for my $key (sort keys %$expected) {
            my $got = $response ? $response->header($key) : undef;
            my $pattern = $expected->{$key} // '';
            expect_like($got // '', qr/^$pattern$/, title($block, $at, "header $key matches"));
        }
    }
}

# "Key: value" lines; "! Key" and a line without a colon stand for a header that must not be
# there.
sub header_lines {
    my %fields;
    for my $line (split /\n/, shift // '') {
        $line = trim_ends($line);
        if ($line =~ s/\A!\s*//) {
            $fields{$line} = undef;

        } else {
            my ($key, $value) = split /\s*:\s*/, $line, 2;
            $fields{$key // ''} = $value;
        }
    }
    return \%fields;
}

sub filter_body {
    my ($block, $response, $at) = @_;
    my $wanted = $block->response_body_filters;
    return if !defined $wanted || !$response || !defined $response->content;

    my @chain = ref $wanted eq 'ARRAY' ? @$wanted : ref $wanted ? $wanted : split ' ', $wanted;
    if (@chain && ref $chain[0] eq 'ARRAY') {
        my $own = $chain[$at->{request}];
        ref $own eq 'ARRAY'
          or bail_out($block->name . " - response_body_filters has nothing for this request");
        @chain = @$own;
    }

    my $content = $response->content;
    for my $filter (@chain) {
        my $code = ref $filter eq 'CODE' ? $filter : $filters{$filter};
        $code or bail_out($block->name . " - no response body filter \"$filter\"");
        $content = $code->($content);
    }
    $response->content($content);
}

sub check_body {
    my ($block, $response, $at) = @_;
    my $content = $response ? $response->content : undef;
    my $name    = title($block, $at, 'body');

    if (defined $block->response_body) {
        my $expected = value_for($block, 'response_body', $at);
        if (ref $expected) {
            expect_like($content, $expected, $name);

        } else {
            expect_text($content, with_ports($expected), $name);
        }

    } elsif (defined $block->response_body_like) {
        my $pattern = with_ports(value_for($block, 'response_body_like', $at));
        expect_like($content, qr/$pattern/s, "$name matches");

    } elsif (defined $block->response_body_unlike) {
        my $pattern = with_ports(value_for($block, 'response_body_unlike', $at));
        expect_unlike($content, qr/$pattern/s, "$name does not match");
    }

    for my $check (@body_checks) {
        $check->($block, $content, $at->{request}, $at->{repeat},
            $Test::Nginx::Runner::Verdict::DryRun);
    }
}

sub with_ports {
    my $text = shift;
    return undef if !defined $text;
    my ($port, $client_port) = (server_port(), server_port_for_client());
    $text =~ s/\$ServerPort\b/$port/g;
    $text =~ s/\$ServerPortForClient\b/$client_port/g;
    return $text;
}

sub trim_ends {
    my $text = shift;
    $text =~ s/\A\s+|\s+\z//g;
    return $text;
}

sub title {
    my ($block, $at, $what) = @_;
    return sprintf '%s - %s (repeat %d, request %d)', $block->name, $what, $at->{repeat},
      $at->{request};
}

1;
