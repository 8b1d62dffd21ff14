package Test::Nginx::Runner::Client;

# The client side of one request: connects, sends the packets, reads until nginx closes the
# connection. Writing and reading go on at the same time on one non-blocking socket. `timeout`
# is for the longest time without any progress; running into it is a failure of the block
# unless it has an `abort` section. Called by Test::Nginx::Runner::Exchange.

use strict;
use warnings;

use Errno qw(EAGAIN EINTR EWOULDBLOCK);
use Exporter qw(import);
use IO::Select;
use IO::Socket::INET;
use Time::HiRes qw(sleep time);
use Test::Nginx::Runner::Verdict qw(extra_failure);
use Test::Nginx::Util;

our @EXPORT_OK = qw(exchange);

# Returns the bytes received, undef if there was no connection.
sub exchange ($$$) {
    my ($block, $packets, $timeout) = @_;
    my $name = $block->name;

    # nginx may close before it has read everything: an error of syswrite, not our end.
    local $SIG{PIPE} = 'IGNORE';

    my $address = $block->server_addr_for_client // server_addr();
    my $socket = connect_to($address, server_port_for_client(), $timeout);
    if (!$socket) {
        my $port = server_port_for_client();
        extra_failure("$name - connect to $address:$port: $!");
        return undef;
    }
    $socket->blocking(0);

    my @queue    = @$packets;
    my $out      = (shift @queue)->{value};
    my $sending  = 1;
    my $hold     = 0;                   # time before which the next packet must not go out
    my $deadline = time + $timeout;
    my $select   = IO::Select->new($socket);
    my $received = '';

    while (1) {
        my $now = time;
        my $may_write = $sending && $now >= $hold;
        my $wait = ($sending && !$may_write ? $hold : $deadline) - $now;
        $wait = 0 if $wait < 0;

        $! = 0;    # select(2) leaves it alone when time is up
        my ($readable, $writable) =
          IO::Select->select($select, $may_write ? $select : undef, undef, $wait);

        if (!defined $readable) {
            next if $sending && !$may_write || $!{EINTR};
            timed_out($block);
            last;
        }

        if (@$readable) {
            my $got = sysread $socket, $received, 65536, length $received;
            if (!defined $got) {
                next if $! == EAGAIN || $! == EWOULDBLOCK || $! == EINTR;
                warn "WARNING: $name - reading the response: $!\n";
                last;
            }
            last if $got == 0;
            $deadline = time + $timeout;
        }

        if (@$writable && $sending) {
            if (length $out) {
                my $sent = syswrite $socket, $out;
                if (!defined $sent) {
                    next if $! == EAGAIN || $! == EWOULDBLOCK || $! == EINTR;
                    # What nginx said before it closed is still to be read.
                    warn "WARNING: $name - sending the request: $!\n";
                    $sending = 0;
                    next;
                }
                substr $out, 0, $sent, '';
                $deadline = time + $timeout;
            }

            if (!length $out) {
                if (my $next = shift @queue) {
                    $out      = $next->{value};
                    $hold     = time + ($next->{delay_before} // $block->raw_request_middle_delay // 0);
                    $deadline = $hold + $timeout;

                } else {
                    $sending = 0;
                    shut_down($block, $socket);
                }
            }
        }
    }

    close $socket;
    return $received;
}

# nginx listens before it writes its pid file, so a refusal here is rare: it takes a listener
# that is opened later than that, or nginx gone. Tried for $timeout, then $! tells why.
sub connect_to {
    my ($address, $port, $timeout) = @_;
    my $give_up = time + $timeout;
    while (1) {
        my $socket = IO::Socket::INET->new(
            PeerAddr => $address,
            PeerPort => $port,
            Proto    => 'tcp',
            Timeout  => $timeout,
        );
        return $socket if $socket || time >= $give_up;
        sleep 0.01;
    }
}

sub timed_out {
    my $block = shift;
    return if defined $block->abort;
    extra_failure($block->name . ' - the client waited for the end of the response in vain');
}

# The shutdown section names the direction as shutdown(2) does; empty means writing.
sub shut_down {
    my ($block, $socket) = @_;
    my $how = $block->shutdown;
    return if !defined $how;
    shutdown $socket, $how =~ /\A\s*\z/ ? 1 : $how;
}

1;
