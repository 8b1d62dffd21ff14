# The options of resty.websocket.server:new(): what becomes of each, and the Lua error that a value
# of the wrong kind raises before anything is sent.

use Test::Nginx::Socket::Lua;
use t::Wire;

add_block_preprocessor(sub {
    my $block = shift;
    # A block with `try` lists option tables; each is tried, and what was raised is said without
    # its position, which has to be that of the call.
    if (defined(my $try = $block->try)) {
        $block->set_value(config => <<"END");
    location = /ws {
        keepalive_timeout 0;
        content_by_lua_block {
            local server = require("resty.websocket.server")
            local nan = 0 / 0
            for _, opts in ipairs({ $try }) do
                local ok, err = pcall(function ()
                    server:new(opts)
                end)
                local text = tostring(err):match("^content_by_lua%b():%d+: (.*)\$")
                ngx.say(text or "not raised here: " .. tostring(err))
            end
        }
    }
END
        $block->set_value(error_code => 200);
    }
    complete_block($block);
});
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: values of the wrong type
--- try
{ max_payload_len = "100" }, { max_recv_len = {} }, { max_send_len = true },
{ timeout = "1s" }, { timeout = print }
--- response_body
bad "max_payload_len" option: number expected, got string
bad "max_recv_len" option: number expected, got table
bad "max_send_len" option: number expected, got boolean
bad "timeout" option: number expected, got string
bad "timeout" option: number expected, got function



=== TEST 2: numbers out of range
--- try
{ max_payload_len = -1 }, { max_recv_len = nan }, { max_send_len = -1e300 },
{ timeout = -0.5 }, { timeout = 2147483648 }, { timeout = math.huge }
--- response_body_like
^bad "max_payload_len" option: -1
bad "max_recv_len" option: -?nan
bad "max_send_len" option: -1e\+300
bad "timeout" option: -0.5
bad "timeout" option: 2147483648
bad "timeout" option: inf



=== TEST 3: options that are no table
--- try
"opts", 100, true
--- response_body
bad "opts" argument: table expected, got string
bad "opts" argument: table expected, got number
bad "opts" argument: table expected, got boolean



=== TEST 4: wrong options come before wrong headers, and without pcall end the request
--- config
    location = /ws {
        content_by_lua_block {
            require("resty.websocket.server"):new({ timeout = "soon" })
        }
    }
--- head
Upgrade
--- error_code: 500
--- response_body_like: 500 Internal Server Error
--- error_log eval
qr/content_by_lua\(nginx\.conf:\d+\):\d+: bad "timeout" option: number expected, got string/



=== TEST 5: without options
--- handler
    report(wb.max_recv_len, wb.max_send_len, wb.send_masked, wb.fatal)
--- results
65535 65535 nil nil



=== TEST 6: false is no value
--- options: { max_payload_len = false, max_recv_len = false, max_send_len = false, timeout = false }
--- handler
    report(wb.max_recv_len, wb.max_send_len)
--- results
65535 65535



=== TEST 7: max_payload_len is the default of the other two
--- options: { max_payload_len = 100 }
--- handler
    report(wb.max_recv_len, wb.max_send_len)
--- results
100 100



=== TEST 8: the other two win
--- options: { max_payload_len = 100, max_recv_len = 5, max_send_len = 0 }
--- handler
    report(wb.max_recv_len, wb.max_send_len)
--- results
5 0



=== TEST 9: lengths without an end
--- options: { max_payload_len = math.huge }
--- handler
    report(wb.max_recv_len, wb.max_send_len)
    report(wb:recv_frame())
    report(wb:send_text(("y"):rep(100000)))
--- send eval: ::masked(0x81, "x" x 100000)
--- response_body eval: ::plain(0x81, "y" x 100000)
--- results eval
"inf inf\n" . ::brief("x" x 100000) . " \"text\" nil\n100010 nil\n"



=== TEST 10: options unknown to the module are left alone
--- options: { max_payload_len = 9, whatever = 1, [1] = 2 }
--- handler
    report(wb.max_recv_len, wb.whatever)
--- results
9 nil
