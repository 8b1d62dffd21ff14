package Test::Nginx::Runner::SkipRules;

# Whether a block is to be left out: the sections skip_nginx, skip_nginx2, skip_openssl,
# skip_eval, skip_slave, todo and todo_nginx. They begin with the number of assertions the
# block would have made, which are then reported as skipped. Called by Test::Nginx::Runner.

use strict;
use warnings;

use Exporter qw(import);
use Test::Nginx::Util;

our @EXPORT_OK = qw(skip_rule);

my $version    = qr/(\d+)\.(\d+)\.(\d+)([a-z])?/;
my $comparison = qr/([<>]=?)\s*$version/;
my $reason     = qr/(?:\s*:\s*(.*?))?\s*/s;

# undef, or { kind => 'skip' or 'todo', count => ..., reason => ... }.
sub skip_rule ($) {
    my $block = shift;
    for my $rule (\&by_eval, \&by_nginx, \&by_two_versions, \&by_slave, \&by_openssl, \&by_todo,
        \&by_todo_nginx)
    {
        my $found = $rule->($block);
        return $found if $found;
    }
    return undef;
}

sub by_eval {
    my $block = shift;
    my $spec = $block->skip_eval;
    return undef if !defined $spec || $spec !~ /\A\s*(\d+)\s*:\s*(.*)/s;
    my ($count, $code) = ($1, $2);
    return rule('skip', $count, Test::Nginx::Util::evaluate($block->name . ' - skip_eval', $code)
        ? 'skip_eval' : undef);
}

sub by_nginx {
    my $block = shift;
    my $spec = $block->skip_nginx // return undef;
    $spec =~ /\A\s*(\d+)\s*:\s*$comparison$reason\z/ or malformed($block, 'skip_nginx', $spec);
    my ($count, @is, $why) = ($1, $2, $3, $4, $5);
    $why = $7;
    return rule('skip', $count, holds($Test::Nginx::Util::NginxVersion, @is)
        && ($why || "nginx is $is[0] " . join '.', @is[1 .. 3]));
}

sub by_two_versions {
    my $block = shift;
    return undef if defined $block->skip_nginx;
    my $spec = $block->skip_nginx2 // return undef;
    $spec =~ /\A\s*(\d+)\s*:\s*$comparison\s*(or|and)\s*$comparison$reason\z/
      or malformed($block, 'skip_nginx2', $spec);
    my ($count, $operator, $why) = ($1, $7, $13);
    my $first  = holds($Test::Nginx::Util::NginxVersion, $2, $3, $4, $5);
    my $second = holds($Test::Nginx::Util::NginxVersion, $8, $9, $10, $11);
    my $hit = $operator eq 'or' ? $first || $second : $first && $second;
    return rule('skip', $count, $hit && ($why || 'version of nginx'));
}

sub by_slave {
    my $block = shift;
    my $spec = $block->skip_slave;
    my $own  = $Test::Nginx::Util::BuildSlaveName;
    return undef if !defined $spec || !defined $own;
    $spec =~ /\A\s*(\d+)\s*:\s*(\w+(?:\s+\w+){0,2})$reason\z/
      or malformed($block, 'skip_slave', $spec);
    my ($count, $names, $why) = ($1, $2, $3);
    my @names = split ' ', $names;
    my $hit = $names[0] eq 'all' || grep { $_ eq $own } @names;
    return rule('skip', $count, $hit && ($why || "not on $own"));
}

sub by_openssl {
    my $block = shift;
    my $spec = $block->skip_openssl // return undef;
    $spec =~ /\A\s*(\d+)\s*:\s*$comparison$reason\z/ or malformed($block, 'skip_openssl', $spec);
    my ($count, @is) = ($1, $2, $3, $4, $5, $6);
    my $why = $7;
    my $have = $Test::Nginx::Util::OpenSSLVersion;
    return rule('skip', $count, $why || 'nginx is built without OpenSSL') if !defined $have;
    return rule('skip', $count, holds($have, @is) && ($why || 'version of OpenSSL'));
}

sub by_todo {
    my $block = shift;
    my $spec = $block->todo // return undef;
    $spec =~ /\A\s*(\d+)\s*:\s*(.*)/s or malformed($block, 'todo', $spec);
    return rule('todo', $1, $2 || 'to be done');
}

sub by_todo_nginx {
    my $block = shift;
    my $spec = $block->todo_nginx // return undef;
    $spec =~ /\A\s*$comparison$reason\z/ or malformed($block, 'todo_nginx', $spec);
    my ($why, $hit) = ($6, holds($Test::Nginx::Util::NginxVersion, $1, $2, $3, $4));
    return rule('todo', 1, $hit && ($why || 'version of nginx'));
}

sub rule {
    my ($kind, $count, $why) = @_;
    return $why ? { kind => $kind, count => $count, reason => $why } : undef;
}

# Versions as numbers: 1.22.1 is 1.022001, a letter behind it counts as a fourth part.
sub holds {
    my ($have, $operator, @parts) = @_;
    my $letter = defined $parts[3] && $parts[3] =~ /\A[a-z]\z/ ? sprintf('%03d', ord($parts[3]) - ord 'a') : '';
    my $other = sprintf('%d.%03d%03d', @parts[0 .. 2]) . $letter;
    return
        $operator eq '<'  ? $have < $other
      : $operator eq '<=' ? $have <= $other
      : $operator eq '>'  ? $have > $other
      :                     $have >= $other;
}

sub malformed {
    my ($block, $section, $spec) = @_;
    bail_out($block->name . " - cannot understand $section: $spec");
}

1;
