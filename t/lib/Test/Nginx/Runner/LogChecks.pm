package Test::Nginx::Runner::LogChecks;

# The assertions about what nginx logged: error_log, no_error_log, grep_error_log(_out),
# (no_)shutdown_error_log, access_log, no_access_log. One assertion a pattern (a line of text,
# or an element of an array), one for grep_error_log_out. Each check sees the lines since the
# previous check of the block, or all of them after check_accum_error_log(). Called by
# Test::Nginx::Runner and ::Exchange.

use strict;
use warnings;

use Exporter qw(import);
use Test::Nginx::Runner::Process qw(is_running is_busy);
use Test::Nginx::Runner::Verdict
  qw(expect_text expect_like expect_true extra_failure);
use Test::Nginx::Util;
use Time::HiRes qw(sleep time);

our @EXPORT_OK = qw(rewind_error_log check_error_log check_shutdown_error_log check_access_log);

my $position = 0;

# The next check begins at the first line of error.log.
sub rewind_error_log () {
    $position = 0;
}

sub check_error_log ($$) {
    my ($block, $repeat) = @_;
    my $name  = $block->name;
    my $lines = new_error_lines();

    check_grep($block, $lines, $repeat);

    if (defined $block->error_log) {
        expect_each($name, 'error.log', $lines, patterns($name, $block->error_log));
    }
    if (defined $block->no_error_log) {
        expect_none($name, 'error.log', $lines, patterns($name, $block->no_error_log));
    }

    warn_of_unasked($block, $lines);
    fail_on_assertion($name, $lines);
}

# Looked at once nginx has ended. Without shutdown_error_log, no_shutdown_error_log is not
# looked at: so it is in Test::Nginx from CPAN, and plans are counted accordingly.
sub check_shutdown_error_log ($) {
    my $block = shift;
    return if !defined $block->shutdown_error_log;

    my $name  = $block->name;
    my $lines = new_error_lines();
    if (defined $block->no_shutdown_error_log) {
        expect_none($name, 'error.log at exit', $lines,
            patterns($name, $block->no_shutdown_error_log));
    }
    expect_each($name, 'error.log at exit', $lines, patterns($name, $block->shutdown_error_log));
    fail_on_assertion($name, $lines);
}

sub check_access_log ($) {
    my $block = shift;
    return if !defined $block->access_log && !defined $block->no_access_log;

    my $name = $block->name;
    settle();
    open my $in, '<', $Test::Nginx::Util::AccLogFile
      or bail_out("$name - cannot read $Test::Nginx::Util::AccLogFile: $!");
    my @lines = <$in>;

    expect_each($name, 'access.log', \@lines, patterns($name, $block->access_log))
      if defined $block->access_log;
    expect_none($name, 'access.log', \@lines, patterns($name, $block->no_access_log))
      if defined $block->no_access_log;
}

# Lines of the log phase and of timers come after the response, and that no more will come is
# not an event one could await. So, as Test::Nginx from CPAN does, a fixed time is given
# (45 ms); beyond it only while nginx is still at work, which is a matter of a loaded machine.
sub settle {
    return if !is_running();
    sleep $Test::Nginx::Util::LogLag;

    my $limit = time + ($Test::Nginx::Util::UseValgrind ? 10 : 2);
    my $idle = 0;
    while ($idle < 2 && time < $limit) {
        $idle = is_busy() ? 0 : $idle + 1;
        sleep 0.001 if $idle < 2;
    }
}

sub new_error_lines {
    settle();
    open my $in, '<', $Test::Nginx::Util::ErrLogFile or return [];
    seek $in, $position, 0 if !$Test::Nginx::Util::CheckAccumErrLog;
    my @lines = <$in>;
    $position = tell $in if !$Test::Nginx::Util::CheckAccumErrLog;
    return \@lines;
}

sub patterns {
    my ($name, $value) = @_;
    my @patterns =
        !ref $value            ? split(/\n+/, $value)
      : ref $value eq 'ARRAY'  ? grep({ defined } @$value)
      : ref $value eq 'Regexp' ? $value
      :                          bail_out("$name - a log pattern is text or a regular expression");
    return \@patterns;
}

sub matches {
    my ($line, $pattern) = @_;
    return ref $pattern ? $line =~ $pattern : index($line, $pattern) >= 0;
}

sub expect_each {
    my ($name, $log, $lines, $patterns) = @_;
    for my $pattern (@$patterns) {
        my $found = grep { matches($_, $pattern) } @$lines;
        expect_true($found, "$name - $log has \"$pattern\"", 'no line matches');
    }
}

sub expect_none {
    my ($name, $log, $lines, $patterns) = @_;
    for my $pattern (@$patterns) {
        my @found = grep { matches($lines->[$_], $pattern) } 0 .. $#$lines;
        my $why;
        if (@found) {
            # The first offender with what came after it, such as a Lua traceback.
            my $last = $found[0] + 9 < $#$lines ? $found[0] + 9 : $#$lines;
            $why = @found . " matching line(s), the first:\n" . join '', @$lines[$found[0] .. $last];
        }
        expect_true(!@found, "$name - $log is without \"$pattern\"", $why);
    }
}

# All matches of the pattern, a line each, are the text to compare.
sub check_grep {
    my ($block, $lines, $repeat) = @_;
    my $name = $block->name;
    my $pattern  = $block->grep_error_log;
    my $expected = $block->grep_error_log_out;

    if (!defined $pattern) {
        bail_out("$name - grep_error_log_out without grep_error_log") if defined $expected;
        return;
    }
    $pattern = $pattern->[$repeat] if ref $pattern eq 'ARRAY';
    return if !defined $pattern;
    defined $expected or bail_out("$name - grep_error_log without grep_error_log_out");
    $expected = $expected->[$repeat] if ref $expected eq 'ARRAY';

    my $regex = ref $pattern ? $pattern : qr/\Q$pattern\E/;
    my $found = '';
    for my $line (@$lines) {
        $found .= "$1\n" if $line =~ /($regex)/ && $1 !~ /\n/;
    }

    if (ref $expected eq 'Regexp') {
        expect_like($found, $expected, "$name - lines taken from error.log match");

    } else {
        expect_text($found, $expected, "$name - lines taken from error.log");
    }
}

# Nobody asserted anything about these, but whoever runs the test should see them.
sub warn_of_unasked {
    my ($block, $lines) = @_;
    return if $Test::Nginx::Runner::Verdict::DryRun;
    my $asked = join "\n", map { ref $_ eq 'ARRAY' ? grep({ defined } @$_) : $_ // () }
      $block->error_log, $block->no_error_log;

    for my $mark ('[alert', '[crit', '[emerg', 'writing a global lua variable') {
        next if index($asked, $mark) >= 0;
        my $text = $mark =~ /\A\[/ ? "$mark]" : $mark;
        warn 'WARNING: ', $block->name, " - $_" for grep { index($_, $text) >= 0 } @$lines;
    }
}

# assert() in nginx or LuaJIT.
sub fail_on_assertion {
    my ($name, $lines) = @_;
    for my $line (grep { /\bAssertion .*?failed\b/ } @$lines) {
        chomp $line;
        extra_failure("$name - $line");
    }
}

1;
