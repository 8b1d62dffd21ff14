package t::Proxy;

# Block shapes for the tests of resty.websocket.proxy: a client, the proxy, an upstream, all of one
# nginx. Sections of its own:
#   upstream  Lua code of the upstream's handler; `wb` is its drop-in server object
#   options   Lua source of the table handed to proxy.new()
#   proxy     Lua code of the proxy's handler instead of connect() and execute(); `proxy` is the module
#   client    Lua code of the client: `peer` is t/peer.lua, say(...) a line of the response, and
#             listen(p) says each frame to the end of the stream
#   results   the lines that report(...) gave, in order, from whichever side
#   info      a line of the info log that has to be there
# Unless a block says otherwise nothing above info may be logged.

use strict;
use warnings;

use Exporter qw(import);
use t::Blocks;
use t::Wire qw(masked plain brief pattern log_above_info);

our @EXPORT = qw(masked plain brief pattern complete_proxy_block);

my $NAMES = <<'END';
            local peer = require "t.peer"
            local report = function (...) return peer.report(peer.trimmed(...)) end
            local say = function (...) return peer.say(peer.trimmed(...)) end
            local kinds = { [0] = "continuation", "text", "binary", [8] = "close", [9] = "ping", [10] = "pong" }
            local function listen(p)
                local first, payload = p:receive()
                while first do
                    local kind = kinds[first % 16] .. (first < 128 and " ..." or "")
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
            local url = "ws://127.0.0.1:HTTP_PORT/up"
END

# A location whose handler is waited for.
sub add_side {
    my ($block, $path, $code) = @_;
    add_location($block, $path, $QUIET, <<"END");
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

sub complete_proxy_block {
    my $block = shift;
    add_http($block, '');
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
    add_client($block, $QUIET, $NAMES, 'peer.await_handlers()');
    fill_in($block);
    $block->set_value(no_error_log => [log_above_info()]) if !defined $block->no_error_log;
    watch_log($block, log_above_info());
}

1;
