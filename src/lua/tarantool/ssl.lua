-- websocket.ssl: TLS contexts of tarantool/websocket, and sockets with them. A context names PEM
-- files and rules; nginx's OpenSSL reads them where a port is opened or a connection made.

local natives, vm = ...

local socket = vm.module("websocket.socket")
local listen = vm.module("resty.websocket.listen")
local listening = vm.module("websocket.listening")

local error = error
local setmetatable = setmetatable
local type = type

local _M = {}

-- What a context speaks; `tls` is whatever both sides know, from TLS 1.2 on.
_M.methods = {
    tls = { protocols = {} },
    tlsv1 = { protocols = { "TLSv1" } },
    tlsv11 = { protocols = { "TLSv1.1" } },
    tlsv12 = { protocols = { "TLSv1.2" } },
    tlsv13 = { protocols = { "TLSv1.3" } },
}

local ctx_mt = { __name = "websocket.ssl.ctx" }


local function are_names(protocols)
    if type(protocols) ~= "table" then
        return false
    end
    for i = 1, #protocols do
        if type(protocols[i]) ~= "string" then
            return false
        end
    end
    return true
end


function _M.ctx(method)
    method = method or _M.methods.tls
    if type(method) ~= "table" or not are_names(method.protocols) then
        error('bad "method" argument: one of ssl.methods expected', 2)
    end
    return setmetatable({ protocols = method.protocols }, ctx_mt)
end


local function check(ctx, file)
    if getmetatable(ctx) ~= ctx_mt then
        error('bad "ctx" argument: a context of ssl.ctx() expected', 3)
    end
    if type(file) ~= "string" then
        error('bad file name: string expected, got ' .. type(file), 3)
    end
end


-- A function that notes a PEM file: true | false, why.
local function file_setter(field, parse)
    return function(ctx, file)
        check(ctx, file)
        local parsed, err = socket.read_pem(file, parse)
        if parsed then
            ctx[field] = file
        end
        return parsed ~= nil, err
    end
end


_M.ctx_use_private_key_file = file_setter("key", "parse_pem_priv_key")
-- The certificate, and behind it the chain above it.
_M.ctx_use_certificate_file = file_setter("certificate", "parse_pem_cert")
-- Of a port: the authorities of client certificates. (A client's are lua_ssl_trusted_certificate.)
_M.ctx_use_ca_file = file_setter("ca", "parse_pem_cert")


-- Whether the other side's certificate is verified. Of a port: "none", "optional" or "require"; of
-- a client every mode but "none" and false. true is "require".
function _M.ctx_set_verify(ctx, mode)
    check(ctx, "")
    if mode == true then
        mode = "require"
    elseif not mode then
        mode = "none"
    end
    if mode ~= "none" and mode ~= "optional" and mode ~= "require" then
        error('bad "mode" argument: boolean, "none", "optional" or "require" expected', 2)
    end
    ctx.verify = mode
    return true
end


-- The name a client asks for and verifies, in place of the URL's host.
function _M.ctx_set_server_name(ctx, name)
    check(ctx, name)
    ctx.server_name = name
    return true
end


-- OpenSSL's cipher list for TLS up to 1.2, of a port.
function _M.ctx_set_ciphers(ctx, ciphers)
    check(ctx, ciphers)
    ctx.ciphers = ciphers
    return true
end


-- For a port: what listen.open takes | nil, err.
function natives.tarantool_server_tls(ctx)
    if ctx then
        check(ctx, "")
    end
    if not ctx or not ctx.certificate or not ctx.key then
        return nil, "a TLS port needs a ctx with certificate and private key"
    end
    return { certificate = ctx.certificate, key = ctx.key, ca = ctx.ca, verify = ctx.verify,
             ciphers = ctx.ciphers, protocols = ctx.protocols }
end


-- For a connection to `host`.
function natives.tarantool_client_tls(ctx, host)
    local verify = ctx and ctx.verify ~= nil and ctx.verify ~= "none"
    -- An address is no name to ask for (RFC 6066 3), but one to verify.
    local name = (verify or not host:find(":", 1, true)) and host or nil
    return { ctx = ctx, verify = verify, name = ctx and ctx.server_name or name }
end


-- Sockets with TLS ------------------------------------------------------------------------------

function _M.tcp_connect(host, port, timeout, ctx)
    return socket.connect(host, port, timeout, natives.tarantool_client_tls(ctx, host))
end


local function is_tls(sock)
    local own = socket.wrap(sock)
    if not own.sock.is_tls or not own.sock:is_tls() then
        return nil, "the port was opened without ctx"
    end
    return own
end


-- A connection of a port that was opened with a ctx has TLS already.
function _M.wrap_accepted_socket(sock, _)
    return is_tls(sock)
end


function _M.accept(server, ctx)
    local sock, err = server:accept()
    if not sock then
        return nil, err
    end
    sock = type(sock.peer) == "table" and sock.peer or sock
    local own
    own, err = _M.wrap_accepted_socket(sock, ctx)
    if not own then
        sock:close()
        return nil, err
    end
    return own
end


-- Calls handler(socket) in a light thread of its own for every connection.
function _M.tcp_server(host, port, handler, _, ctx)
    if type(handler) == "table" then
        handler = handler.handler
    end
    local tls, err = natives.tarantool_server_tls(ctx)
    if not tls then
        return nil, err
    end
    local listener
    listener, err = listening.open(host, port, { tls = tls })
    if not listener then
        return nil, err
    end
    local ok
    ok, err = listen.serve(listener, function(conn)
        return handler(socket.wrap(conn))
    end)
    if not ok then
        listener:close()
        return nil, err
    end
    return listening.server(listener, socket.wrap), listener:name()
end


return _M
