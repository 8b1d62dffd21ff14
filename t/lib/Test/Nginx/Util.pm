package Test::Nginx::Util;

# Settings of a test run: what the TEST_NGINX_* environment and the calls at the head of a
# .t file decide, the paths and ports that follow from them, and the few text helpers that
# need nothing else. Every other part of the runner reads its settings here and nowhere else;
# .t files may read the package variables too ($Test::Nginx::Util::ErrLogFile and the like).

use strict;
use warnings;

use Carp qw(croak);
use Exporter qw(import);
use File::Spec ();
use IO::Socket::INET;
use Test::More ();

our @EXPORT = qw(
  repeat_each no_shuffle no_long_string no_root_location use_hup no_nginx_manager
  workers worker_connections master_on master_off master_process_enabled
  log_level timeout env_to_nginx config_preamble check_accum_error_log
  server_name server_addr server_root html_dir server_port server_port_for_client
  add_block_preprocessor add_cleanup_handler bail_out
);
our @EXPORT_OK = qw(parse_time trim expand_env);

our $Verbose            = $ENV{TEST_NGINX_VERBOSE};
our $NginxBinary        = $ENV{TEST_NGINX_BINARY} || 'nginx';
our $LoadModules        = $ENV{TEST_NGINX_LOAD_MODULES} // '';
our $Timeout            = $ENV{TEST_NGINX_TIMEOUT} || 3;
our $LogLevel           = $ENV{TEST_NGINX_LOG_LEVEL} || 'debug';
our $NoShuffle          = $ENV{TEST_NGINX_NO_SHUFFLE} || 0;
our $NoNginxManager     = $ENV{TEST_NGINX_NO_NGINX_MANAGER} || 0;
our $NoClean            = $ENV{TEST_NGINX_NO_CLEAN};
our $UseHup             = $ENV{TEST_NGINX_USE_HUP};
our $UseValgrind        = $ENV{TEST_NGINX_USE_VALGRIND};
our $CheckAccumErrLog   = $ENV{TEST_NGINX_CHECK_ACCUM_ERR_LOG};
our $ForceRestartOnTest = $ENV{TEST_NGINX_FORCE_RESTART_ON_TEST} // 1;
our $ReusePort          = $ENV{TEST_NGINX_REUSE_PORT};
our $Detach             = $ENV{TEST_NGINX_DETACH};
our $EventType          = $ENV{TEST_NGINX_EVENT_TYPE};
our $PostponeOutput     = $ENV{TEST_NGINX_POSTPONE_OUTPUT};
our $WorkerUser         = $ENV{TEST_NGINX_WORKER_USER};
our $TotalErrLog        = $ENV{TEST_NGINX_ERROR_LOG};
our $BuildSlaveName     = $ENV{TEST_NGINX_BUILDSLAVE};

our $MasterProcessEnabled = $ENV{TEST_NGINX_MASTER_PROCESS} || 'off';

our $RepeatEach        = 1;
our $Workers           = 1;
our $WorkerConnections = 64;
our $NoLongString;
our $NoRootLocation = 0;
our $ConfigPreamble = '';
our $FilterHttpConfig;
our @EnvToNginx;
our @BlockPreprocessors;
our @CleanupHandlers;

# Filled in by the runner once the nginx binary has been asked (1.22.1 is 1.022001).
our ($NginxVersion, $OpenSSLVersion);

our $ServerAddr = '127.0.0.1';
our $ServerName = 'localhost';
our $ServerPort = $ENV{TEST_NGINX_SERVER_PORT} || $ENV{TEST_NGINX_PORT} || 1984;
our $ServerPortForClient = $ENV{TEST_NGINX_CLIENT_PORT} || $ServerPort;
our $ServRoot = $ENV{TEST_NGINX_SERVROOT} || 't/servroot';

# How long a log line may lag behind the response it belongs to; see LogChecks.
our $LogLag = 3 * ($ENV{TEST_NGINX_SLEEP} || 0.015);

# A port nobody listens on now, outside the ones already given to this block.
sub gen_rand_port (;$) {
    my $taken = shift // {};
    for (1 .. 1000) {
        my $port = 2000 + int rand 60000;
        next if $taken->{$port};
        my $free = IO::Socket::INET->new(
            LocalAddr => $ServerAddr,
            LocalPort => $port,
            Proto     => 'tcp',
            Listen    => 1,
        ) or next;
        close $free;
        return $port;
    }
    return undef;
}

srand $$;

if ($ENV{TEST_NGINX_RANDOMIZE}) {
    $ServerPort          = gen_rand_port() // die "no free port found for TEST_NGINX_RANDOMIZE\n";
    $ServerPortForClient = $ServerPort;
    $ServRoot            = "t/servroot_$ServerPort";
}

if (defined $WorkerUser && $WorkerUser !~ /\A\w+(?:\s+\w+)?\z/) {
    die "TEST_NGINX_WORKER_USER is neither USER nor USER GROUP: $WorkerUser\n";
}

$ServRoot = File::Spec->rel2abs($ServRoot);
$ENV{TEST_NGINX_SERVER_ROOT} = $ServRoot;

our $LogDir     = "$ServRoot/logs";
our $HtmlDir    = "$ServRoot/html";
our $ConfDir    = "$ServRoot/conf";
our $ErrLogFile = "$LogDir/error.log";
our $AccLogFile = "$LogDir/access.log";
our $PidFile    = "$LogDir/nginx.pid";
our $ConfFile   = "$ConfDir/nginx.conf";

# Settings. Called with an argument they set, without one they tell.

sub repeat_each (@)            { $RepeatEach          = shift if @_; $RepeatEach }
sub workers (@)                { $Workers             = shift if @_; $Workers }
sub worker_connections (@)     { $WorkerConnections   = shift if @_; $WorkerConnections }
sub log_level (@)              { $LogLevel            = shift if @_; $LogLevel }
sub timeout (@)                { $Timeout             = shift if @_; $Timeout }
sub server_name (@)            { $ServerName          = shift if @_; $ServerName }
sub server_addr (@)            { $ServerAddr          = shift if @_; $ServerAddr }
sub server_port (@)            { $ServerPort          = shift if @_; $ServerPort }
sub server_port_for_client (@) { $ServerPortForClient = shift if @_; $ServerPortForClient }

sub master_process_enabled (@) {
    $MasterProcessEnabled = shift() ? 'on' : 'off' if @_;
    return $MasterProcessEnabled;
}

sub master_on ()             { $MasterProcessEnabled = 'on' }
sub master_off ()            { $MasterProcessEnabled = 'off' }
sub no_shuffle ()            { $NoShuffle            = 1 }
sub no_long_string ()        { $NoLongString         = 1 }
sub no_root_location ()      { $NoRootLocation       = 1 }
sub no_nginx_manager ()      { $NoNginxManager       = 1 }
sub use_hup ()               { $UseHup               = 1 }
sub check_accum_error_log () { $CheckAccumErrLog     = 1 }
sub config_preamble ($)      { $ConfigPreamble       = shift }

sub server_root () { return $ServRoot }
sub html_dir ()    { return $HtmlDir }

sub env_to_nginx (@) {
    croak 'env_to_nginx: needs the name of a variable' if !@_;
    for my $variable (@_) {
        croak "env_to_nginx: not the name of a variable: $variable"
          if $variable !~ /\A[A-Za-z_]/ || $variable =~ /\n/;
        push @EnvToNginx, $variable;
    }
}

# Both kinds of handlers run newest first.
sub add_block_preprocessor (&) { unshift @BlockPreprocessors, shift }
sub add_cleanup_handler ($)    { unshift @CleanupHandlers,    shift }

# Ends the whole run, this file and those after it. nginx and the mock servers are stopped
# by the END block of Test::Nginx::Runner.
sub bail_out (@) {
    Test::More::BAIL_OUT(join '', @_);
}

# "50ms" and "2s" in seconds; a bare number is seconds already.
sub parse_time ($) {
    my $time = shift;
    return undef if !defined $time;
    return $1 / 1000 if $time =~ /\A(.*[^_a-zA-Z])ms\z/s;
    return $1 if $time =~ /\A(.*[^_a-zA-Z])s\z/s;
    return $time;
}

# One line out of many, for the names of assertions.
sub trim ($) {
    my $text = shift // return undef;
    $text =~ s/\s+/ /g;
    $text =~ s/\A | \z//g;
    return $text;
}

# The value of Perl code given in a section. It sees this package's variables by their short
# names, and may change them.
sub evaluate ($$) {
    my ($what, $code) = @_;
    my $value = eval $code;
    bail_out("$what: $@") if $@;
    return $value;
}

# Puts the environment into configuration text: $TEST_NGINX_FOO is $ENV{TEST_NGINX_FOO}.
# TEST_NGINX_RAND_PORT_<n> is a free port, the same one in all texts of one block ($ports).
sub expand_env ($$$) {
    my ($text, $name, $ports) = @_;
    return undef if !defined $text;

    $text =~ s{\$(TEST_NGINX_[_A-Z0-9]+)}{
        my $variable = $1;
        if ($variable =~ /\ATEST_NGINX_RAND_PORT_[0-9]+\z/) {
            my %taken = ($ServerPort => 1, map { $_ => 1 } values %$ports);
            $ports->{$variable} //= gen_rand_port(\%taken)
              // bail_out("$name - no free port found for \$$variable");

        } else {
            $ENV{$variable}
              // bail_out("$name - \$$variable is used but not in the environment");
        }
    }ge;
    return $text;
}

1;
