package Test::Nginx::Runner;

# The life of a block: decide whether it runs, bring nginx into the state it asks for (fresh,
# reloaded, or as the block before left it), make its requests repeat_each() times, and look
# at the log of nginx's exit. Owns nginx's life over the whole file, including every way out
# of the test program. .t files get run_tests() through Test::Nginx::Socket.

use strict;
use warnings;

use Exporter qw(import);
use File::Path qw(remove_tree);
use List::Util qw(shuffle);
use Scalar::Util qw(looks_like_number);
use Test::Base ();
use Test::More ();
use Test::Nginx::Runner::Exchange qw(run_requests);
use Test::Nginx::Runner::LogChecks
  qw(rewind_error_log check_error_log check_shutdown_error_log);
use Test::Nginx::Runner::MockServer;
use Test::Nginx::Runner::Process
  qw(start_nginx stop_nginx reload_nginx kill_leftover nginx_version is_running);
use Test::Nginx::Runner::ServerRoot qw(prepare_server_root write_user_files write_config);
use Test::Nginx::Runner::SkipRules qw(skip_rule);
use Test::Nginx::Runner::Verdict qw(expect_is expect_true);
use Test::Nginx::Util qw(:DEFAULT expand_env);

our @EXPORT_OK = qw(run_tests run_test);

my $owner = $$;
my $previous_block;     # the one before, whatever became of it
my $previous_config;    # the config section nginx last got
my @mock_servers;

# Without these Perl would end on the signal at once, leaving nginx behind.
$SIG{$_} //= sub { exit 1 } for qw(INT TERM HUP);

sub run_tests () {
    refuse_unknown_modes();
    ($Test::Nginx::Util::NginxVersion, $Test::Nginx::Util::OpenSSLVersion) = nginx_version();
    $ENV{TEST_NGINX_SERVER_PORT} //= server_port();
    kill_leftover() if !$Test::Nginx::Util::NoNginxManager;

    my @blocks = Test::Base::blocks();
    @blocks = shuffle @blocks if !$Test::Nginx::Util::NoShuffle;
    for my $block (@blocks) {
        $_->($block) for @Test::Nginx::Util::BlockPreprocessors;
        $block->set_value(name => "$0 " . $block->name);
        run_test($block);
        $previous_block = $block;
    }

    run_cleanup_handlers();
    stop_nginx() if !$Test::Nginx::Util::NoClean;
    check_exit_of_previous();
}

sub run_test ($) {
    my $block = shift;
    return if defined $block->SKIP;
    refuse_unknown_sections($block);

    my $name = $block->name;
    my $rule = skip_rule($block);
    local $Test::Nginx::Util::LogLevel = $block->log_level || $Test::Nginx::Util::LogLevel;
    local $Test::Nginx::Util::UseHup = $Test::Nginx::Util::UseHup;
    local $Test::Nginx::Util::UseValgrind = $Test::Nginx::Util::UseValgrind;
    local $Test::Nginx::Runner::Verdict::DryRun;

    my $ports  = {};
    my $config = expand_env($block->config, $name, $ports);

    if (defined $block->must_die) {
        return skip($name, $rule, repeat_each()) if $rule;
        stop_nginx();
        $Test::Nginx::Util::UseHup = $Test::Nginx::Util::UseValgrind = undef;
        check_exit_of_previous();
        return run_doomed($block, $config, $ports);
    }

    if ($Test::Nginx::Util::NoNginxManager) {
        Test::More::diag("$name - config ignored, nginx is not ours") if defined $config;

    } elsif (!defined $config) {
        defined $previous_config or bail_out("$name - no config, and no block before it had one");

    } elsif (!$rule) {
        my $restart = $Test::Nginx::Util::ForceRestartOnTest
          || !defined $previous_config || $config ne $previous_config || !is_running();
        bring_up($block, $config, $ports) if $restart;
    }

    Test::Nginx::Util::evaluate("$name - init", $block->init) if $block->init;

    rewind_error_log();
    for my $repeat (0 .. repeat_each() - 1) {
        if ($rule) {
            skip($name, $rule, 1);
            next;
        }
        @mock_servers = Test::Nginx::Runner::MockServer->start_all($block);
        write_user_files($block, $ports) if $repeat > 0;
        run_requests($block, $repeat);
        $_->check for @mock_servers;
        stop_mock_servers();
    }
    keep_error_log($name);
}

# nginx with the block's configuration.
sub bring_up {
    my ($block, $config, $ports) = @_;
    my $name   = $block->name;
    my $reload = $Test::Nginx::Util::UseHup && is_running();
    my $version;

    if ($Test::Nginx::Util::UseHup) {
        master_on();    # reloading takes a master
        $version = join '', map { ('a' .. 'z')[rand 26] } 1 .. 12;
    }

    stop_nginx() if !$reload;
    check_exit_of_previous();
    $previous_config = $config;
    prepare_server_root($reload);
    write_user_files($block, $ports);
    write_config($block, $config, $ports, $version);

    if ($reload) {
        reload_nginx(defined $block->reload_fails ? undef : $version)
          or Test::More::fail("$name - nginx did not do the reload");
        return;
    }

    my $ended = start_nginx($name) or return;
    if ($ENV{TEST_NGINX_IGNORE_MISSING_DIRECTIVES}
        && $ended->{stderr} =~ /unknown directive "([^"]+)"/)
    {
        $Test::Nginx::Runner::Verdict::DryRun = "nginx has no directive $1";
        return;
    }
    Test::More::diag($ended->{stderr});
    bail_out("$name - nginx did not start (wait status $ended->{status})");
}

# must_die: nginx has to end by itself, with the exit code given if that is a number. The
# error log is the only other thing to look at.
sub run_doomed {
    my ($block, $config, $ports) = @_;
    my $name = $block->name;
    my $wanted = $block->must_die;
    $config // bail_out("$name - must_die without config");

    $previous_config = $config;
    prepare_server_root(0);
    write_user_files($block, $ports);
    write_config($block, $config, $ports, undef);
    rewind_error_log();

    for my $repeat (0 .. repeat_each() - 1) {
        my $ended  = start_nginx($name);
        my $status = $ended ? $ended->{status} : 0;
        my $code   = $status >> 8;

        if ($status & 127 || $code == 127) {
            expect_true(0, "$name - nginx ends by itself", "wait status $status");

        } elsif (looks_like_number($wanted)) {
            expect_is($code, $wanted, "$name - exit code of nginx");

        } else {
            expect_true($status != 0, "$name - nginx ends by itself", 'it started');
        }
        check_error_log($block, $repeat);
        stop_nginx();
    }
}

# What the block before logged at its end, which does not come to pass in reload mode.
sub check_exit_of_previous {
    return if !$previous_block;
    local $Test::Nginx::Runner::Verdict::DryRun =
        $Test::Nginx::Util::UseHup  ? 'nginx goes on, it is only reloaded'
      : $Test::Nginx::Util::NoClean ? 'nginx is left running'
      :                               undef;
    check_shutdown_error_log($previous_block);
}

sub skip {
    my ($name, $rule, $times) = @_;
    my $builder = Test::More->builder;
    for (1 .. $times * $rule->{count}) {
        $rule->{kind} eq 'todo'
          ? $builder->todo_skip("$name - $rule->{reason}")
          : $builder->skip("$name - $rule->{reason}");
    }
}

# TEST_NGINX_ERROR_LOG collects the error logs of all blocks.
sub keep_error_log {
    my $name = shift;
    my $total = $Test::Nginx::Util::TotalErrLog // return;
    open my $in, '<', $Test::Nginx::Util::ErrLogFile or return;
    open my $out, '>>', $total or bail_out("$name - cannot write $total: $!");
    print {$out} "\n=== $name\n", <$in>;
    close $out;
}

sub stop_mock_servers {
    $_->stop for @mock_servers;
    @mock_servers = ();
}

# As with Test::Nginx from CPAN these run after the last block and once more at the very end.
sub run_cleanup_handlers {
    $_->() for @Test::Nginx::Util::CleanupHandlers;
}

# What only Test::Nginx from CPAN can do. Going on without it would be a false pass.
sub refuse_unknown_modes {
    for my $mode (qw(CHECK_LEAK BENCHMARK USE_STAP USE_RR USE_HTTP2 USE_HTTP3)) {
        bail_out("TEST_NGINX_$mode needs Test::Nginx from CPAN") if $ENV{"TEST_NGINX_$mode"};
    }
}

sub refuse_unknown_sections {
    my $block = shift;
    for my $section (
        qw(http2 http3 curl stap stap_out stap_out_like stap_out_unlike request_eval
        response_body_eval charset))
    {
        bail_out($block->name . " - section $section needs Test::Nginx from CPAN")
          if defined $block->$section;
    }
}

END {
    if ($$ == $owner) {
        local $?;
        run_cleanup_handlers();
        stop_mock_servers();
        if (!$Test::Nginx::Util::NoClean) {
            stop_nginx();
            remove_tree(server_root()) if $ENV{TEST_NGINX_RANDOMIZE};
        }
    }
}

1;
