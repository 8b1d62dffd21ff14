package t::Connect;

# Block shapes for the tests of websocket.connect(), on top of t::Client's. In `client` there are also
#   websocket     the module
#   connect(opts, path)  connects to `server` (or another path of this nginx) and asserts
#   try(opts, u)  the same, but says what came of it: protocol and extensions, or the error
#   t.say(...)    a line of the response; say(...) without the nils at its end
# in `server`
#   answer(...)   the response of an opening handshake: header lines that replace the usual ones of
#                 their name, a name alone leaves one out; a first one that begins with HTTP/ is
#                 the status line. What follows a line "" is sent behind the head
# and every block has a location /ws whose handler is the section `accept`, with `ws` (made with the
# section `options`): an echo if there is none.

use strict;
use warnings;

use Exporter qw(import);
use t::Client;
use t::Wire qw(brief pattern plain log_above_info);

our @EXPORT = qw(brief pattern plain certificates complete_connect_block);

sub complete_connect_block {
    my $block = shift;
    my $accept = $block->accept // 'for data, typ in ws:messages() do ws:send(data, typ) end';
    my $options    = $block->options    // '';
    my $directives = $block->directives // '';
    my $location = <<"END";
    location = /ws {
        content_by_lua_block {
            local t = require "t.rawpeer"
            local ws, err, status = require("resty.websocket").accept($options)
            if not ws then
                return ngx.exit(status)
            end
            $accept
        }
    }
END
    $block->set_value(config      => ($block->config // '') . $location);
    $block->set_value(http_config => ($block->http_config // '') . <<"END") if $block->tls;
    server {
        listen TLS_PORT ssl;
        listen [::1]:TLS_PORT ssl;
        server_name ws.test;
        ssl_certificate CERT_DIR/ws.test.pem;
        ssl_certificate_key CERT_DIR/ws.test.key.pem;
$location
    }
    server {
        listen TLS_PORT ssl;
        server_name self.test;
        ssl_certificate CERT_DIR/self-signed.pem;
        ssl_certificate_key CERT_DIR/self-signed.key.pem;
$location
    }
END
    $block->set_value(client => <<'END' . $block->client) if defined $block->client;
            local websocket = require "resty.websocket"
            local base = "ws://127.0.0.1:HTTP_PORT"
            local function connect(opts, path)
                return assert(websocket.connect(base .. (path or "/s"), opts))
            end
            local function trimmed(...)
                local n = select("#", ...)
                while n > 1 and (select(n, ...)) == nil do
                    n = n - 1
                end
                return unpack({ ... }, 1, n)
            end
            local function say(...)
                t.say(trimmed(...))
            end
            local function try(opts, u)
                local ws, err, response = websocket.connect(u or url, opts)
                if not ws then
                    return say(nil, err, type(response))
                end
                say("connected", ws.protocol, ws.extensions)
                ws:shutdown()
            end
END
    $block->set_value(server => <<'END' . $block->server) if defined $block->server;
            local function answer(...)
                local key = t.head:match("Sec%-WebSocket%-Key: ([^\r]*)")
                local status, given, more = "HTTP/1.1 101 Switching Protocols", {}, nil
                local lines = { "Upgrade: websocket", "Connection: Upgrade",
                                "Sec-WebSocket-Accept: " .. require("t.peer").accept_of(key) }
                local out = {}
                for i, line in ipairs { ... } do
                    if more then
                        more = more .. line
                    elseif line == "" then
                        more = ""
                    elseif i == 1 and line:find("^HTTP/") then
                        status = line
                    else
                        given[line:match("^[^:]+"):lower()] = true
                        out[#out + 1] = line:find(":") and line or nil
                    end
                end
                for i = #lines, 1, -1 do
                    if not given[lines[i]:match("^[^:]+"):lower()] then
                        table.insert(out, 1, lines[i])
                    end
                end
                assert(sock:send(status .. "\r\n" .. table.concat(out, "\r\n") .. "\r\n\r\n"
                                 .. (more or "")))
            end
END
    $block->set_value(error_log    => [split /\n/, $block->info]) if defined $block->info;
    $block->set_value(no_error_log => [log_above_info()]) if !defined $block->no_error_log;
    complete_block($block);
}

1;
