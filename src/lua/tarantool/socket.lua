-- Sockets as tarantool programs see them (`ws.peer`), over a cosocket or a connection of a port
-- opened from Lua: times in seconds, the system's error texts, TLS that begins with the first byte.
-- Loaded by the other shims of this folder alone.

local _, vm = ...

local shake_hands = vm.module("resty.websocket.tls").shake_hands

local error = error
local floor = math.floor
local max = math.max
local min = math.min
local now = ngx.now
local rawget = rawget
local rawset = rawset
local setmetatable = setmetatable
local sub = string.sub
local type = type

local wait = vm.module("resty.websocket.wait")

local CANNOT_WAIT = wait.CANNOT_WAIT
local FOREVER = wait.MAX_TIMEOUT
local READ_SIZE = vm.module("resty.websocket.carry").READ_SIZE
local can_wait = wait.can_wait
-- A cosocket does not tell its descriptor: this stands in for it, as a key that no other has.
local FIRST_NUMBER = 1000000

local TEXTS = {
    timeout = "Connection timed out",
    closed = "Connection reset by peer",
}
local NUMBERS = {
    ["Connection timed out"] = 110, ["Connection reset by peer"] = 104, ["Broken pipe"] = 32,
    ["Connection refused"] = 111, ["No route to host"] = 113, ["Network is unreachable"] = 101,
    ["Address already in use"] = 98, ["Cannot assign requested address"] = 99,
    ["Permission denied"] = 13, ["Bad file descriptor"] = 9,
}

-- Where a socket keeps what was made of it: bytes read ahead must not be lost.
local MADE = {}

local _M = {}

local socket = {}
local mt = {
    __index = socket,
    __newindex = function(_, name)
        error("Attempt to modify read-only sslsocket properties " .. tostring(name), 2)
    end,
}
local last_number = FIRST_NUMBER


-- What the system would call an error of ours.
local function strerror(err)
    return TEXTS[err] or err:sub(1, 1):upper() .. err:sub(2)
end

_M.strerror = strerror


local function milliseconds(seconds)
    if not seconds then
        return FOREVER
    end
    return max(1, min(FOREVER, floor(seconds * 1000)))
end

_M.milliseconds = milliseconds


local function fail(self, err)
    self.own.err = strerror(err)
    return nil, err
end


-- The end of the stream is no error.
local function fail_to_read(self, err)
    if err == "closed" then
        return nil, err
    end
    return fail(self, err)
end


local function check_open(self)
    if self.own.closed then
        error("attempt to use closed socket", 3)
    end
end


local function make(sock, fields)
    fields.buffer = ""
    return setmetatable({ sock = sock, own = fields }, mt)
end


-- A cosocket, a connection of a listener, or what this has made of one before.
function _M.wrap(sock)
    if type(sock) == "table" and sock.own and sock.sock then
        return sock
    end
    if not sock.receiveany or not sock.send then
        error("bad peer (cosocket or accepted connection expected)", 3)
    end
    local made = rawget(sock, MADE) or make(sock, { accepted = sock.handle ~= nil })
    rawset(sock, MADE, made)
    return made
end


-- Connects. `tls`: { name =, verify =, ctx = }, whose handshake comes with the first byte.
function _M.connect(host, port, timeout, tls)
    local sock, err = ngx.socket.tcp()
    if not sock then
        return nil, err
    end
    local ms = milliseconds(timeout)
    sock:settimeouts(ms, ms, ms)
    -- Names are asked of nginx's resolver, which does not know this one.
    if host == "localhost" then
        host = "127.0.0.1"
    end
    local ok
    ok, err = sock:connect(host:find(":", 1, true) and "[" .. host .. "]" or host, port)
    if not ok then
        return nil, strerror(err)
    end
    return make(sock, { tls = tls, remote = { host = host, port = port } })
end


-- What `parse` (of ngx.ssl) makes of a file | nil, err
local function read_pem(path, parse)
    local file, err = io.open(path, "rb")
    if not file then
        return nil, err
    end
    local text = file:read("*a")
    file:close()
    return require("ngx.ssl")[parse](text or "")
end

_M.read_pem = read_pem


-- The handshake that a TLS connection has put off.
local function start_tls(self, ms)
    local own = self.own
    local tls = own.tls
    if not tls then
        return true
    end
    own.tls = nil
    local sock, ctx = self.sock, tls.ctx
    sock:settimeouts(ms, ms, ms)
    if ctx and ctx.certificate and ctx.key then
        local chain, key, err
        chain, err = read_pem(ctx.certificate, "parse_pem_cert")
        if chain then
            key, err = read_pem(ctx.key, "parse_pem_priv_key")
        end
        if not key then
            return nil, err
        end
        local ok
        ok, err = sock:setclientcert(chain, key)
        if not ok then
            return nil, err
        end
    end
    local ok, err = shake_hands(sock, tls.name, tls.verify or false)
    if not ok then
        return nil, err
    end
    return true
end


-- A cosocket yields as it likes, and has noted who is to be woken before that fails.
local function may_use(own)
    return own.accepted or can_wait()
end


-- After a call of a cosocket that another light thread wanted to close meanwhile.
local function close_later(own, sock)
    if own.is_to_close then
        own.is_to_close = nil
        sock:close()
    end
end


-- Whatever comes, waiting at most `seconds` (nil: as long as it takes): data | nil, "timeout" or
-- "closed" or another text.
function _M.receive_some(self, seconds)
    local own, sock = self.own, self.sock
    own.err = nil
    if own.buffer ~= "" then
        local data = own.buffer
        own.buffer = ""
        return data
    end
    if not may_use(own) then
        return fail(self, CANNOT_WAIT)
    end
    local ms = milliseconds(seconds)
    local ok, err = start_tls(self, ms)
    if not ok then
        return fail(self, err)
    end
    local data
    if own.accepted then
        data, err = sock:receiveany(READ_SIZE, ms)
    else
        own.read_ms = ms
        sock:settimeouts(nil, own.send_ms, ms)
        data, err = sock:receiveany(READ_SIZE)
        close_later(own, sock)
    end
    if not data then
        return fail_to_read(self, err)
    end
    return data
end


-- Sends all of it: bytes | nil, err.
function _M.send_all(self, data, seconds)
    local own, sock, bytes = self.own, self.sock, nil
    own.err = nil
    if not may_use(own) then
        return fail(self, CANNOT_WAIT)
    end
    local ms = milliseconds(seconds)
    local ok, err = start_tls(self, ms)
    if not ok then
        return fail(self, err)
    end
    if own.accepted then
        bytes, err = sock:send(data, ms)
    else
        -- Those of the other direction stay: who waits there may have to wait on.
        own.send_ms = ms
        sock:settimeouts(nil, ms, own.read_ms)
        bytes, err = sock:send(data)
        close_later(own, sock)
    end
    if not bytes then
        return fail(self, err)
    end
    return bytes
end


-- Waits until what was sent to a connection of a port leaves room for more: true | nil, err. A cosocket
-- has none waiting.
function _M.await_room(self, seconds)
    self.own.err = nil
    if self.own.accepted then
        local ok, err = self.sock:room(milliseconds(seconds))
        if not ok then
            return fail(self, err)
        end
    end
    return true
end


-- read(limit) | read(delimiter) | read{ chunk =, delimiter = }: data, which at the end of the
-- stream may be short or empty | nil.
function socket.read(self, what, timeout)
    check_open(self)
    local limit, delimiter = what, nil
    if type(what) == "table" then
        limit, delimiter = what.chunk or what.size, what.delimiter
    elseif type(what) == "string" then
        limit, delimiter = nil, what
    end
    local own = self.own
    local deadline = timeout and now() + timeout
    local data, searched = "", 1
    while true do
        local stop = limit and #data >= limit and limit
        if delimiter then
            local _, last = data:find(delimiter, searched, true)
            stop = last and (not stop or last < stop) and last or stop
            searched = max(1, #data - #delimiter + 2)
        end
        if stop then
            own.buffer = sub(data, stop + 1) .. own.buffer
            return sub(data, 1, stop)
        end
        local more, err = _M.receive_some(self, deadline and deadline - now())
        if not more then
            if err == "closed" then
                return data
            end
            own.buffer = data .. own.buffer
            return nil, strerror(err)
        end
        data = data .. more
    end
end


-- write(data): bytes | nil, err
function socket.write(self, data, timeout)
    check_open(self)
    local bytes, err = _M.send_all(self, data, timeout)
    if not bytes then
        return nil, strerror(err)
    end
    return bytes
end


-- Ends both directions, or the one named (0: receive, 1: send).
function socket.shutdown(self, how)
    check_open(self)
    local side = how == 0 and "receive" or how == 1 and "send" or "both"
    if self.own.accepted then
        self.sock:shutdown(side)
    elseif side == "send" then
        self.sock:shutdown("send")
    elseif side == "both" then
        -- Not while a light thread reads or sends there: that one closes it then.
        local ok, err = self.sock:close()
        self.own.is_to_close = not ok and err ~= "closed" or nil
    end
    return true
end


-- Closes at once; what the kernel has not taken is lost.
function socket.close(self)
    local own = self.own
    if own.closed then
        return false
    end
    own.closed = true
    if own.accepted then
        self.sock:close(true)
    else
        self.sock:close()
    end
    return true
end


-- The text of the last error, or nil.
function socket.error(self)
    check_open(self)
    return self.own.err
end


-- Its number; 0 where there was none.
function socket.errno(self)
    check_open(self)
    local err = self.own.err
    return err and (NUMBERS[err] or 5) or 0
end


-- Sockets never block here.
function socket.nonblock(_)
    return true
end


-- Whether a read would not wait: true | false, after `timeout` seconds.
function socket.readable(self, timeout)
    check_open(self)
    local own = self.own
    if own.buffer ~= "" then
        return true
    end
    if own.accepted then
        return self.sock:readable(timeout and milliseconds(timeout)) or false
    end
    local data, err = _M.receive_some(self, timeout)
    own.buffer = data or ""
    return data ~= nil or err ~= "timeout"
end


-- A send waits by itself where it has to.
function socket.writable(self)
    check_open(self)
    return true
end


-- By ngx_lua's names ("tcp-nodelay" and so on), where the socket is a cosocket.
function socket.setsockopt(self, _, name, value)
    local sock = self.sock
    if not sock.setoption then
        return nil, "not supported"
    end
    return sock:setoption(name, value)
end


function socket.getsockopt(self, _, name)
    local sock = self.sock
    if not sock.getoption then
        return nil, "not supported"
    end
    return sock:getoption(name)
end


-- The descriptor; over a cosocket a number that no other socket of this worker has.
function socket.fd(self)
    if self.own.accepted then
        return self.sock:fd()
    end
    local own = self.own
    if not own.number then
        last_number = last_number + 1
        own.number = last_number
    end
    return own.number
end


local function address(host, port)
    return { host = host, port = port, type = "SOCK_STREAM", protocol = "tcp",
             family = host:find(":", 1, true) and "AF_INET6" or "AF_INET" }
end


-- Where the other end is: { host, port, family, type, protocol }, or nil.
function socket.peer(self)
    if self.own.accepted then
        return self.sock:peer()
    end
    local remote = self.own.remote
    return remote and address(remote.host, remote.port)
end


-- The address of this end; a cosocket tells none.
function socket.name(self)
    return self.own.accepted and self.sock:name() or nil
end


return _M
