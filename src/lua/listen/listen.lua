-- resty.websocket.listen: ports opened from Lua, for the systems of this module that open ports by
-- themselves; no API of its own. Its connections behave as cosockets do (data | nil, err, partial)
-- and may be used by any light thread of their worker. Times in milliseconds.

local natives, vm = ...

local wait = vm.module("resty.websocket.wait").call
local with_traceback = vm.module("resty.websocket.traceback")

local native_accept = natives.accept
local native_receive = natives.socket_receive
local native_send = natives.socket_send
local native_drain = natives.socket_drain
local collectgarbage = collectgarbage
local error = error
local ipairs = ipairs
local pairs = pairs
local setmetatable = setmetatable
local sort = table.sort
local tostring = tostring
local type = type
local xpcall = xpcall
local ngx = ngx

local BACKLOG = 511
local HANDSHAKE_TIMEOUT = 10000
-- What the natives' accept() says, where it was asked to.
local OWNER_ENDED = "owner ended"

local listen = {}


-- Connections -----------------------------------------------------------------------------------

local socket = {}
local socket_mt = { __index = socket }


-- `ms`: all the time this call has, whatever others have set; nil: the socket's time-out.
local function receive(self, want, n, ms)
    local data, err, partial = wait(native_receive, self.handle, ms, want, n)
    if data then
        return data
    end
    return nil, err, partial
end


-- receive([n | "*l" | "*a"]) as a cosocket's; a line without an end is "line too long".
function socket.receive(self, pattern)
    if pattern == nil or pattern == "*l" then
        return receive(self, "line")
    elseif pattern == "*a" then
        return receive(self, "all")
    elseif type(pattern) == "number" and pattern >= 0 then
        return receive(self, "exactly", pattern)
    end
    error("bad argument #1 to 'receive' (bad pattern argument)", 2)
end


function socket.receiveany(self, max, ms)
    if type(max) ~= "number" or max < 1 then
        error("bad argument #1 to 'receiveany' (bad max argument)", 2)
    end
    return receive(self, "any", max, ms)
end


-- Waits until at most `mark` bytes are left to send.
local function drain(self, mark, ms)
    local drained, err = wait(native_drain, self.handle, ms, mark)
    if drained then
        return 1
    end
    return nil, err
end


-- Queues bytes, which leave at the end of this turn of the event loop; waits for the peer where
-- much is pending, `ms` at most (nil: the socket's time-out). `data` is a string, a number or an
-- array of strings.
function socket.send(self, data, ms)
    local bytes, over = native_send(self.handle, data)
    if not bytes then
        return nil, over
    end
    if over then
        local drained, err = drain(self, nil, ms)
        if not drained then
            return nil, err
        end
    end
    return bytes
end


-- Queues bytes, as send() does, and never waits.
function socket.queue(self, data)
    local bytes, err = native_send(self.handle, data)
    if not bytes then
        return nil, err
    end
    return bytes
end


-- Waits until more may be sent without waiting, `ms` at most (nil: the socket's time-out).
function socket.room(self, ms)
    return drain(self, nil, ms)
end


-- Waits until the kernel has taken everything: 1 | nil, err.
function socket.flush(self)
    return drain(self, 0)
end


function socket.settimeout(self, ms)
    natives.socket_timeouts(self.handle, ms, ms)
end


-- The first is a cosocket's connect time-out, which has no meaning here.
function socket.settimeouts(self, _, send, read)
    natives.socket_timeouts(self.handle, send, read)
end


-- Whether a read would not wait: true, or nil and "timeout" after `ms` (nil: as long as it takes).
function socket.readable(self, ms)
    local ready, err = wait(natives.socket_readable, self.handle, ms)
    if ready then
        return true
    end
    return nil, err
end


-- "send", "receive" or "both" (the default); what was sent before still leaves.
function socket.shutdown(self, side)
    return natives.socket_shutdown(self.handle, side)
end


-- What was sent leaves in the background; with `at_once` only what the kernel takes now.
function socket.close(self, at_once)
    return natives.socket_close(self.handle, at_once)
end


function socket.is_open(self)
    return (natives.socket_state(self.handle))
end


-- Bytes received, sent, and waiting to be sent.
function socket.counts(self)
    local _, received, sent, waiting = natives.socket_state(self.handle)
    return received, sent, waiting
end


function socket.fd(self)
    return (natives.socket_fd(self.handle))
end


function socket.is_tls(self)
    local _, _, tls = natives.socket_fd(self.handle)
    return tls
end


local function address(host, port, family)
    if not host then
        return nil
    end
    return { host = host, port = port, family = family == 6 and "AF_INET6" or "AF_INET",
             type = "SOCK_STREAM", protocol = "tcp" }
end


-- Where the other end is: { host, port, family, type, protocol }.
function socket.peer(self)
    return address(natives.socket_peer(self.handle))
end


-- The address of this end, in the same form; nil once it is closed.
function socket.name(self)
    return address(natives.socket_name(self.handle))
end


-- Listeners -------------------------------------------------------------------------------------

local listener = {}
local listener_mt = { __index = listener }


-- The next connection | nil, "timeout" | nil, "closed". `ms` nil: as long as it takes.
function listener.accept(self, ms)
    local conn, err = wait(native_accept, self.handle, ms)
    if not conn then
        return nil, err
    end
    return setmetatable({ handle = conn }, socket_mt)
end


-- Whether accept() would not wait: true, or nil and "timeout" after `ms` (nil: as long as it
-- takes). A closed port does not let wait either.
function listener.readable(self, ms)
    local ready, err = wait(natives.waiting, self.handle, ms)
    if ready then
        return true
    end
    return nil, err
end


function listener.port(self)
    local _, port = natives.address(self.handle)
    return port
end


function listener.name(self)
    return address(natives.address(self.handle))
end


function listener.fd(self)
    return natives.fd(self.handle)
end


function listener.is_open(self)
    return natives.is_open(self.handle)
end


function listener.close(self)
    natives.close(self.handle)
end


local VERIFY = { none = true, optional = true, require = true }


local function list(value)
    return type(value) == "table" and value or { value }
end


local TLS = { certificate = true, key = true, ca = true, verify = true, ciphers = true,
              protocols = true }


-- The natives' form: number of pairs, certificates and keys in turn, ca, verify, ciphers, protocols.
local function tls_words(tls)
    for name in pairs(tls) do
        if not TLS[name] then
            error('unknown option "tls.' .. tostring(name) .. '"', 4)
        end
    end
    local certificates, keys = list(tls.certificate), list(tls.key or tls.certificate)
    if #certificates ~= #keys then
        error('bad "tls.key" option: as many keys as certificates expected', 4)
    end
    local verify = tls.verify or "none"
    if not VERIFY[verify] then
        error('bad "tls.verify" option: "none", "optional" or "require" expected', 4)
    end
    local words = { #certificates }
    for i, certificate in ipairs(certificates) do
        words[#words + 1] = certificate
        words[#words + 1] = keys[i]
    end
    words[#words + 1] = tls.ca or ""
    words[#words + 1] = verify
    words[#words + 1] = tls.ciphers or ""
    for _, protocol in ipairs(list(tls.protocols)) do
        words[#words + 1] = protocol
    end
    for i = 2, #words do
        if type(words[i]) ~= "string" then
            error('bad "tls" option: names of files, ciphers and protocols expected, got ' .. type(words[i]), 4)
        end
    end
    return words
end


local OPTIONS = { host = "string", port = "number", backlog = "number", workers = "number",
                  handshake_timeout = "number", tls = "table", early = "boolean" }


-- Opens a port in this worker: listener | nil, err. `early`: accept() does not wait for TLS
-- handshakes, which go on in the background. `workers` = 1 opens it in the first worker
-- only; elsewhere the answer is nil, "another worker's".
function listen.open(opts)
    local names = {}
    for name in pairs(opts) do
        names[#names + 1] = name
    end
    sort(names)
    for _, name in ipairs(names) do
        if type(opts[name]) ~= OPTIONS[name] then
            error('bad "' .. tostring(name) .. '" option: ' .. (OPTIONS[name] or "none")
                  .. " expected", 2)
        end
    end
    local port = opts.port or 0
    if port < 0 or port > 65535 or port % 1 ~= 0 then
        return nil, "bad port"
    end
    if opts.workers == 1 and ngx.worker.id() ~= 0 then
        return nil, "another worker's"
    end
    local handle, err = natives.open(opts.host or "0.0.0.0", port, opts.backlog or BACKLOG,
                                            opts.handshake_timeout or HANDSHAKE_TIMEOUT,
                                            opts.tls and tls_words(opts.tls), opts.early)
    if not handle then
        return nil, err
    end
    return setmetatable({ handle = handle }, listener_mt)
end


-- For a log line: where the client is.
function listen.client(conn)
    local peer = conn:peer()
    return peer and ", client: " .. peer.host .. ":" .. peer.port or ""
end


-- A connection in a request context of its own: whatever happens to its handler happens to it
-- alone, and the end of that context closes it.
local function serve_one(_, conn, handler, onerror)
    local ok, err = natives.socket_bind(conn.handle)
    if ok then
        ok, err = xpcall(handler, with_traceback, conn)
    end
    if not ok then
        if onerror then
            onerror(err, conn)
        else
            ngx.log(ngx.ERR, "websocket handler failed: ", tostring(err), listen.client(conn))
        end
    end
    conn:close()
end


local function accept_all(_, self, handler, onerror, onclose)
    while true do
        local conn, err = self:accept()
        if conn then
            local ok
            ok, err = ngx.timer.at(0, serve_one, conn, handler, onerror)
            if not ok then
                conn:close(true)
                ngx.log(ngx.ERR, "websocket connection dropped: ", err)
            end
        elseif err == OWNER_ENDED then
            -- It may have failed, and then nobody else knows of what it opened.
            collectgarbage()
        else
            return onclose and onclose()
        end
    end
end


-- Has the collector look, once the caller's request has ended, whether anybody still knows what the
-- port is for: whoever was served by it closes it then.
function listen.forget_with_owner(self)
    return natives.tell_end(self.handle)
end


-- Calls handler(connection) in a light thread of its own for every connection, until the listener
-- closes: then onclose() is called. A handler that fails is logged with its traceback, or handed to
-- onerror(err, connection).
function listen.serve(self, handler, onerror, onclose)
    return ngx.timer.at(0, accept_all, self, handler, onerror, onclose)
end


return listen
