# The test runner must report what does not hold. A file full of wrong expectations is run in
# a process of its own, and the verdict on each of its blocks is compared with what is due:
# the number of assertions that pass and that fail. Then the things that have to end the run,
# and the exit code of t/prove.sh.

use strict;
use warnings;

use File::Path qw(make_path);
use File::Spec;
use File::Temp qw(tempdir);
use Test::More;

my $directory = tempdir(CLEANUP => 1);
$ENV{TEST_NGINX_SERVROOT} = "$directory/servroot";
delete @ENV{qw(TEST_NGINX_USE_HUP TEST_NGINX_USE_VALGRIND)};

# TEST number => [passed, failed]
my %due = (
    1  => [1, 1],
    2  => [1, 1],
    3  => [1, 1],
    4  => [0, 1],
    5  => [0, 1],
    6  => [2, 2],
    7  => [1, 1],
    8  => [2, 1],
    9  => [1, 1],
    10 => [1, 1],
    11 => [1, 2],
    12 => [1, 1],
    13 => [0, 2],
    14 => [3, 1],
    15 => [1, 2],
    16 => [1, 1],
    17 => [2, 1],
    18 => [1, 1],
    19 => [0, 2],
    20 => [1, 1],
    21 => [1, 3],
    22 => [2, 1],
    23 => [1, 1],
    24 => [2, 0],
);

# A test in Python has failed here before.
make_path("$ENV{TEST_NGINX_SERVROOT}/$_/conf") for 1, 2;
my $output = run_file('wrong', "no_shuffle();\nno_long_string();\n" . do { local $/; <DATA> });
my %seen;
for my $line (split /\n/, $output) {
    my ($not, $test) = $line =~ /\A(not )?ok \d+ .*?TEST (\d+):/ or next;
    $seen{$test}[$not ? 1 : 0]++;
}
for my $test (sort { $a <=> $b } keys %due) {
    my @found = map { $seen{$test}[$_] // 0 } 0, 1;
    is("@found", "@{ $due{$test} }", "TEST $test: number of passed and failed assertions");
}
is(join(' ', sort { $a <=> $b } keys %seen), join(' ', 1 .. 24), 'every block was run');

my %ends = (
    'a request without a configuration' => <<'END',
--- request
GET /t
END
    'a variable that is not in the environment' => <<'END',
--- config
    location = /t { return 200 $TEST_NGINX_NOT_THERE; }
--- request
GET /t
END
    'no request' => <<'END',
--- config
    location = /t { return 200; }
END
    'a configuration nginx does not take' => <<'END',
--- config
    no_such_directive on;
--- request
GET /t
END
    'grep_error_log_out with nothing to compare to' => <<'END',
--- config
    location = /t { return 200; }
--- request
GET /t
--- grep_error_log_out
a
END
    'one expectation for two requests' => <<'END',
--- config
    location = /t { return 200; }
--- request eval
["GET /t", "GET /t"]
--- error_code: 200
END
);
for my $what (sort keys %ends) {
    (my $file = $what) =~ s/\W/-/g;
    my $text = run_file($file, "run_tests();\n__DATA__\n\n=== TEST 1: it\n$ends{$what}");
    like($text, qr/^Bail out!/m, "$what ends the run");
}

my $unplanned = run_file('plan', <<'END', 'plan tests => 3;');
run_tests();
__DATA__

=== TEST 1: makes two
--- config
    location = /t { return 200 "x"; }
--- request
GET /t
--- response_body chop
x
END
like($unplanned, qr/planned 3 tests but ran 2/, 'a plan that does not fit is reported');
isnt($?, 0, '... and the exit code says so');

SKIP: {
    my ($volume, $here) = File::Spec->splitpath(File::Spec->rel2abs(__FILE__) =~ s{[^/]+/[^/]+\z}{x}r);
    my $prove = "$here/prove.sh";
    skip 'needs t/prove.sh', 3 if !-x $prove;

    my %files = (
        good   => "use Test::More tests => 1; ok(1);\n",
        bad    => "use Test::More tests => 1; ok(0);\n",
        absent => "use Test::More skip_all => 'nothing to do';\n",
    );
    for my $file (sort keys %files) {
        write_file("$directory/$file.t", $files{$file});
        system "bash '$prove' '$directory/$file.t' >/dev/null 2>&1";
        is($? == 0, $file eq 'good', "t/prove.sh: exit code for a file that is $file");
    }
}

done_testing();

# Standard output and error of the test file with this text.
sub run_file {
    my ($name, $text, $plan) = @_;
    $plan //= "plan('no_plan');";
    my $file = "$directory/$name.t";
    write_file($file, "use Test::Nginx::Socket::Lua;\n$plan\n$text");
    my @command = ($^X, map({ "-I" . File::Spec->rel2abs($_) } grep { !ref } @INC), $file);
    my $quoted = join ' ', map { "'$_'" } @command;
    return scalar `$quoted 2>&1`;
}

sub write_file {
    my ($path, $text) = @_;
    open my $out, '>', $path or die "$path: $!";
    print {$out} $text;
    close $out or die "$path: $!";
}

__DATA__
$ENV{TEST_NGINX_MOCK_PORT} = server_port() + 1;
our $location = 'location = /t { content_by_lua_block { ngx.log(ngx.WARN, "logged") ngx.say("said") } }';
add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value('config', $location) if !defined $block->config;
    $block->set_value('request', 'GET /t')
      if !defined $block->request && !defined $block->raw_request && !defined $block->pipelined_requests;
});
run_tests();
__DATA__

=== TEST 1: body
--- response_body
other



=== TEST 2: pattern of the body
--- response_body_like: ^other



=== TEST 3: pattern the body is not to match
--- response_body_unlike: sai



=== TEST 4: status
--- error_code: 201



=== TEST 5: status of a missing page where 200 is implied
--- request
GET /nowhere



=== TEST 6: headers
--- response_headers
Content-Type: text/html
Connection: close
! Server



=== TEST 7: patterns of a header
--- response_headers_like
Content-Type: text/h.*



=== TEST 8: raw headers
--- raw_response_headers_like: HTTP/1.1 200
--- raw_response_headers_unlike: Server



=== TEST 9: a line the log does not have
--- error_log
not logged



=== TEST 10: a line the log should not have
--- no_error_log
logged



=== TEST 11: patterns for the log
--- error_log eval
[qr/logged \d/]
--- no_error_log eval
qr/log+ed/



=== TEST 12: lines taken from the log
--- grep_error_log: logged
--- grep_error_log_out
logged
logged



=== TEST 13: the response does not end
--- config
    location = /t { content_by_lua_block { ngx.sleep(10) } }
--- timeout: 100ms



=== TEST 14: the second of two requests
--- request eval
["GET /t", "GET /t"]
--- response_body eval
["said\n", "not said\n"]



=== TEST 15: the query a TCP peer gets
--- config
    location = /t {
        content_by_lua_block {
            local sock = ngx.socket.tcp()
            assert(sock:connect("127.0.0.1", $TEST_NGINX_MOCK_PORT))
            assert(sock:send("ping\n"))
            ngx.say(sock:receive("*a"))
        }
    }
--- tcp_listen eval: $ENV{TEST_NGINX_MOCK_PORT}
--- tcp_query eval
"pong\n"
--- tcp_reply: ok
--- response_body
other



=== TEST 16: an nginx that has to die but lives
--- must_die
--- no_error_log
nothing of the kind



=== TEST 17: an nginx that dies with another exit code
--- http_config
    server { listen unix:$TEST_NGINX_SERVER_ROOT/nowhere/s.sock; }
--- must_die: 7
--- error_log
[emerg]
--- no_error_log
nothing of the kind



=== TEST 18: a line of the access log
--- access_log
GET /elsewhere



=== TEST 19: no response
--- config
    location = /t { return 444; }
--- response_body
said



=== TEST 20: late lines of the log are not waited for without end
--- config
    location = /t {
        content_by_lua_block {
            ngx.timer.at(1, function () ngx.log(ngx.WARN, "too late") end)
            ngx.say("said")
        }
    }
--- error_log
too late



=== TEST 21: a body cut short, a wrong chunk
--- raw_request eval
"GET /t HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
--- config
    location = /t {
        content_by_lua_block {
            local sock = assert(ngx.req.socket(true))
            sock:send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")
        }
    }
--- response_body: ab
--- no_error_log
nothing of the kind



=== TEST 22: a line at exit
--- shutdown_error_log
nothing of the kind
--- response_body
said



=== TEST 23: the second response of a pipeline
--- config
    location = /t { return 200 "said"; }
--- pipelined_requests eval
["GET /t"]
--- response_body eval
["other"]



=== TEST 24: and one that is right
--- response_body
said
