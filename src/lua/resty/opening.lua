-- A client's opening handshake on a cosocket, for resty.websocket.client and resty.websocket: from a
-- URI to an upgraded connection. What is asked and how the answer is judged is the codec's; this
-- shim connects, sends and receives.

local natives, vm = ...

local shake_hands = vm.module("resty.websocket.tls").shake_hands

local setmetatable = setmetatable
local sub = string.sub

-- A server's response head, which upstream reads without limit.
local MAX_RESPONSE_HEADER = 64 * 1024

local _M = {}
local mt = { __index = _M }


-- An opening, with the native part of it in `native` | nil, err. `target`, if it is given, is asked for in
-- place of the URI's own path and query.
function _M.new(uri, target)
    local native, tls, host, port = natives.opening_new(uri, target)
    if not native then
        return nil, tls
    end
    return setmetatable({ native = native, tls = tls, host = host, port = port }, mt)
end


-- Connects by the options pool, pool_size and backlog: as sock:connect(). To `at`, if it is given, a host
-- and perhaps a port.
function _M.connect(self, sock, opts, at)
    at = at or self
    local pool = {
        pool = opts.pool or nil,
        pool_size = opts.pool_size or nil,
        backlog = opts.backlog or nil,
    }
    local ok, err
    if at.port then
        ok, err = sock:connect(at.host, at.port, pool)
    else
        ok, err = sock:connect(at.host, pool)
    end
    if not ok then
        return nil, "failed to connect: " .. err
    end
    return ok
end


-- SNI, and the name a certificate is verified for. An IPv6 address is no name to ask for (RFC 6066
-- 3), but verification without any would let every name pass.
local function tls_name(opts, host)
    local name = opts.server_name or opts.host
    if name then
        return name
    end
    if sub(host, 1, 1) == "[" then
        return opts.ssl_verify and sub(host, 2, -2) or nil
    end
    return host
end


local function start_tls(self, sock, opts)
    -- Without a certificate this clears the one of an earlier connection.
    local ok, err = sock:setclientcert(opts.client_cert or nil, opts.client_priv_key or nil)
    if not ok then
        return nil, "failed to set TLS client certificate: " .. err
    end

    ok, err = shake_hands(sock, tls_name(opts, self.host), opts.ssl_verify)
    if not ok then
        return nil, "ssl handshake failed: " .. err
    end
    return true
end


-- Sends the request and waits for its answer, which is not an interim one. Returns the response
-- head | nil, err, the head if there was one, and whether the peer may go on talking HTTP.
function _M.upgrade(self, sock, request, opts)
    local ok, err
    if self.tls then
        ok, err = start_tls(self, sock, opts)
        if not ok then
            return nil, err
        end
    end

    ok, err = sock:send(request)
    if not ok then
        return nil, "failed to send the handshake request: " .. err
    end

    while true do
        local header, granted, answered
        header, err = sock:receiveuntil("\r\n\r\n")(MAX_RESPONSE_HEADER + 1)
        if not header then
            return nil, "failed to receive response header: " .. err
        end

        granted, err, answered = natives.opening_answer(self.native, header)
        if granted then
            return header
        end
        if err then
            return nil, err, #header <= MAX_RESPONSE_HEADER and header or nil, answered
        end
    end
end


return _M
