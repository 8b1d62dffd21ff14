package Test::Nginx::Runner::Process;

# The nginx under test as a child process: starting it (under valgrind if asked), knowing
# when it is ready, reloading and ending it. nginx runs with `daemon off`, so its end is an
# event: it inherits the write end of a pipe, and end-of-file on the read end says that the
# last of its processes is gone. At most one nginx at a time. Called by Test::Nginx::Runner;
# LogChecks asks is_running and is_busy.

use strict;
use warnings;

use Exporter qw(import);
use Fcntl qw(F_SETFD);
use IO::Socket::INET;
use POSIX qw(:sys_wait_h);
use Test::Nginx::Runner::Verdict qw(extra_failure);
use Test::Nginx::Runner::Valgrind qw(valgrind_command valgrind_report);
use Test::Nginx::Util;
use Time::HiRes qw(sleep time);

our @EXPORT_OK = qw(start_nginx stop_nginx reload_nginx forget_nginx kill_leftover nginx_version
  is_running is_busy);

# pid: our child, the master or the only process. status: its wait status, once it has ended.
# alive: read end of the pipe. name: the block it was started for.
my ($pid, $status, $alive, $name);
my $version_seen;

sub is_running () {
    return 0 if !$pid || defined $status;
    $status = $? if waitpid($pid, WNOHANG) != 0;
    return !defined $status;
}

# Whether one of nginx's processes is on a CPU or in disk i/o, as opposed to waiting for
# events. Always false where there is no Linux /proc.
sub is_busy () {
    return 0 if !is_running();
    for my $process ($pid, children($pid)) {
        return 1 if (slurp("/proc/$process/stat") // '') =~ /\) [RD] [^)]*\z/;
    }
    return 0;
}

# Returns undef when nginx is up, else its wait status and what it wrote to stderr. Up is when
# the pid file is there: nginx writes it after it listens, and before the first connection,
# which a probe would be, showing up in the logs.
sub start_nginx ($) {
    $name = shift;
    await_port();
    unlink $Test::Nginx::Util::PidFile;

    my $stderr  = "$Test::Nginx::Util::LogDir/nginx.stderr";
    my @command = (nginx_binary(), '-p', server_root() . '/', '-c', $Test::Nginx::Util::ConfFile);

    # Where what is logged before the error_log directive has been read goes depends on how
    # nginx was built; -e is known since 1.19.5.
    push @command, '-e', $Test::Nginx::Util::ErrLogFile
      if ($Test::Nginx::Util::NginxVersion // 0) >= 1.019005;
    @command = valgrind_command(@command) if $Test::Nginx::Util::UseValgrind;
    warn "running @command\n" if $Test::Nginx::Util::Verbose;

    pipe $alive, my $held_by_nginx or bail_out("pipe: $!");
    $pid = fork // bail_out("fork: $!");
    if ($pid == 0) {
        setpgrp;
        fcntl $held_by_nginx, F_SETFD, 0;    # not to be closed by exec
        open STDIN,  '<',  '/dev/null';
        open STDOUT, '>',  '/dev/null';
        open STDERR, '>>', $stderr;
        exec { $command[0] } @command or POSIX::_exit(127);
    }
    close $held_by_nginx;

    my $limit = time + ($Test::Nginx::Util::UseValgrind ? 120 : 20);
    while (time < $limit) {
        if (!is_running()) {
            my $ended = { status => $status, stderr => slurp($stderr) // '' };
            forget_nginx();
            return $ended;
        }
        if ((slurp($Test::Nginx::Util::PidFile) // '') =~ /\A$pid\b/) {
            warn slurp($stderr) if $Test::Nginx::Util::Verbose && -s $stderr;
            return undef;
        }
        sleep 0.001;
    }
    stop_nginx();
    bail_out("$name - nginx neither came up nor ended");
}

# Graceful (QUIT) for as long as timeout() says, then TERM, then KILL. Crashes, also those of
# an nginx that has ended before, and valgrind's findings are failures of the block.
sub stop_nginx () {
    return if !$pid;
    my $patience = timeout();
    $patience = 30 if $Test::Nginx::Util::UseValgrind && $patience < 30;

    if (is_running()) {
        kill 'QUIT', $pid;
        if (!await_end($patience)) {
            warn "WARNING: $name - nginx does not end gracefully\n";
            kill 'TERM', $pid;
            await_end(2);
        }
    }
    my $signal = ($status // 0) & 127;
    extra_failure("$name - nginx was ended by signal $signal") if $signal && $signal != 9;

    # Workers go with their master, but not if it was killed.
    kill 'KILL', -$pid;
    await_end(5);

    for my $line (grep { /exited on signal (?:4|6|7|8|11)\b/ } read_lines()) {
        extra_failure("$name - a worker crashed", $line);
    }
    my $report = valgrind_report();
    extra_failure("$name - valgrind found errors", $report) if defined $report;

    forget_nginx();
}

# nginx is no longer ours: it ended, or is left behind on purpose.
sub forget_nginx () {
    undef $_ for $pid, $status, $alive;
}

# Makes the running master take up the configuration just written. $version is what the new
# workers answer to /ver (see ServerRoot); undef if the reload is meant to fail. Returns
# whether all came about.
sub reload_nginx ($) {
    my $version = shift;
    my @old = children($pid);

    kill 'USR1', $pid;
    await(2, sub { -e $Test::Nginx::Util::ErrLogFile }) or return 0;
    kill 'HUP', $pid;

    if (!defined $version) {
        return await(5, sub { grep { /\[emerg\]/ } read_lines() });
    }
    # Old workers leave the listening sockets before they change their title.
    return await(10, sub {
        !grep { (slurp("/proc/$_/cmdline") // '') =~ /worker process(?! is shutting down)/ } @old
    }) && await(5, sub { served_version() eq $version });
}

sub served_version {
    my $socket = IO::Socket::INET->new(
        PeerAddr => server_addr(),
        PeerPort => server_port(),
        Timeout  => 2,
    ) or return '';
    print {$socket} "GET /ver HTTP/1.0\r\nHost: Test-Nginx\r\n\r\n";
    my $response = do { local $/; <$socket> };
    return ($response // '') =~ /\r\n\r\n(.*)\z/s ? $1 : '';
}

# An nginx that an aborted run left in our server root.
sub kill_leftover () {
    my $other = slurp($Test::Nginx::Util::PidFile) // return;
    ($other) = $other =~ /\A(\d+)/ or return;
    my $root = server_root();
    return if (slurp("/proc/$other/cmdline") // '') !~ /\Q$root\E/;
    kill 'TERM', $other;
    await(3, sub { !kill 0, $other }) or kill 'KILL', $other;
}

# (nginx version, OpenSSL version), as numbers; see SkipRules.
sub nginx_version () {
    return @$version_seen if $version_seen;
    my $binary = nginx_binary();
    my $text   = `$binary -V 2>&1`;
    $text =~ m{^nginx version: \S+/(\d+)\.(\d+)\.(\d+)}m
      or bail_out("cannot tell the version of nginx from: $text");
    my $nginx = sprintf '%d.%03d%03d', $1, $2, $3;
    my $openssl;
    if ($text =~ /built with OpenSSL (\d+)\.(\d+)\.(\d+)([a-z])?/) {
        $openssl = sprintf '%d.%03d%03d', $1, $2, $3;
        $openssl .= sprintf '%03d', ord($4) - ord 'a' if defined $4;
    }
    $version_seen = [$nginx, $openssl];
    return @$version_seen;
}

# Path of the binary; nginx is often not in the PATH of ordinary users.
sub nginx_binary {
    my $wanted = $Test::Nginx::Util::NginxBinary;
    return $wanted if $wanted =~ m{/} && -x $wanted;
    if ($wanted !~ m{/}) {
        for my $directory (split(/:/, $ENV{PATH} // ''), '/usr/sbin', '/usr/local/sbin') {
            return "$directory/$wanted" if -f "$directory/$wanted" && -x _;
        }
    }
    bail_out("no nginx binary: $wanted");
}

# Whoever held the port before may still be going away. nginx would only look again after
# half a second; this does so often.
sub await_port {
    await(5, sub {
        IO::Socket::INET->new(LocalPort => server_port(), Listen => 1, ReuseAddr => 1);
    }) or warn "WARNING: port " . server_port() . " is in use\n";
}

# Whether all processes of nginx are gone before $patience seconds are over.
sub await_end {
    my $patience = shift;
    my $limit = time + $patience;
    while (1) {
        my $left = $limit - time;
        return 0 if $left <= 0;

        # The pipe can outlive nginx in a program started from Lua, hence the short slices,
        # and not much more time for it than for nginx itself.
        my $watched = '';
        vec($watched, fileno $alive, 1) = 1;
        my $end_of_file = select $watched, undef, undef, $left < 0.05 ? $left : 0.05;

        my $was_running = !defined $status;
        if ($was_running && waitpid($pid, $end_of_file > 0 ? 0 : WNOHANG) > 0) {
            $status = $?;
        }
        return 1 if $end_of_file > 0;
        $limit = time + 0.5 if $was_running && defined $status && $limit > time + 0.5;
    }
}

sub await {
    my ($patience, $condition) = @_;
    my $limit = time + $patience;
    while (1) {
        return 1 if $condition->();
        return 0 if time >= $limit;
        sleep 0.005;
    }
}

sub children {
    my $parent = shift;
    return split ' ', slurp("/proc/$parent/task/$parent/children") // '';
}

sub read_lines {
    return split /^/, slurp($Test::Nginx::Util::ErrLogFile) // '';
}

sub slurp {
    my $path = shift;
    open my $in, '<', $path or return undef;
    local $/;
    return scalar <$in>;
}

1;
