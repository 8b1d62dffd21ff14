-- resty.websocket: whole messages, for servers and clients. This shim checks options, orders the
-- calls of the opening handshake and loops over waits; the protocol is the natives'.

local natives = ...

local native_receive = natives.receive
local native_send = natives.send_message
local native_control = natives.control
local native_drain = natives.drain
local native_take = natives.peer_take
local native_output = natives.peer_output
local concat = table.concat
local error = error
local floor = math.floor
local ipairs = ipairs
local next = next
local pairs = pairs
local setmetatable = setmetatable
local sort = table.sort
local tostring = tostring
local type = type
local ngx = ngx

local PING, PONG = 0x9, 0xa
local CLOSE_TIMEOUT = 3000
-- Of a client's output, in bytes.
local HIGH_WATER = 262144
local READ_SIZE = 65536
local UNITS = { [""] = 1, k = 1024, K = 1024, m = 1048576, M = 1048576, g = 1073741824, G = 1073741824 }

local _M = { _VERSION = "0.1.0" }


-- Options ---------------------------------------------------------------------------------------

local function fail(name, what, value)
    error('bad "' .. name .. '" option: ' .. what .. ", got "
          .. (type(value) == "number" and tostring(value) or type(value)), 5)
end


local function check_size(name, value)
    local size = value
    if type(value) == "string" then
        local digits, unit = value:match("^(%d+)([kKmMgG]?)$")
        size = digits and digits * UNITS[unit]
    end
    if type(size) ~= "number" or not (size >= 0) or size ~= floor(size) then
        fail(name, "size in bytes expected", value)
    end
    return size
end


local function check_time(name, value)
    if type(value) ~= "number" or not (value >= 0) or value > 0x7fffffff then
        fail(name, "milliseconds expected", value)
    end
    return floor(value)
end


local function check_flag(name, value)
    if type(value) ~= "boolean" then
        fail(name, "boolean expected", value)
    end
    return value
end


local function check_strings(name, value)
    if type(value) == "string" then
        return { value }
    end
    if type(value) ~= "table" then
        fail(name, "array of strings expected", value)
    end
    for i = 1, #value do
        if type(value[i]) ~= "string" then
            fail(name, "array of strings expected", value[i])
        end
    end
    return value
end


local COMPRESSION = { "level", "threshold", "server_no_context_takeover",
                      "client_no_context_takeover", "server_max_window_bits",
                      "client_max_window_bits" }
local RANGE = { level = { 1, 9 }, threshold = { 0, 0x7fffffff },
                server_max_window_bits = { 8, 15 }, client_max_window_bits = { 8, 15 } }


-- The natives' form: nil, an empty array for "off", or six numbers, -1 for what is not given.
local function check_compression(name, value)
    if value == false then
        return {}
    end
    if value == true then
        value = {}
    elseif type(value) ~= "table" then
        fail(name, "boolean or table expected", value)
    end
    local settings, known = {}, {}
    for i, key in ipairs(COMPRESSION) do
        local v, range = value[key], RANGE[key]
        known[key] = true
        if v == nil then
            v = -1
        elseif range then
            if type(v) ~= "number" or v < range[1] or v > range[2] or v ~= floor(v) then
                fail(name .. "." .. key, range[1] .. " to " .. range[2] .. " expected", v)
            end
        else
            v = check_flag(name .. "." .. key, v) and 1 or 0
        end
        settings[i] = v
    end
    for key in pairs(value) do
        if not known[key] then
            error('unknown option "' .. name .. "." .. tostring(key) .. '" (known: '
                  .. concat(COMPRESSION, ", ") .. ")", 4)
        end
    end
    return settings
end


local function check_table(name, value)
    if type(value) ~= "table" then
        fail(name, "table expected", value)
    end
    return value
end


local function check_string(name, value)
    if type(value) ~= "string" then
        fail(name, "string expected", value)
    end
    return value
end


local function check_count(name, value)
    if type(value) ~= "number" or not (value >= 0) then
        fail(name, "number expected", value)
    end
    return value
end


-- Certificates and keys are what ngx.ssl makes: the cosocket looks at them.
local function pass(_, value)
    return value
end


local COMMON = {
    max_message_size = check_size, max_frame_size = check_size, timeout = check_time,
    send_timeout = check_time, ping_interval = check_time, ping_timeout = check_time,
    compression = check_compression, protocols = check_strings,
}


local function with_common(own)
    for name, check in pairs(COMMON) do
        own[name] = own[name] or check
    end
    return own
end


local ACCEPT = with_common { origins = check_strings, require_origin = check_flag,
                             headers = check_table }

local CONNECT = with_common { origin = check_string, headers = check_table, host = check_string,
                              server_name = check_string, pool = check_string,
                              pool_size = check_count, backlog = check_count,
                              ssl_verify = check_flag, client_cert = pass,
                              client_priv_key = pass }


local function check_options(opts, known)
    local checked = {}
    if opts == nil then
        return checked
    end
    if type(opts) ~= "table" then
        error('bad "opts" argument: table expected, got ' .. type(opts), 3)
    end
    for name, value in pairs(opts) do
        local check = known[name]
        if not check then
            local names = {}
            for k in pairs(known) do
                names[#names + 1] = k
            end
            sort(names)
            error('unknown option "' .. tostring(name) .. '" (known: '
                  .. concat(names, ", ") .. ")", 3)
        end
        checked[name] = check(name, value)
    end
    return checked
end


-- Both sides ------------------------------------------------------------------------------------

local function check_time_argument(name, value)
    if value ~= nil and (type(value) ~= "number" or not (value >= 0) or value > 0x7fffffff) then
        error('bad "' .. name .. '" argument: milliseconds expected', 3)
    end
end


local function check_data(name, data, level)
    local t = type(data)
    if t ~= "string" and t ~= "number" then
        error('bad "' .. name .. '" argument: string expected, got ' .. t, level or 3)
    end
    return data
end


-- true for text
local function check_type(typ)
    if typ == nil or typ == "text" then
        return true
    end
    if typ ~= "binary" then
        error('bad "type" argument: "text" or "binary" expected', 3)
    end
    return false
end


local function check_control(data)
    if data == nil then
        return ""
    end
    data = tostring(check_data("data", data, 4))
    if #data > 125 then
        error('bad "data" argument: longer than 125 bytes', 3)
    end
    return data
end


local function check_close(code, reason, timeout)
    code = code == nil and 1000 or code
    reason = reason == nil and "" or reason
    if type(code) ~= "number" then
        error('bad "code" argument: number expected, got ' .. type(code), 3)
    end
    if type(reason) ~= "string" then
        error('bad "reason" argument: string expected, got ' .. type(reason), 3)
    end
    local fault = natives.close_fault(code, reason)
    if fault then
        error(fault, 3)
    end
    if timeout ~= nil and (type(timeout) ~= "number" or not (timeout >= 0)) then
        error('bad "timeout" argument: milliseconds expected', 3)
    end
    return code, reason, timeout or CLOSE_TIMEOUT
end


-- Methods that are the same on both sides but for how queued bytes leave. `session_of` gives the
-- native part of an object; a drop-in object may have none yet.
local function add_common(methods, leave, session_of)
    function methods.send(self, data, typ)
        check_data("data", data)
        local text = check_type(typ)
        return leave(self, native_send(session_of(self), data, text))
    end

    function methods.ping(self, data)
        return leave(self, native_control(session_of(self), PING, check_control(data)))
    end

    function methods.pong(self, data)
        return leave(self, native_control(session_of(self), PONG, check_control(data)))
    end

    local stream = {}
    local stream_mt = { __index = stream }

    function methods.send_stream(self, typ)
        local text = check_type(typ)
        local ok, err = natives.stream_open(session_of(self), text)
        if not ok then
            return nil, err
        end
        return setmetatable({ ws = self }, stream_mt)
    end

    -- A finished writer must not write into the stream that another opened after it.
    function stream.write(self, chunk)
        check_data("chunk", chunk)
        if self.finished then
            return nil, "stream finished"
        end
        local ws = self.ws
        return leave(ws, natives.stream_write(session_of(ws), chunk))
    end

    function stream.finish(self)
        if self.finished then
            return nil, "stream finished"
        end
        local ws = self.ws
        local bytes, over = natives.stream_finish(session_of(ws))
        self.finished = bytes ~= nil
        return leave(ws, bytes, over)
    end

    local function next_message(self)
        local data, typ
        repeat
            data, typ = self:recv()
        until data or typ ~= "timeout"
        return data, typ
    end

    function methods.messages(self)
        return next_message, self
    end

    function methods.close_info(self)
        return natives.close_info(session_of(self))
    end

    function methods.state(self)
        return natives.state(session_of(self))
    end

    function methods.buffered(self)
        return natives.buffered(session_of(self))
    end

    return methods
end


-- Server ----------------------------------------------------------------------------------------

-- Queued natively; above the high-water mark the light thread waits for the peer.
local function leave_server(self, bytes, over)
    if not bytes then
        return nil, over
    end
    if over then
        local session = self.session
        local drained, err = native_drain(session)
        while drained == true or drained == false do
            drained, err = native_drain(session, true)
        end
        if not drained then
            return nil, (err:gsub("^failed to send frame: ", ""))
        end
    end
    return bytes
end


local function server_session(self)
    return self.session or error("not initialized yet", 3)
end


local server = add_common({}, leave_server, server_session)
local server_mt = { __index = server }


function server.recv(self, timeout)
    check_time_argument("timeout", timeout)
    local session = server_session(self)
    local data, typ, code, reason = native_receive(session, timeout)

    -- A boolean is a wake-up: look again.
    while data == true or data == false do
        data, typ, code, reason = native_receive(session, timeout, true)
    end

    return data, typ, code, reason
end


function server.close(self, code, reason, timeout)
    code, reason, timeout = check_close(code, reason, timeout)
    local session = server_session(self)
    local done, err = natives.close(session, code, reason, timeout)
    while done == true or done == false do
        done, err = natives.close(session, code, reason, timeout, true)
    end
    if not done then
        return nil, err
    end
    return true
end


function server.shutdown(self)
    natives.shutdown(server_session(self))
end


function _M.accept(opts)
    opts = check_options(opts, ACCEPT)

    if ngx.headers_sent then
        return nil, "response header already sent", 500
    end
    if ngx.is_subrequest then
        return nil, "a subrequest cannot be upgraded", 500
    end

    local accept, protocol, extensions = natives.check_upgrade(opts.protocols, opts.origins,
                                                               opts.require_origin,
                                                               opts.compression)
    local header = ngx.header
    if not accept then
        if extensions == 426 then
            header["Sec-WebSocket-Version"] = "13"
        end
        return nil, protocol, extensions
    end

    ngx.req.read_body()

    for name, value in pairs(opts.headers or {}) do
        header[name] = value
    end
    header["Upgrade"] = "websocket"
    header["Sec-WebSocket-Accept"] = accept
    header["Content-Type"] = nil
    header["Sec-WebSocket-Protocol"] = protocol
    header["Sec-WebSocket-Extensions"] = extensions

    ngx.status = 101
    local ok, err = ngx.send_headers()
    if not ok then
        return nil, "failed to send response header: " .. (err or "unknown"), 500
    end

    ok, err = ngx.flush(true)
    if not ok then
        return nil, "failed to flush response header: " .. (err or "unknown"), 500
    end

    -- Marks the request as a raw stream: ngx.say and its like refuse from here on.
    local sock
    sock, err = ngx.req.socket(true)
    if not sock then
        return nil, err, 500
    end

    local session, id = natives.open(opts.max_message_size, opts.max_frame_size, opts.timeout,
                                     opts.send_timeout, opts.ping_interval, opts.ping_timeout,
                                     opts.compression)
    if not session then
        return nil, id, 500
    end

    return setmetatable({
        session = session, id = id, protocol = protocol, extensions = extensions,
        role = "server", request_id = ngx.var.request_id,
    }, server_mt)
end


-- Client ----------------------------------------------------------------------------------------

local function wake(waiters)
    if waiters and waiters:count() < 0 then
        waiters:post(-waiters:count())
    end
end


local function wait(self, name, ms)
    local waiters = self[name]
    if not waiters then
        waiters = require("ngx.semaphore").new()
        self[name] = waiters
    end
    return waiters:wait(ms / 1000)
end


-- Gives the cosocket what is queued. One light thread sends at a time; what others queue
-- meanwhile is sent by that one.
local function push(self)
    if self.sending then
        return true
    end
    self.sending = true
    local sock, session = self.sock, self.session
    local out, ok, err = native_output(session), true, nil
    while out and ok do
        ok, err = sock:send(out)
        if ok then
            out = native_output(session)
            wake(self.writers)
        end
    end
    self.sending = nil
    if not ok then
        natives.peer_lost(session)
        wake(self.writers)
        return nil, err
    end
    return true
end


-- Above the high-water mark a sender waits for the one at work; a receiver never does.
local function leave_client(self, bytes, err)
    if not bytes then
        return nil, err
    end
    local session = self.session
    while self.sending and natives.buffered(session) > HIGH_WATER do
        wait(self, "writers", 1000)
        if natives.state(session) == "closed" then
            return nil, "closed"
        end
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
    session = natives.peer_new(self.max_recv_len)
    self.session = session
    self.timeout = 60000
    return session
end


local client = add_common({}, leave_client, client_session)
local client_mt = { __index = client }


-- The conversation has ended. After close frames the server closes TCP first (RFC 6455 7.1.1), for
-- which it has a second, whatever it goes on sending.
local function hang_up(self, code)
    if self.hung_up then
        return
    end
    self.hung_up = true
    local sock = self.sock
    local deadline = ngx.now() + 1
    while code ~= 1006 and ngx.now() < deadline do
        sock:settimeouts(nil, nil, (deadline - ngx.now()) * 1000)
        local chunk = sock:receiveany(READ_SIZE)
        if not chunk then
            break
        end
        ngx.update_time()
    end
    sock:close()
    wake(self.closers)
end


-- Receives until a message is whole, the connection has ended or the time is over.
local function receive(self, timeout)
    local session, sock = client_session(self), self.sock
    local deadline = ngx.now() * 1000 + timeout
    while true do
        local beat = natives.peer_beat(session)
        local data, typ, code, reason = native_take(session)
        push(self)
        if data then
            return data, typ
        end
        if typ then
            hang_up(self, code)
            return nil, typ, code, reason
        end

        local left = deadline - ngx.now() * 1000
        if left <= 0 then
            return nil, "timeout"
        end
        local wait = left
        if beat and beat < wait then
            wait = beat
        end
        sock:settimeouts(nil, nil, wait < 1 and 1 or wait)
        local chunk, err = sock:receiveany(READ_SIZE)
        if chunk then
            natives.peer_feed(session, chunk)
        elseif err == "timeout" then
            ngx.update_time()
        else
            if err:find("busy", 1, true) then
                return nil, "socket busy reading"
            end
            natives.peer_lost(session)
        end
    end
end


function client.recv(self, timeout)
    check_time_argument("timeout", timeout)
    client_session(self)
    -- Of a drop-in object, in frames.
    if self.half_read or natives.half_read(self.sock) then
        error("frame calls and message calls may not be mixed while a message is half read", 2)
    end
    return receive(self, timeout or self.timeout)
end


function client.close(self, code, reason, timeout)
    code, reason, timeout = check_close(code, reason, timeout)
    local session = self.session
    if natives.state(session) == "closed" then
        hang_up(self, (natives.close_info(session)))
        return true
    end
    natives.peer_close(session, code, reason)
    push(self)
    local data, err
    repeat
        data, err = receive(self, timeout)
    until not data
    if err == "socket busy reading" then
        -- Then the light thread in recv() finds the server's close frame.
        err = not wait(self, "closers", timeout) and "timeout"
    end
    if err == "timeout" then
        self:shutdown()
        return nil, "timeout"
    end
    return true
end


-- A cosocket cannot be closed while a light thread reads from it; that one closes it when it wakes.
function client.shutdown(self)
    natives.shutdown(client_session(self))
    self.hung_up = self.sock:close() ~= nil or nil
    wake(self.writers)
end


local function copy_headers(headers)
    local lines = {}
    for key, value in pairs(headers or {}) do
        lines[#lines + 1] = type(key) == "number" and value or key .. ": " .. tostring(value)
    end
    return lines
end


function _M.connect(url, opts)
    if type(url) ~= "string" then
        error('bad "url" argument: string expected, got ' .. type(url), 2)
    end
    opts = check_options(opts, CONNECT)

    local wb = natives.module("resty.websocket.client"):new { timeout = opts.timeout }
    local key = natives.new_key()
    local headers = copy_headers(opts.headers)
    local offer = natives.peer_offer(opts.compression)
    if offer then
        headers[#headers + 1] = "Sec-WebSocket-Extensions: " .. offer
    end

    local ssl_verify = opts.ssl_verify
    local ok, err, response = wb:connect(url, {
        protocols = opts.protocols, origin = opts.origin, headers = headers, host = opts.host,
        server_name = opts.server_name, key = key, pool_size = opts.pool_size,
        -- A pooled connection has no handshake of ours: never one of another kind.
        pool = "resty.websocket:" .. (opts.pool or url), backlog = opts.backlog,
        ssl_verify = ssl_verify == nil or ssl_verify, client_cert = opts.client_cert,
        client_priv_key = opts.client_priv_key,
    })
    if not ok then
        wb.sock:close()
        return nil, err, response
    end

    local session, id, protocol, extensions = natives.peer_open(
        response, key, opts.protocols, opts.compression, opts.max_message_size,
        opts.max_frame_size, opts.ping_interval, opts.ping_timeout)
    local sock = wb.sock
    if not session then
        sock:close()
        return nil, id, response
    end
    sock:settimeouts(nil, opts.send_timeout, nil)

    return setmetatable({
        session = session, sock = sock, id = id, protocol = protocol, extensions = extensions,
        role = "client", request_id = ngx.var.request_id, timeout = opts.timeout or 60000,
    }, client_mt), nil, response
end


-- Hub -------------------------------------------------------------------------------------------

local function check_topic(topic, level)
    if type(topic) ~= "string" then
        error('bad "topic" argument: string expected, got ' .. type(topic), level or 3)
    end
    return topic
end


local function check_id(id)
    if type(id) ~= "string" then
        error('bad "id" argument: string expected, got ' .. type(id), 3)
    end
    return id
end


-- A drop-in object is made known to the hub by its first call here.
local function id_of(self)
    local id = self.id
    if not id then
        local err
        id, err = natives.hub_register(server_session(self))
        if not id then
            error(err, 3)
        end
        self.id = id
    end
    return id
end


function server.subscribe(self, topic, opts)
    check_topic(topic)
    if opts ~= nil and (type(opts) ~= "table" or next(opts) ~= nil) then
        error('bad "opts" argument: empty table expected', 2)
    end
    local fresh, err = natives.hub_subscribe(id_of(self), topic)
    if fresh == nil then
        return nil, err
    end
    return true
end


function server.unsubscribe(self, topic)
    if topic ~= nil then
        check_topic(topic)
    end
    return natives.hub_unsubscribe(id_of(self), topic)
end


function server.topics(self)
    return natives.hub_topics(id_of(self))
end


local PUBLISH = { type = true, except = true, scope = true }
local SCOPES = { worker = true, node = true, cluster = true }


function _M.publish(topic, data, opts)
    check_topic(topic)
    check_data("data", data)
    if opts == nil then
        return natives.hub_publish(topic, data, true)
    end
    if type(opts) ~= "table" then
        error('bad "opts" argument: table expected, got ' .. type(opts), 2)
    end
    for name in pairs(opts) do
        if not PUBLISH[name] then
            error('unknown option "' .. tostring(name) .. '" (known: except, scope, type)', 2)
        end
    end
    if opts.except ~= nil and type(opts.except) ~= "string" then
        error('bad "except" option: string expected, got ' .. type(opts.except), 2)
    end
    if opts.scope ~= nil and not SCOPES[opts.scope] then
        error('bad "scope" option: "worker", "node" or "cluster" expected', 2)
    end
    return natives.hub_publish(topic, data, check_type(opts.type), opts.except,
                               opts.scope == "worker")
end


function _M.send(id, data, typ)
    return natives.hub_send(check_id(id), check_data("data", data), check_type(typ))
end


function _M.close(id, code, reason)
    check_id(id)
    code, reason = check_close(code, reason)
    return natives.hub_close(id, code, reason)
end


function _M.count(topic)
    if topic ~= nil then
        check_topic(topic)
    end
    return natives.hub_count(topic)
end


-- Seen from outside -----------------------------------------------------------------------------

-- Counters of all workers: numbers, or tables of numbers by label.
function _M.info()
    local info, i = {}, 1
    local name, value, _, label = natives.hub_metric(i)
    while name do
        if label then
            local by = info[name] or {}
            by[label] = value
            info[name] = by
        else
            info[name] = value
        end
        i = i + 1
        name, value, _, label = natives.hub_metric(i)
    end
    -- The names a handler asks for most.
    info.open, info.accepted = info.connections_open, info.connections_accepted
    return info
end


-- For the objects of the drop-in modules, which answer these calls too.
natives.server_methods = server
natives.client_methods = client


return _M
