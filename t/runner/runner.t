# The test runner itself: every kind of section the other test files use, with expectations
# that hold. That expectations which do not hold are reported is in t/runner/negative.t.
# Needs nginx with ngx_lua only. The plan is spelled out block by block, so that a runner that
# makes an assertion too few or too many fails here.

use Test::Nginx::Socket::Lua;

repeat_each(2);

my $once_per_repeat =
    3     # 1: status, body, log
  + 4     # 2: status, three headers
  + 4     # 3: status, raw headers twice, header
  + 2     # 4: status, body
  + 2     # 5
  + 2     # 6
  + 3 * 2 # 7: two requests of status, body, log
  + 2     # 8
  + 3 * 2 # 9: two responses of status, body, log
  + 2     # 10
  + 2     # 11
  + 2     # 12
  + 2     # 13
  + 3     # 14: status, body, header
  + 1     # 15: log
  + 1     # 16: status
  + 2     # 17
  + 3     # 18: status, grep_error_log_out, no_error_log
  + 2     # 19: status, grep_error_log_out
  + 5     # 20: status, two patterns in, two not
  + 4     # 21: status, body, tcp_query, tcp_query_len
  + 2     # 22
  + 3     # 23: status, body, udp_query
  + 2     # 24
  + 2     # 25: skipped
  + 1     # 26: skipped
  + 2     # 28: end of nginx, log
  + 2     # 29: end of nginx, no_error_log
  + 2     # 30
  + 2     # 31: status, log
  + 1     # 32: status
  + 2     # 33: status, body check below
  + 2     # 34
  + 2     # 35
  + 2     # 36
  + 3     # 37: status, access log twice
  + 2     # 38
  + 2;    # 39

my $once = 2;    # 32: two lines at exit

plan tests => repeat_each() * $once_per_repeat + $once;

$ENV{TEST_NGINX_MOCK_PORT} = server_port() + 1;
$ENV{RUNNER_TEST}          = 'handed on';
env_to_nginx('RUNNER_TEST');
our $initialized = 0;

add_block_preprocessor(sub {
    my $block = shift;
    return if defined $block->request || defined $block->raw_request
      || defined $block->pipelined_requests;
    $block->set_value('request', 'GET /t');
});

add_response_body_check(sub {
    my ($block, $body, $request, $repeat, $dry_run) = @_;
    is($initialized, $block->expect_initialized, $block->name . ' - init was run once')
      if defined $block->expect_initialized;
    is($body, $block->expect_bodies->[$repeat], $block->name . " - body of repetition $repeat")
      if defined $block->expect_bodies;
});

no_shuffle();
no_long_string();
run_tests();

__DATA__

=== TEST 1: status, body and log of a plain request
--- config
    location = /t {
        content_by_lua_block {
            ngx.log(ngx.INFO, "here i am")
            ngx.say("hello")
        }
    }
--- request
GET /t
--- response_body
hello
--- error_log
here i am



=== TEST 2: response_headers, one of them repeated, one absent
--- config
    location = /t {
        content_by_lua_block {
            ngx.header["X-One"] = "1"
            ngx.header["X-Two"] = {"a", "b"}
            ngx.exit(204)
        }
    }
--- response_headers
X-One: 1
X-Two: a, b
! X-Three
--- error_code: 204



=== TEST 3: patterns for headers
--- config
    location = /t {
        content_by_lua_block {
            ngx.header["X-One"] = "one 1"
            ngx.say("ok")
        }
    }
--- raw_response_headers_like: HTTP/1\.1 200 OK\r\n.*X-One: one 1\r\n
--- raw_response_headers_unlike: X-Two
--- response_headers_like
X-One: one \d



=== TEST 4: the default page
--- config
--- request
GET /
--- response_body_like: It works!



=== TEST 5: the request as it is sent
--- config
    location = /t {
        content_by_lua_block {
            ngx.req.read_body()
            ngx.print(ngx.req.raw_header(), ngx.req.get_body_data())
        }
    }
--- more_headers
X-One: 1
# X-Comment: not sent
X-Two:2
--- request
POST /t
 hello

--- response_body eval
"POST /t HTTP/1.1\r
Host: localhost\r
Connection: close\r
X-One: 1\r
X-Two: 2\r
Content-Length: 5\r
\r
hello"



=== TEST 6: headers given replace the defaults, a request of one word
--- config
    location = / {
        content_by_lua_block { ngx.print(ngx.req.raw_header()) }
        keepalive_timeout 0;
    }
--- more_headers
host: example.com
Connection: Upgrade
Upgrade: websocket
--- request
GET
--- response_body eval
"GET / HTTP/1.1\r
host: example.com\r
Connection: Upgrade\r
Upgrade: websocket\r
\r
"
--- timeout: 5



=== TEST 7: several requests, each on its own connection
--- config
    location /t {
        content_by_lua_block {
            ngx.status = ngx.var.arg_s
            ngx.log(ngx.INFO, "body of ", ngx.var.http_x)
            ngx.print(ngx.var.http_x)
        }
    }
--- request eval
["GET /t?s=200", "GET /t?s=404"]
--- more_headers eval
["X: a", "X: b"]
--- error_code eval
[200, 404]
--- response_body eval
["a", qr/\Ab\z/]
--- error_log
body of



=== TEST 8: a request cut into packets with pauses; what becomes of one is completed again
--- config
    location = /t {
        content_by_lua_block {
            ngx.req.read_body()
            ngx.print(ngx.req.get_method(), " ", ngx.req.get_body_data())
        }
    }
--- request eval
[["PO", {value => "ST /t\nhel", delay_before => 0.05}, {value => "lo", delay_before => 0.05}]]
--- expect_bodies eval
["POST hello", "POST Host: localhost\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"]



=== TEST 9: pipelined requests
--- config
    location /t {
        content_by_lua_block {
            ngx.log(ngx.INFO, "pipelined: ", ngx.var.uri)
            ngx.print(ngx.var.uri, " ", ngx.var.http_connection)
        }
    }
--- pipelined_requests eval
["GET /t/1", "GET /t/2"]
--- response_body eval
["/t/1 keep-alive", "/t/2 close"]
--- error_log
--- no_error_log
[error]



=== TEST 10: chunks in the request, chunks in the response
--- config
    location = /t {
        content_by_lua_block {
            ngx.req.read_body()
            ngx.print(ngx.req.get_body_data())
            ngx.flush(true)
            ngx.print("", string.rep("x", 40000))
        }
    }
--- more_headers
Transfer-Encoding: chunked
--- request eval
"POST /t
3\r
abc\r
0\r
\r
"
--- response_body eval
"abc" . "x" x 40000



=== TEST 11: raw_request with a length header and HTTP/1.0
--- config
    location = /t {
        content_by_lua_block { ngx.print(ngx.req.http_version(), ngx.var.http_host) }
    }
--- raw_request eval
"GET /t HTTP/1.0\r\nHost: raw\r\n\r\n"
--- response_body chop
1raw



=== TEST 12: raw_request in parts
--- config
    location = /t {
        content_by_lua_block { ngx.say(ngx.var.http_x) }
    }
--- raw_request eval
["GET /t HTT", "P/1.1\r\nHost: a\r\nConnection: close\r\nX: y", "z\r\n\r\n"]
--- raw_request_middle_delay: 0.02
--- response_body
yz



=== TEST 13: HTTP/0.9
--- config
    location = /t {
        return 200 "all of it";
    }
--- raw_request eval
"GET /t\r\n"
--- http09
--- response_body chop
all of it



=== TEST 14: what follows a 101 is the body
--- config
    location = /t {
        content_by_lua_block {
            ngx.status = 101
            ngx.header["Upgrade"] = "websocket"
            ngx.send_headers()
            ngx.flush(true)
            local sock = assert(ngx.req.socket(true))
            assert(sock:send("\129\2hi"))
        }
    }
--- more_headers
Upgrade: websocket
--- error_code: 101
--- response_headers
Upgrade: websocket
--- response_body eval
"\x81\x02hi"



=== TEST 15: giving up on a response that does not end
--- config
    location = /t {
        lua_check_client_abort on;
        content_by_lua_block {
            ngx.on_abort(function ()
                ngx.log(ngx.WARN, "client is gone")
                ngx.exit(499)
            end)
            ngx.sleep(60)
        }
    }
--- timeout eval: $ENV{TEST_NGINX_USE_VALGRIND} ? 10 : 0.3
--- abort
--- ignore_response
--- error_log
client is gone
--- wait: 0.1



=== TEST 16: no response at all
--- config
    location = /t {
        return 444;
    }
--- error_code:



=== TEST 17: HEAD has a length and no body
--- config
    location = /t {
        return 200 "four";
    }
--- request
HEAD /t
--- response_body



=== TEST 18: grep_error_log by pattern, a text per repetition
--- config
    location = /t {
        content_by_lua_block {
            package.loaded.count = (package.loaded.count or 0) + 1
            ngx.log(ngx.INFO, "step <a>")
            ngx.log(ngx.INFO, "step <", package.loaded.count, ">")
        }
    }
--- grep_error_log eval: qr/step <\w>/
--- grep_error_log_out eval
["step <a>\nstep <1>\n", "step <a>\nstep <2>\n"]
--- no_error_log
[error]



=== TEST 19: grep_error_log by text
--- config
    location = /t {
        content_by_lua_block {
            ngx.log(ngx.INFO, "said (once)")
        }
    }
--- grep_error_log: (once)
--- grep_error_log_out
(once)



=== TEST 20: patterns of either kind, and a log level
--- config
    location = /t {
        content_by_lua_block {
            ngx.log(ngx.INFO, "not written")
            ngx.log(ngx.WARN, "number ", 42)
        }
    }
--- log_level: notice
--- error_log eval
["[lua]", qr/number \d+/]
--- no_error_log eval
["not written", qr/number [a-z]/]



=== TEST 21: a TCP peer with a reply in parts
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
"ping\n"
--- tcp_query_len: 5
--- tcp_reply eval
["po", "ng"]
--- tcp_reply_delay: 10ms
--- response_body
pong



=== TEST 22: a TCP peer that computes its reply and stays
--- config
    location = /t {
        content_by_lua_block {
            local sock = ngx.socket.tcp()
            sock:settimeout(200)
            assert(sock:connect("unix:$TEST_NGINX_SERVER_ROOT/html/peer.sock"))
            assert(sock:send("ping\n"))
            local _, err, got = sock:receive("*a")
            ngx.say(got, " ", err)
        }
    }
--- tcp_listen eval: "$ENV{TEST_NGINX_SERVER_ROOT}/html/peer.sock"
--- tcp_reply eval
sub { uc $_[0] }
--- tcp_no_close
--- response_body
PING
 timeout



=== TEST 23: a UDP peer
--- config
    location = /t {
        content_by_lua_block {
            local sock = ngx.socket.udp()
            assert(sock:setpeername("127.0.0.1", $TEST_NGINX_MOCK_PORT))
            assert(sock:send("ping"))
            ngx.say(sock:receive())
        }
    }
--- udp_listen eval: $ENV{TEST_NGINX_MOCK_PORT}
--- udp_query chop
ping
--- udp_reply chop
pong
--- response_body
pong



=== TEST 24: user_files, with the environment put in
--- config
    location = /t {
        content_by_lua_file html/sub/t.lua;
    }
--- user_files
>>> sub/t.lua
ngx.print(require("ngx.process").type and "", io.open(ngx.config.prefix() .. "html/b.txt"):read("*a"))
>>> b.txt 201001010000.00
port $TEST_NGINX_SERVER_PORT
--- response_body eval
"port $ENV{TEST_NGINX_SERVER_PORT}\n"



=== TEST 25: skipped by version
--- skip_nginx: 2: > 1.0.0: too new
--- config
    location = /t { return 500; }
--- response_body
never looked at



=== TEST 26: skipped by a Perl expression
--- skip_eval: 1: $^O ne 'no such system'
--- config
    location = /t { return 500; }



=== TEST 27: skipped without a trace
--- SKIP
--- config
    location = /t { return 500; }



=== TEST 28: an nginx that cannot start
--- http_config
    server {
        listen unix:$TEST_NGINX_SERVER_ROOT/nowhere/s.sock;
    }
--- config
--- must_die
--- error_log
[emerg]



=== TEST 29: an nginx that ends with the exit code given
--- http_config
    server {
        listen unix:$TEST_NGINX_SERVER_ROOT/nowhere/s.sock;
    }
--- config
--- must_die: 1
--- no_error_log
[emerg] unknown directive



=== TEST 30: main_config, http_config, post_main_config, server_name
--- main_config
    env RUNNER_TEST_MAIN=main;
--- post_main_config
    env RUNNER_TEST_POST=post;
--- http_config
    map $uri $from_map { default "map"; }
--- server_name: a.example
--- config
    location = /t {
        content_by_lua_block {
            ngx.say(os.getenv("RUNNER_TEST_MAIN"), " ", os.getenv("RUNNER_TEST_POST"), " ",
                    os.getenv("RUNNER_TEST"), " ", ngx.var.from_map, " ", ngx.var.server_name)
        }
    }
--- response_body
main post handed on map a.example



=== TEST 31: a log line that comes late is waited for
--- config
    location = /t {
        content_by_lua_block {
            ngx.timer.at(0.15, function () ngx.log(ngx.INFO, "late") end)
            ngx.say("ok")
        }
    }
--- wait: 0.3
--- error_log
late



=== TEST 32: what is logged at exit
--- http_config
    exit_worker_by_lua_block { ngx.log(ngx.NOTICE, "worker leaves") }
--- config
    location = /t { return 200; }
--- shutdown_error_log
worker leaves
--- no_shutdown_error_log
[error]



=== TEST 33: init
--- config
    location = /t { return 200; }
--- init
$main::initialized++;
--- expect_initialized: 1



=== TEST 34: response_body_filters and response_body_unlike's counterpart
--- config
    location = /t { return 200 "Mixed"; }
--- response_body_filters
lc ucfirst
--- response_body chop
Mixed



=== TEST 35: patterns for body and status
--- config
    location = /t { return 404 "no\nsuch thing"; }
--- error_code_like: ^40\d$
--- response_body_unlike: found



=== TEST 36: the configuration of the block before goes on
--- response_body_like: such.thing
--- error_code: 404



=== TEST 37: access log
--- config
    location = /t { return 200 "ok"; }
--- access_log
GET /t HTTP/1.1
--- no_access_log
GET /u



=== TEST 38: half-close by the client
--- config
    location = /t {
        content_by_lua_block {
            local sock = ngx.req.socket(true)
            local data = sock:receive("*a")
            sock:send("HTTP/1.1 200 OK\r\n\r\n" .. data)
        }
    }
--- raw_request eval
"POST /t HTTP/1.1\r\nHost: a\r\n\r\nall there is"
--- shutdown: 1
--- response_body chop
all there is



=== TEST 39: ports given out by the runner
--- http_config
    server {
        listen $TEST_NGINX_RAND_PORT_1;
        location = /t { return 200 "the other server\n"; }
    }
--- config
    location = /t { proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
--- response_body
the other server
