-- The client's half of resty.websocket: websocket.connect() and its objects' methods. A cosocket of
-- ngx_lua carries the bytes; what they mean and what is answered is the natives' business.

local natives, vm = ...

local options = vm.module("resty.websocket.options")
local methods = vm.module("resty.websocket.methods")
local new_opening = vm.module("resty.websocket.opening").new
local carry = vm.module("resty.websocket.carry")
local wait = vm.module("resty.websocket.wait")

local carried = vm.natives.carried
local native_take = natives.take_message
local carry_bytes = carry.carry
local is_sending = carry.is_sending
local push_bytes = carry.push
local park = wait.park
local wake = wait.wake
local check_close = methods.check_close
local concat = table.concat
local error = error
local huge = math.huge
local min = math.min
local setmetatable = setmetatable
local type = type
local ngx = ngx
local tcp = ngx.socket.tcp

local CANNOT_WAIT = wait.CANNOT_WAIT
local MAX_TIMEOUT = wait.MAX_TIMEOUT
local MIXED = vm.module("resty.websocket.object").MIXED
local READ_SIZE = carry.READ_SIZE
local TIMEOUT = vm.module("resty.websocket.object").TIMEOUT


local function send_to(sock, bytes)
    return sock:send(bytes)
end


-- Not while a light thread reads or sends there: that one closes it then.
local function close_socket(self)
    local ok, err = self.sock:close()
    self.hung_up = ok ~= nil or err == "closed" or nil
    self.is_to_close = not self.hung_up or nil
end


-- Gives the cosocket what is queued: true | nil, err.
local function push(self)
    local sock, session = self.sock, self.session
    local ok, err = push_bytes(self, session, sock, send_to, sock)
    if not ok then
        carried.lost(session)
        wake(self, "writers")
    end
    if self.is_to_close then
        close_socket(self)
    end
    return ok, err
end


-- Above the high-water mark a sender waits for the one at work, before it queues anything; a receiver
-- never does.
local function send_client(self, native, session, a, b)
    while self.sending and is_sending(self, session, self.sock) and not carried.has_room(session) do
        local woken, err = park(self, "writers", 1)
        if woken == nil then
            return nil, err
        elseif self.session ~= session or natives.state(session) == "closed" then
            return nil, "closed"
        end
    end
    local bytes, err = native(session, false, nil, a, b)
    if not bytes then
        return nil, err
    end
    local ok
    ok, err = push(self)
    if not ok then
        return nil, err
    end
    return bytes
end


-- A drop-in object gets its native part with the first message call.
local function client_session(self)
    local session = self.session
    if session then
        return session
    end
    local sock = self.sock
    if not sock then
        error("not initialized yet", 3)
    end
    session = natives.client_new(self.max_recv_len)
    self.session = session
    self.timeout = natives.client_times()
    return session
end


local client = methods.add_common({}, send_client, client_session)
local client_mt = { __index = client }


-- A time that is not said is ngx_lua's directive's.
local function read(self, ms)
    local sock = self.sock
    local set = sock[TIMEOUT]
    sock:settimeouts(set, self.send_timeout or set, ms)
    local bytes, err = sock:receiveany(READ_SIZE)
    return bytes, err, sock
end


-- Nothing more is due: what the server still sends has been read for long enough.
local function has_lingered(_, due)
    return due == nil or nil
end


local function hang_up(self)
    if self.hung_up then
        return
    end
    self.hung_up = true
    carry_bytes(self, self.session, has_lingered, read)
    close_socket(self)
    wake(self, "closers")
end


local function take(self)
    local data, typ, code, reason = native_take(self.session)
    push(self)
    if typ and not data then
        hang_up(self)
    end
    return data, typ, code, reason
end


-- Until a message is whole, the connection has ended or the time is over (nil: never).
local function receive(self, timeout)
    local data, typ, code, reason = carry_bytes(self, self.session, take, read,
                                                timeout and ngx.now() * 1000 + timeout)
    if code then
        return nil, typ, code, reason
    end
    return data, typ
end


function client.recv(self, timeout)
    methods.check_time("timeout", timeout)
    client_session(self)
    -- Of a drop-in object, in frames; without its modules nobody has read any.
    local half_read = vm.natives.resty.half_read
    if self.half_read or half_read and half_read(self.sock) then
        error(MIXED, 2)
    end
    local data, typ, code, reason = receive(self, timeout or self.timeout)
    wake(self, "closers")
    if not self.role then
        -- Frame calls wait as set_timeout() says.
        self.sock:settimeout(self.sock[TIMEOUT] or 0)
    end
    if code then
        return data, typ, code, reason
    end
    return data, typ
end


function client.close(self, code, reason, timeout)
    code, reason, timeout = check_close(code, reason, timeout)
    local session = self.session
    if natives.state(session) == "closed" then
        hang_up(self)
        return true
    end
    carried.close(session, code, reason, timeout)
    push(self)
    local data, err
    repeat
        data, err = receive(self)
        if err == carry.BUSY then
            -- Until the light thread in recv() has found the server's close frame, or reads no more.
            data, err = park(self, "closers", (carried.beat(session) or MAX_TIMEOUT) / 1000)
            if data == nil then
                return nil, err
            end
        end
    until data == nil
    if err == CANNOT_WAIT then
        return nil, err
    elseif not carried.is_overdue(session) then
        return true
    end
    if not self.hung_up then
        self:shutdown()
    end
    return nil, "timeout"
end


function client.shutdown(self)
    natives.shutdown(client_session(self))
    close_socket(self)
    wake(self, "writers")
end


-- A time limit, of which 0 means none.
local function limit(ms)
    return ms == 0 and huge or ms
end


-- `told`, if given, has three functions: `asks` is called with whom is about to be asked (`host`, perhaps
-- `port`), `connected` with the socket, and `refused` where the server has answered in HTTP, with the socket
-- and the answer's head, before the socket is closed. `at` is where to connect in place of the URL's host.
local function dial(url, opts, told, at)
    local opening, err = new_opening(url, opts.target)
    if not opening then
        return nil, err
    end
    local protocols = opts.protocols and concat(opts.protocols, ",")
    local request
    request, err = natives.opening_request(opening.native, natives.new_key(), opts.host, protocols,
                                           opts.origin, opts.headers,
                                           opts.compression)
    if not request then
        return nil, err
    end

    local timeout = limit(opts.timeout)
    local recv_timeout, send_timeout = natives.client_times()
    send_timeout = min(limit(opts.send_timeout) or send_timeout, MAX_TIMEOUT)
    local sock
    sock, err = tcp()
    if not sock then
        return nil, err
    end
    if timeout then
        sock:settimeout(min(timeout, MAX_TIMEOUT))
    end
    if told then
        told.asks(at or opening)
    end
    local ok, response
    ok, err = opening:connect(sock, {
        -- A pooled connection has no handshake of ours: never one of another kind.
        pool = "resty.websocket:" .. (opts.pool or url),
        pool_size = opts.pool_size, backlog = opts.backlog,
    }, at)
    if not ok then
        return nil, err
    end
    if told then
        told.connected(sock)
    end
    local ssl_verify = opts.ssl_verify
    local answered
    ok, err, response, answered = opening:upgrade(sock, request, {
        server_name = opts.server_name, host = opts.host,
        ssl_verify = ssl_verify == nil or ssl_verify, client_cert = opts.client_cert,
        client_priv_key = opts.client_priv_key,
    })
    if not ok then
        if answered and told then
            told.refused(sock, response)
        end
        sock:close()
        return nil, err, response
    end
    response = ok

    local session, id, protocol, extensions = natives.client_open(
        opening.native, opts.max_message_size, opts.max_frame_size, opts.ping_interval,
        opts.ping_timeout)
    sock:settimeouts(nil, send_timeout, nil)

    return setmetatable({
        session = session, sock = sock, id = id, protocol = protocol, extensions = extensions,
        role = "client", request_id = ngx.var.request_id, timeout = timeout or recv_timeout,
        send_timeout = send_timeout,
    }, client_mt), nil, response
end


local function connect(url, opts)
    if type(url) ~= "string" then
        error('bad "url" argument: string expected, got ' .. type(url), 2)
    end
    return dial(url, options.check(opts, options.CONNECT))
end


return { connect = connect, dial = dial, methods = client }
