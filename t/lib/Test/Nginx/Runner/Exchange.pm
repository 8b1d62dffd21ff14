package Test::Nginx::Runner::Exchange;

# One repetition of a block against the running nginx: each request in turn is sent, its
# response taken apart and checked, then the logs. The log checks run once for every
# response, so with several requests their assertions count that many times. Called by
# Test::Nginx::Runner.

use strict;
use warnings;

use Exporter qw(import);
use Test::Nginx::Runner::Client qw(exchange);
use Test::Nginx::Runner::LogChecks qw(check_error_log check_access_log);
use Test::Nginx::Runner::Request qw(requests_of);
use Test::Nginx::Runner::Response;
use Test::Nginx::Runner::ResponseChecks qw(check_response);
use Test::Nginx::Util qw(:DEFAULT parse_time);
use Time::HiRes qw(sleep);

our @EXPORT_OK = qw(run_requests);

# Stands in for the response when nothing is sent.
my $nothing = "200 OK HTTP/1.0\r\nContent-Length: 0\r\n\r\n";

sub run_requests ($$) {
    my ($block, $repeat) = @_;
    my $name      = $block->name;
    my $requests  = requests_of($block);
    my $pipelined = $block->pipelined_requests;
    my $timeout   = parse_time($block->timeout) // timeout();

    # Responses to come: one a request, or all those of the pipeline on one connection.
    my $total = $pipelined ? @$pipelined : @$requests;
    my $many  = $pipelined || $total > 1;
    my ($bytes, $is_head);

    for my $index (0 .. $total - 1) {
        if ($index == 0 || !$pipelined) {
            my $packets = $requests->[$index];
            $is_head = join('', map { $_->{value} } @$packets) =~ /\A\s*HEAD\s/;
            $bytes =
              $Test::Nginx::Runner::Verdict::DryRun
              ? $nothing
              : exchange($block, $packets, $timeout);
            warn "$name - received [" . ($bytes // '') . "]\n" if $Test::Nginx::Util::Verbose;
        }

        if (!defined $block->ignore_response) {
            my $response =
              defined $block->http09
              ? Test::Nginx::Runner::Response->from_http09($bytes // '')
              : Test::Nginx::Runner::Response->parse($name, $bytes // '', $is_head);
            my $left = $response && $response->left;
            warn "WARNING: $name - bytes behind the end of the response: \"$left\"\n"
              if defined $left && !$pipelined;
            $bytes = $left;

            check_response($block, $response,
                { request => $index, repeat => $repeat, many => $many });
        }

        sleep $block->wait if $block->wait;
        check_error_log($block, $repeat);
        check_access_log($block) if !defined $block->ignore_response;
    }
}

1;
