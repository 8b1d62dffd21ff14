package t::Proxy;

# Block shapes for the tests of proxies: a client, the proxy, an upstream, all of one nginx. Sections of
# its own:
#   upstream  Lua code of the upstream's handler; `wb` is its drop-in server object
#   pass      the proxy is the directive websocket_proxy, with these words behind the URL; then `ws` is
#             the upstream's object, of websocket.accept(), with the options of the section `accept`
#   directives  of the proxy's location then
#   lua       the proxy is websocket.proxy with this table of options; what it returns is reported, with
#             codes and reasons of client and upstream. `ws` is as with `pass`
#   options   Lua source of the table handed to proxy.new()
#   proxy     Lua code of the proxy's handler instead of connect() and execute(); `proxy` is the module
#   client    Lua code of the client: `peer` is t/peer.lua, say(...) a line of the response, and
#             listen(p) says each frame to the end of the stream; talk(frames, bye, answers) is a client
#             that says good-bye in one packet with its frames, or, where the proxy's three seconds for
#             what comes before the answer to that are short (SLOW), after so many answers
#   results   the lines that report(...) gave, in order, from whichever side
#   info      a line of the info log that has to be there
# Unless a block says otherwise nothing above info may be logged.

use strict;
use warnings;

use Exporter qw(import);
use t::Blocks;
use t::Wire qw(masked plain brief pattern log_above_info);

our @EXPORT = qw(masked plain brief pattern complete_proxy_block $SLOW);

# http_config: a balancer whose first peer is dead, and which has the request made anew for the next.
our $ANEW = <<'END';
    upstream picked {
        server 0.0.0.1;
        balancer_by_lua_block {
            local balancer = require "ngx.balancer"
            local failed, status = balancer.get_last_failure()
            if failed then
                ngx.log(ngx.INFO, "result: ", failed, " ", status, ", client: ")
                assert(balancer.recreate_request())
                assert(balancer.set_current_peer("127.0.0.1", ngx.var.server_port))
            else
                assert(balancer.set_more_tries(1))
                assert(balancer.set_current_peer("127.0.0.1", 1))
            end
        }
    }
END

# config: an upstream that masks its frames, which only clients do (RFC 6455 5.1).
our $MASKED = <<'END';
    location = /up {
        content_by_lua_block {
            local wb = assert(require("resty.websocket.server"):new { send_masked = true })
            local peer = require "t.peer"
            peer.enter()
            wb:send_text("masked")
            local data, typ, code = wb:recv_frame()
            peer.report(data, typ, code)
            peer.leave()
        }
    }
END

my $NAMES = "            local SLOW = $SLOW\n" . <<'END';
            local peer = require "t.peer"
            local report = function (...) return peer.report(peer.trimmed(...)) end
            local say = function (...) return peer.say(peer.trimmed(...)) end
            local kinds = { [0] = "continuation", "text", "binary", [8] = "close", [9] = "ping", [10] = "pong" }
            local function listen(p, bye, answers)
                local first, payload = p:receive()
                while first do
                    answers = answers and answers - 1
                    if answers == 0 then
                        p:send(bye)
                    end
                    local kind = kinds[first % 16] .. (first < 128 and " ..." or "")
                    if first == 0x88 and polite then
                        p.sock:send(peer.frame(0x88, payload:sub(1, 2)))
                    end
                    if first == 0x88 and #payload >= 2 then
                        kind = kind .. " " .. payload:byte(1) * 256 + payload:byte(2)
                        payload = payload:sub(3)
                    end
                    ngx.say(kind, " ", payload)
                    first, payload = p:receive()
                end
                ngx.say(payload)
                p:close()
            end
            local function talk(frames, bye, answers)
                if SLOW == 1 then
                    return listen(peer.connect(frames .. bye))
                end
                listen(peer.connect(frames), bye, answers)
            end
            local url = "ws://127.0.0.1:HTTP_PORT/up"
END

# A location whose handler is waited for.
sub add_side {
    my ($block, $path, $code) = @_;
    add_location($block, $path, $QUIET, <<"END");
            local polite
$NAMES
            peer.enter()
            local done, err = pcall(function ()
$code
            end)
            peer.leave()
            if not done then
                error(err, 0)
            end
END
}

sub complete_directive {
    my $block = shift;
    my ($words, $accept) = ($block->pass, $block->accept // '');
    my $directives = $block->directives // '';
    $words =~ s/\s+\z//;
    my $url = $words =~ m{\Awss?://} ? '' : 'ws://127.0.0.1:HTTP_PORT/up';
    my $config = ($block->config // '') . <<"END";
    location = /ws {
        $directives
        websocket_proxy $url $words;
    }
END
    $block->set_value(config => $config);
    add_side($block, '/up', <<"END" . $block->upstream) if defined $block->upstream;
            local ws = assert(require("resty.websocket").accept($accept))
END
    finish($block);
}

sub complete_lua {
    my $block = shift;
    my ($options, $accept) = ($block->lua, $block->accept // '');
    add_side($block, '/ws', <<"END");
            local done, err, info = require("resty.websocket").proxy($options)
            if type(info) == "table" then
                local c, u = info.client, info.upstream
                report("done", done, err, c.code, c.reason, u.code, u.reason)
            else
                report("done", done, err, info)
                if info ~= 401 then
                    ngx.status = info
                    ngx.say("refused")
                end
            end
END
    add_side($block, '/up', <<"END" . $block->upstream) if defined $block->upstream;
            local ws = assert(require("resty.websocket").accept($accept))
END
    finish($block);
}

sub finish {
    my $block = shift;
    # A client of messages answers close frames, one of frames does what it is told.
    my $polite = defined($block->pass // $block->lua) ? 'true' : 'false';
    add_client($block, $QUIET, "            local polite = $polite\n$NAMES", 'peer.await_handlers()');
    fill_in($block);
    $block->set_value(no_error_log => [log_above_info()])
      if !defined $block->no_error_log && !defined $block->error_log;
    watch_log($block, log_above_info());
}

sub complete_proxy_block {
    my $block = shift;
    # The default heartbeat would ping at random: no block waits for that without saying so.
    add_http($block, 'websocket_ping_interval 0;');
    return complete_directive($block) if defined $block->pass;
    return complete_lua($block) if defined $block->lua;
    my $options = $block->options // '';
    add_side($block, '/ws', 'local proxy = require "resty.websocket.proxy"' . "\n" . ($block->proxy // <<"END"));
            local wp = assert(proxy.new($options))
            assert(wp:connect(url))
            local done, err = wp:execute()
            if not done then
                report("failed", err)
            end
END
    add_side($block, '/up', <<"END" . $block->upstream) if defined $block->upstream;
            local wb = assert(require("resty.websocket.server"):new())
END
    finish($block);
}

1;
