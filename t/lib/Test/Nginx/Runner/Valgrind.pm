package Test::Nginx::Runner::Valgrind;

# nginx under valgrind (TEST_NGINX_USE_VALGRIND): a number stands for memcheck with leak
# checking and the suppressions of valgrind.suppress (in the current directory or in t/), any
# other value is the options to use. What valgrind writes goes to files in the log directory,
# one a process, and makes the block fail. Called by Test::Nginx::Runner::Process.

use strict;
use warnings;

use Exporter qw(import);
use List::Util qw(first);
use Text::ParseWords qw(shellwords);
use Test::Nginx::Util;

our @EXPORT_OK = qw(valgrind_command valgrind_report);

sub valgrind_command {
    my @nginx = @_;
    my @options;

    if ($Test::Nginx::Util::UseValgrind =~ /\A\d+\z/) {
        @options = qw(
          --tool=memcheck --leak-check=full --show-possibly-lost=no --num-callers=100
          --gen-suppressions=all
        );
        my $suppressions = first { -f } qw(valgrind.suppress t/valgrind.suppress);
        push @options, "--suppressions=$suppressions" if $suppressions;

    } else {
        @options = shellwords($Test::Nginx::Util::UseValgrind);
    }

    return ('/usr/bin/env', 'valgrind', '-q', "--log-file=$Test::Nginx::Util::LogDir/valgrind.%p",
        @options, @nginx);
}

# What valgrind found in the nginx that has just ended, undef if nothing. With -q it writes
# nothing but errors, save for remarks about itself that begin with "Warning:".
sub valgrind_report {
    return undef if !$Test::Nginx::Util::UseValgrind;
    my $report = '';
    for my $file (sort glob "$Test::Nginx::Util::LogDir/valgrind.*") {
        open my $in, '<', $file or next;
        $report .= join '', grep { !/\A==\d+== (?:Warning:|\s+to suppress)/ && !/\A==\d+==\s*\z/ } <$in>;
        close $in;
        unlink $file;
    }
    return length $report ? $report : undef;
}

1;
