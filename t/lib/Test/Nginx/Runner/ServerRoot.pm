package Test::Nginx::Runner::ServerRoot;

# The directory nginx runs in ($ServRoot: conf, html, logs) and what is written into it for
# a block: nginx.conf, the default page and the block's user_files. Called by
# Test::Nginx::Runner just before nginx is started or reloaded.

use strict;
use warnings;

use Exporter qw(import);
use File::Basename qw(dirname);
use File::Find qw(find);
use File::Path qw(make_path remove_tree);
use Test::Nginx::Util qw(:DEFAULT expand_env);

our @EXPORT_OK = qw(prepare_server_root write_user_files write_config);

# Variables nginx hands on to its workers besides those of env_to_nginx().
my @passed_env = qw(
  MOCKEAGAIN_VERBOSE MOCKEAGAIN MOCKEAGAIN_WRITE_TIMEOUT_PATTERN MOCKNOEAGAIN_VERBOSE
  MOCKNOEAGAIN LD_PRELOAD LD_LIBRARY_PATH DYLD_INSERT_LIBRARIES DYLD_FORCE_FLAT_NAMESPACE
  ASAN_OPTIONS
);

# An empty root. With $keep_running (nginx lives on and will be reloaded) directories, the
# pid file, sockets and keys stay. A root with foreign files in it is not ours to remove.
sub prepare_server_root ($) {
    my $keep_running = shift;
    my ($root, $html, $logs, $conf) = (
        $Test::Nginx::Util::ServRoot, $Test::Nginx::Util::HtmlDir,
        $Test::Nginx::Util::LogDir,   $Test::Nginx::Util::ConfDir,
    );

    if (-d $root) {
        remove_tree($conf, glob("$root/*_cache"), glob("$root/*_temp"));
        if ($keep_running) {
            find({ no_chdir => 1, wanted => sub {
                return if -d $_ || /(?:\bnginx\.pid|\.sock|\.crt|\.key)\z/;
                unlink $_ or warn "cannot remove $_: $!\n";
            } }, $root);

        } else {
            # Machines of a test in Python that has failed have folders with numbers (t/lib/live.py).
            remove_tree($html, $logs, grep { -d } glob("$root/[0-9]*"));
            rmdir $root or bail_out("cannot empty the server root $root: $!");
        }
    }

    make_path($html, $logs, $conf);
    write_file("$html/index.html",
        '<html><head><title>It works!</title></head><body>It works!</body></html>');
}

# user_files is either text with a ">>> name [touch date]" line in front of each file, or an
# array of [name, content, date]. Relative names are below the html directory.
sub write_user_files ($$) {
    my ($block, $ports) = @_;
    my $name  = $block->name;
    my $files = $block->user_files or return;

    if (!ref $files) {
        my @parsed;
        for my $line (split /^/, $files) {
            if ($line =~ />>> (\S+)(?:\s+(.+))?/) {
                push @parsed, [$1, '', $2];

            } elsif (@parsed) {
                $parsed[-1][1] .= $line;
            }
        }
        $files = \@parsed;

    } elsif (ref $files ne 'ARRAY') {
        bail_out("$name - user_files must be text or an array");
    }

    for my $file (@$files) {
        my ($path, $content, $date) = @$file;
        $path = "$Test::Nginx::Util::HtmlDir/$path" if $path !~ m{\A/};
        make_path(dirname($path));
        write_file($path, expand_env($content // '', $name, $ports));

        if ($date) {
            local $ENV{TZ} = 'GMT';
            system('touch', '-t', $date, $path) == 0
              or bail_out("$name - cannot give $path the date $date");
        }
    }
}

# $config is the block's config section, already expanded; $version names this configuration
# to the reload check and is undef outside of reload mode.
sub write_config ($$$$) {
    my ($block, $config, $ports, $version) = @_;
    my $name = $block->name;

    my $main      = expand_env($block->main_config,      $name, $ports) // '';
    my $http      = expand_env($block->http_config,      $name, $ports) // '';
    my $post_main = expand_env($block->post_main_config, $name, $ports) // '';

    $http = $Test::Nginx::Util::FilterHttpConfig->($http) if $Test::Nginx::Util::FilterHttpConfig;

    my $postpone = $Test::Nginx::Util::PostponeOutput;
    if (defined $postpone && $http !~ /\bpostpone_output\b/) {
        $postpone =~ /\A\d+\z/ or bail_out("TEST_NGINX_POSTPONE_OUTPUT is not a number: $postpone");
        $http .= "\n    postpone_output $postpone;\n";
    }

    # "off": connections keep their requests, where the module is loaded and nothing else is said.
    my $detach = $Test::Nginx::Util::Detach;
    if (defined $detach && $http !~ /\bwebsocket_detach\b/ && $Test::Nginx::Util::LoadModules =~ /websocket/) {
        $http .= "\n    websocket_detach $detach;\n";
    }

    # Behind the block's own text, as Test::Nginx from CPAN has it: a main_config that opens
    # a block of a dynamic module fails there, so it must not work here.
    $main .= join ' ', map { "load_module $_;" } split ' ', $Test::Nginx::Util::LoadModules;

    my $env = join '', map { "env " . (/\s/ ? "'$_'" : $_) . ";\n" }
      @passed_env, @Test::Nginx::Util::EnvToNginx;

    my $user =
        defined $Test::Nginx::Util::WorkerUser ? "user $Test::Nginx::Util::WorkerUser;"
      : $> == 0                                ? 'user root;'
      :                                          '';

    my $listen = server_port() . ($Test::Nginx::Util::ReusePort ? ' reuseport' : '');
    my $server_name = $block->server_name // server_name();
    my $error_log   = $block->error_log_file || $Test::Nginx::Util::ErrLogFile;
    my $event_type  = $Test::Nginx::Util::EventType ? "use $Test::Nginx::Util::EventType;" : '';

    my $root_location = $Test::Nginx::Util::NoRootLocation ? '' : <<"END";
        location / {
            root $Test::Nginx::Util::HtmlDir;
            index index.html index.htm;
        }
END

    my $version_server = !defined $version ? '' : <<"END";
    server {
        listen $listen;
        server_name 'Test-Nginx';
        location = /ver { return 200 '$version'; }
    }
END

    # daemon off: nginx stays our child, so its end can be waited for.
    write_file($Test::Nginx::Util::ConfFile, <<"END");
daemon off;
master_process $Test::Nginx::Util::MasterProcessEnabled;
worker_processes $Test::Nginx::Util::Workers;
pid $Test::Nginx::Util::PidFile;
error_log $error_log $Test::Nginx::Util::LogLevel;
$user
$env
# main_config
$main

http {
    access_log $Test::Nginx::Util::AccLogFile;
    default_type text/plain;
    keepalive_timeout 68;

    # http_config
$http

    server {
        listen $listen;
        server_name '$server_name';
        client_max_body_size 30M;

        # preamble
$Test::Nginx::Util::ConfigPreamble

        # config
$config

$root_location
    }
$version_server
}

# post_main_config
$post_main

events {
    accept_mutex off;
    worker_connections $Test::Nginx::Util::WorkerConnections;
    $event_type
}
END
}

sub write_file {
    my ($path, $content) = @_;
    open my $out, '>', $path or bail_out("cannot write $path: $!");
    binmode $out;
    print {$out} $content;
    close $out or bail_out("cannot write $path: $!");
}

1;
