package Test::Nginx::Runner::MockServer;

# The peer of nginx's own connections: tcp_listen/udp_listen with their reply, query and
# delay sections. A child process takes one connection (or datagram), reads the query, sends
# the reply and ends; what it read comes back through a pipe and is compared with tcp_query,
# tcp_query_len or udp_query. Called by Test::Nginx::Runner, once per repetition of a block.

use strict;
use warnings;

use IO::Socket::INET;
use IO::Socket::UNIX;
use POSIX ();
use Test::Nginx::Runner::Verdict qw(expect_is is_str);
use Test::Nginx::Util qw(:DEFAULT parse_time);
use Time::HiRes qw(sleep time);

# The servers a block asks for, listening.
sub start_all {
    my ($class, $block) = @_;
    my @servers;
    push @servers, $class->start($block, 'tcp') if defined $block->tcp_listen;
    push @servers, $class->start($block, 'udp') if defined $block->udp_listen;
    return @servers;
}

sub start {
    my ($class, $block, $protocol) = @_;
    my $name   = $block->name;
    my $target = $protocol eq 'tcp' ? $block->tcp_listen : $block->udp_listen;
    my $reply  = $protocol eq 'tcp' ? $block->tcp_reply : $block->udp_reply;
    $target =~ s/\A\s+|\s+\z//g;

    defined $reply || $protocol eq 'tcp' && defined $block->tcp_shutdown
      or bail_out("$name - ${protocol}_listen without ${protocol}_reply");

    my $self = bless {
        block    => $block,
        protocol => $protocol,
        listener => listen_on($name, $protocol, $target),
        path     => $target =~ m{/} ? $target : undef,
    }, $class;

    pipe $self->{query}, my $to_parent or bail_out("$name - pipe: $!");
    $self->{pid} = fork // bail_out("$name - fork: $!");
    if ($self->{pid} == 0) {
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP QUIT);
        local $SIG{PIPE} = 'IGNORE';
        eval {
            $protocol eq 'tcp'
              ? serve_tcp($block, $self->{listener}, $reply, $to_parent)
              : serve_udp($block, $self->{listener}, $reply, $to_parent);
            1;
        } or print STDERR "$name - mock server: $@";
        POSIX::_exit(0);
    }
    return $self;
}

sub listen_on {
    my ($name, $protocol, $target) = @_;
    my $limit = time + 5;
    while (1) {
        my $socket;
        if ($target =~ /\A\d+\z/) {
            $socket = IO::Socket::INET->new(
                LocalPort => $target,
                Proto     => $protocol,
                ReuseAddr => 1,
                $protocol eq 'tcp' ? (LocalAddr => '127.0.0.1', Listen => 5) : (),
            );

        } elsif ($target =~ /\.sock\z/) {
            unlink $target;
            $socket = IO::Socket::UNIX->new(
                Local => $target,
                $protocol eq 'tcp' ? (Listen => 5) : (Type => SOCK_DGRAM),
            );

        } else {
            bail_out("$name - ${protocol}_listen is neither a port nor a .sock path: $target");
        }
        return $socket if $socket;
        bail_out("$name - listening on $target: $!") if !$!{EADDRINUSE} || time > $limit;
        sleep 0.02;
    }
}

sub serve_tcp {
    my ($block, $listener, $reply, $to_parent) = @_;
    my $query_length = $block->tcp_query_len;
    $query_length = length $block->tcp_query if !defined $query_length && defined $block->tcp_query;

    my $client = $listener->accept or die "accept: $!\n";

    # 0: no more reading, 1: no more writing, 2: neither.
    my $shutdown = $block->tcp_shutdown;
    if (defined $shutdown) {
        sleep $block->tcp_shutdown_delay if $block->tcp_shutdown_delay;
        $client->shutdown($shutdown);
    }

    my $query = '';
    if (!defined $shutdown || $shutdown == 1) {
        while (sysread $client, my $bytes, 4096) {
            $query .= $bytes;
            syswrite $to_parent, $bytes;
            last if !$query_length || length $query >= $query_length;
        }
    }
    close $to_parent;

    my $delay = parse_time($block->tcp_reply_delay);
    sleep $delay if $delay;

    if (defined $reply && (!defined $shutdown || $shutdown == 0)) {
        $client->send($_) // warn 'WARNING: ' . $block->name . " - sending tcp_reply: $!\n"
          for replies($reply, $query);
    }
    if (defined $block->tcp_no_close) {
        sleep 3600 while 1;
    }
    close $client;
}

sub serve_udp {
    my ($block, $socket, $reply, $to_parent) = @_;
    defined $socket->recv(my $query, 65536) or die "recv: $!\n";
    syswrite $to_parent, $query;
    close $to_parent;

    my $delay = parse_time($block->udp_reply_delay);
    sleep $delay if $delay;
    $socket->send($_) // warn 'WARNING: ' . $block->name . " - sending udp_reply: $!\n"
      for replies($reply, $query);
}

sub replies {
    my ($reply, $query) = @_;
    $reply = $reply->($query) if ref $reply eq 'CODE';
    return ref $reply eq 'ARRAY' ? @$reply : $reply;
}

sub check {
    my $self = shift;
    my ($block, $name) = ($self->{block}, $self->{block}->name);

    if ($self->{protocol} eq 'udp') {
        is_str($self->query, $block->udp_query, "$name - udp_query") if defined $block->udp_query;
        return;
    }
    is_str($self->query, $block->tcp_query, "$name - tcp_query") if defined $block->tcp_query;
    expect_is(length $self->query, $block->tcp_query_len, "$name - tcp_query_len")
      if defined $block->tcp_query_len;
}

# What nginx sent, as far as it has come. The child closes the pipe when the query is
# complete; a query that stays short is not waited for longer than a log line would be.
sub query {
    my $self = shift;
    return $self->{text} if defined $self->{text};

    my $limit = time + $Test::Nginx::Util::LogLag;
    my $text  = '';
    my $watch = '';
    vec($watch, fileno $self->{query}, 1) = 1;
    while ((my $left = $limit - time) > 0) {
        last if !select my $ready = $watch, undef, undef, $left;
        last if !sysread $self->{query}, $text, 65536, length $text;
    }
    return $self->{text} = $text;
}

sub stop {
    my $self = shift;
    my $pid = delete $self->{pid} // return;
    kill 'KILL', $pid;
    local $?;
    waitpid $pid, 0;
    close $self->{listener};
    unlink $self->{path} if defined $self->{path};
}

1;
