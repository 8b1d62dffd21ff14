# The test runner in reload mode: one master for all blocks, each block's configuration taken
# up on HUP by two workers. What TEST_NGINX_USE_HUP=1 does to every other test file.

use Test::Nginx::Socket::Lua;

use_hup();
master_on();
workers(2);
repeat_each(5);

plan tests => repeat_each() * (2 + 2 + 2 + 3 + 3) + 1;

no_shuffle();
no_long_string();
run_tests();

__DATA__

=== TEST 1: the first configuration
--- config
    location = /t {
        content_by_lua_block { ngx.say("one") }
    }
--- request
GET /t
--- response_body
one



=== TEST 2: the second one answers at once, from all workers
--- config
    location = /t {
        content_by_lua_block { ngx.say("two") }
    }
--- request
GET /t
--- response_body
two



=== TEST 3: it goes on without a configuration of its own
--- request
GET /t
--- response_body
two
--- shutdown_error_log
this is skipped: nothing is shut down



=== TEST 4: a configuration that does not load leaves the old one
--- config
    no_such_directive on;
--- reload_fails
--- request
GET /t
--- response_body
two
--- grep_error_log eval: qr/unknown directive "\w+"/
--- grep_error_log_out eval
[qq{unknown directive "no_such_directive"\n}, ("") x 4]



=== TEST 5: and the log begins anew
--- config
    location = /t {
        content_by_lua_block { ngx.say("five") }
    }
--- request
GET /t
--- response_body
five
--- no_error_log
[emerg]
