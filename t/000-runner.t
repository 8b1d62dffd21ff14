use Test::Nginx::Socket::Lua;

repeat_each(2);
plan tests => repeat_each() * (blocks() * 3);

no_long_string();
run_tests();

__DATA__

=== TEST 1: hello
--- config
    location = /t {
        content_by_lua_block { ngx.log(ngx.INFO, "here i am") ngx.say("hello") }
    }
--- request
GET /t
--- response_body
hello
--- error_log
here i am
