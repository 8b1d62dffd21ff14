package Test::Nginx::Runner::Verdict;

# The assertions of the runner. Each of them counts as one in the plan, also in a dry run
# ($DryRun holds the reason), when it is reported as skipped. extra_failure() is for what no
# section asked for - a client timeout, a broken chunk, a valgrind report - and so is
# deliberately not in the plan: the file then fails twice over.

use strict;
use warnings;

use Exporter qw(import);
use Test::Base  ();
use Test::More  ();
use Test::Nginx::Util ();

our @EXPORT_OK = qw(
  expect_is expect_text expect_like expect_unlike expect_true extra_failure is_str
);

our $DryRun;

# Test::LongString shows where two long strings begin to differ; plain output does without.
my $have_long_string = eval { require Test::LongString; 1 };

sub expect_is ($$$) {
    my ($got, $expected, $name) = @_;
    return skipped($name) if $DryRun;
    return Test::More::is($got, $expected, $name);
}

# Equality of texts, shown as a diff after no_long_string().
sub expect_text ($$$) {
    my ($got, $expected, $name) = @_;
    return skipped($name) if $DryRun;
    return Test::Base::is($got, $expected, $name) if $Test::Nginx::Util::NoLongString;
    return Test::LongString::is_string($got, $expected, $name) if $have_long_string;
    return Test::More::is($got, $expected, $name);
}

sub expect_like ($$$) {
    my ($got, $pattern, $name) = @_;
    return skipped($name) if $DryRun;
    return Test::More::like($got, $pattern, $name);
}

sub expect_unlike ($$$) {
    my ($got, $pattern, $name) = @_;
    return skipped($name) if $DryRun;
    return Test::More::unlike($got, $pattern, $name);
}

# $why goes to the diagnostics when $ok is false.
sub expect_true ($$;$) {
    my ($ok, $name, $why) = @_;
    return skipped($name) if $DryRun;
    my $passed = Test::More::ok($ok, $name);
    Test::More::diag($why) if !$passed && defined $why;
    return $passed;
}

sub extra_failure ($;$) {
    my ($name, $why) = @_;
    Test::More::fail($name);
    Test::More::diag($why) if defined $why;
    return;
}

# Exported to .t files: a text or a pattern, whichever is expected.
sub is_str (@) {
    my ($got, $expected, $name) = @_;
    return ref $expected eq 'Regexp'
      ? expect_like($got, $expected, $name)
      : expect_text($got, $expected, $name);
}

sub skipped {
    my $name = shift;
    Test::More->builder->skip("$name - $DryRun");
    return 1;
}

1;
