-- websockets: the API of lua-websockets' binding of libwebsockets. This shim has the contexts, their
-- configuration and methods. What is due in them is service.lua's; connections and the methods of
-- websockets are in files of their own, too, ports in resty.websocket.listen.

local natives, vm = ...

local bit = require "bit"
local listen = vm.module "resty.websocket.listen"
local connection = vm.module "websockets.connection"
local methods = vm.module "websockets.methods"
local running = vm.module "websockets.running"
local service = vm.module "websockets.service"

local bad_argument = methods.bad_argument
local broadcast = methods.broadcast
local check_data = methods.check_data
local destroy = service.destroy
local end_overdue = service.end_overdue
local run = running.run
local serve = vm.module("websockets.reader").serve
local take_messages = methods.take_messages
local error = error
local getmetatable = getmetatable
local ipairs = ipairs
local newproxy = newproxy
local pairs = pairs
local rawget = rawget
local select = select
local setmetatable = setmetatable
local tostring = tostring
local type = type
local ngx = ngx
local now = ngx.now

local HANDSHAKE_TIMEOUT = 10000
local SLICE = service.SLICE
-- A hub's topic has 255 bytes.
local MAX_NAME = 200

local _M = {
    WRITE_TEXT = 0, WRITE_BINARY = 1, WRITE_CONTINUATION = 2, WRITE_HTTP = 3, WRITE_CLOSE = 4,
    WRITE_PING = 5, WRITE_PONG = 6, WRITE_NO_FIN = 0x40, WRITE_CLIENT_IGNORE_XOR_MASK = 0x80,
    SERVER_OPTIONS_DEFEAT_CLIENT_MASK = 1, SERVER_OPTION_REQUIRE_VALID_OPENSSL_CLIENT_CERT = 2,
    POLLIN = 1, POLLOUT = 4, POLLERR = 8, POLLHUP = 16,
}


local STATE = {}

local context = {}


local function state_of(self)
    local state = type(self) == "table" and rawget(self, STATE)
                  or error("bad argument #1 (context expected)", 3)
    if state.destroyed then
        error("websocket context destroyed", 3)
    end
    return state
end


function context.destroy(self)
    local state = state_of(self)
    destroy(state)
    local on_del_fd = connection.program_of(state).on_del_fd
    if on_del_fd and state.listener then
        on_del_fd(state.door.fd)
    end
end


function context.service(self, timeout_ms)
    local state = state_of(self)
    if timeout_ms ~= nil and type(timeout_ms) ~= "number" then
        bad_argument(1, "service", "number", timeout_ms)
    end
    if state.over then
        -- The worker ends, and a loop around service() must not keep it.
        ngx.exit(ngx.OK)
    end
    local result = service.run(state, (timeout_ms or 0) / 1000)
    state.over = result < 0 and ngx.worker.exiting()
    return result
end


-- Waits until service_fd(fd) has something to do: true | false, after `timeout_ms` | nil for a
-- descriptor that is not, or no longer, the context's.
function context.wait(self, fd, timeout_ms)
    local state = state_of(self)
    local deadline = timeout_ms and now() + timeout_ms / 1000
    local conn = state.by_fd[fd]
    while true do
        -- The number may be another connection's by now.
        if not conn or conn.finished or state.destroyed then
            return nil
        end
        local left = deadline and deadline - now() or SLICE
        left = left > SLICE and SLICE or left > 0 and left or 0
        local woken, err = true, nil
        if conn == state.door then
            -- Who watches the port sees to what is no connection's own.
            take_messages(state)
            end_overdue(state)
            if not conn.queued then
                woken, err = vm.natives.hub.mailbox_wait(state.mailbox, left > 0.001 and left * 1000 or 1)
            end
        else
            woken, err = connection.watch(conn, left)
        end
        if woken == nil then
            error(err, 2)
        end
        if conn.queued then
            return true
        elseif left <= 0 then
            return false
        end
        if ngx.worker.exiting() then
            -- Nobody else may be there to look at deadlines.
            service.run(state, 0)
            if state.count == 0 then
                return nil
            end
        end
    end
end


function context.service_fd(self, fd, ...)
    local state = state_of(self)
    if type(fd) ~= "number" then
        bad_argument(1, "service_fd", "number", fd)
    end
    local events = 0
    for i = 1, select("#", ...) do
        local event = select(i, ...)
        if type(event) ~= "number" then
            bad_argument(i + 1, "service_fd", "number", event)
        end
        events = bit.bor(events, event)
    end
    take_messages(state)
    end_overdue(state)
    local conn = state.by_fd[fd]
    if events == 0 or not conn then
        return 0
    end
    if not conn.queued then
        -- A loop around this must not keep the others from their turn.
        local woken, err = vm.natives.hub.mailbox_wait(state.mailbox, 1)
        if woken == nil then
            error(err, 2)
        end
        return 0
    end
    return run(conn) and 1 or 0
end


function context.broadcast(self, protocol, data)
    local state = state_of(self)
    protocol = check_data(1, "broadcast", protocol)
    data = check_data(2, "broadcast", data)
    if not state.members[protocol] then
        error("websocket unknown protocol", 2)
    end
    return broadcast(state, protocol, data)
end


function context.canonical_hostname(self)
    return state_of(self).hostname
end


-- The context is serviced in the background, and the caller goes on.
function context.fork_service_loop(self)
    local state = state_of(self)
    local ok = ngx.timer.at(0, function()
        -- Holds the context, as the forked process did.
        local _ = self
        while service.run(state, -1) == 0 do end
    end)
    return ok and 0 or -1
end


local context_mt = {
    __index = context,
    __tostring = function(self)
        return ("context %p"):format(state_of(self))
    end,
    __metatable = "websockets.ctx",
}

local FIELDS = {
    port = "number", protocols = "table", on_http = "function", on_add_fd = "function",
    on_del_fd = "function", interf = "string", ssl_cert_filepath = "string",
    ssl_private_key_filepath = "string", ssl_ca_filepath = "string", ssl_cert_path = "string",
    ssl_private_key_path = "string", gid = "number", uid = "number", options = "number",
    rx_buffer_size = "number", max_message_size = "number", handshake_timeout = "number",
    backlog = "number", workers = "number",
}


local function check_config(config)
    if type(config) ~= "table" then
        bad_argument(1, "context", "table", config, 3)
    end
    for name, expected in pairs(FIELDS) do
        local value = config[name]
        if value ~= nil and type(value) ~= expected then
            error("bad argument #1 to 'context' (" .. name .. ": " .. expected .. " expected, got "
                  .. type(value) .. ")", 3)
        end
    end
    local size = config.rx_buffer_size
    if size and not (size == 0 or size >= 1 and size % 1 == 0) then
        error("bad argument #1 to 'context' (rx_buffer_size: whole number expected, got "
              .. size .. ")", 3)
    end
    for name in pairs(config.protocols or {}) do
        if type(name) ~= "string" or #name > MAX_NAME or not name:find("^[!#-'*+%-.0-9A-Z^-z|~]+$")
        then
            error("bad argument #1 to 'context' (protocols: \"" .. tostring(name)
                  .. "\" is no name of a subprotocol)", 3)
        end
    end
end


-- The address to listen on: all, a network interface's, or one that is given as it is.
local function host_of(interf)
    if not interf or interf:find("^[%x:.]*[:.][%x:.]*$") then
        return interf or "0.0.0.0"
    end
    return natives.interface(interf)
end


local function open_port(config)
    local host = host_of(config.interf)
    if not host then
        return nil, 'no interface "' .. config.interf .. '"'
    end
    local certificate = config.ssl_cert_filepath or config.ssl_cert_path
    local key = config.ssl_private_key_filepath or config.ssl_private_key_path
    local tls
    if certificate and key then
        local verified = bit.band(config.options or 0, 2) ~= 0
        tls = { certificate = certificate, key = key, ca = config.ssl_ca_filepath,
                verify = verified and "require" or nil }
    end
    return listen.open { host = host, port = config.port, backlog = config.backlog, tls = tls,
                         workers = config.workers }
end


local function fail(err)
    error("websocket could not create context: " .. err, 3)
end


local function enter_hub(state, port)
    state.mailbox, state.id = vm.natives.hub.mailbox_open()
    if not state.mailbox then
        return nil, state.id
    end
    for _, name in ipairs(state.names) do
        local topic = "websockets:" .. port .. ":" .. name
        local ok, err = vm.natives.hub.subscribe(state.id, topic)
        if ok == nil then
            return nil, err
        end
    end
    state.topic = "websockets:" .. port .. ":"
    return true
end


function _M.context(config)
    check_config(config)
    local max_message_size, send_buffer, close_slow = natives.settings()
    local program = { protocols = config.protocols or {}, on_http = config.on_http,
                      on_add_fd = config.on_add_fd, on_del_fd = config.on_del_fd, calls = {} }
    local state = {
        theirs = setmetatable({ program = program }, { __mode = "v" }),
        serves_http = config.on_http ~= nil, tells_fds = config.on_add_fd ~= nil,
        rx_buffer_size = config.rx_buffer_size ~= 0 and config.rx_buffer_size or nil, names = {}, members = {}, connections = {}, by_fd = {},
        closing = {}, running = {}, looked = 0, count = 0, ready = { first = 1, last = 0 },
        max_message_size = config.max_message_size or max_message_size,
        handshake_timeout = config.handshake_timeout or HANDSHAKE_TIMEOUT,
        unmasked = bit.band(config.options or 0, 1) ~= 0, hostname = natives.host(),
        send_buffer = send_buffer, close_slow = close_slow,
    }
    state.bye, state.bye_reason = natives.goodbye()
    for name in pairs(program.protocols) do
        state.names[#state.names + 1] = name
        state.members[name] = {}
    end

    local port, listener, err = config.port or 0, nil, nil
    if port ~= 0 then
        listener, err = open_port(config)
        if not listener and err ~= "another worker's" then
            fail(err)
        end
    end
    local ok
    ok, err = enter_hub(state, port)
    if not ok then
        if listener then
            listener:close()
        end
        fail(err)
    end
    if config.gid or config.uid then
        ngx.log(ngx.NOTICE, "websockets: gid and uid are the business of nginx's user directive")
    end

    -- What waits for the collector is the program's object: a context that it forgot goes. So who
    -- accepts connections must not hold it, nor what the program gave it.
    local guard = newproxy(true)
    getmetatable(guard).__gc = function()
        if not state.destroyed then
            -- The collector may come anywhere: not a place to call the program.
            state.theirs.program = nil
            destroy(state, true)
        end
    end
    local self = setmetatable({ [STATE] = state, guard, program }, context_mt)
    local weak = setmetatable({ state = state }, { __mode = "v" })

    if listener then
        local fd = listener:fd()
        local door = { state = state, announced = true, came = {}, fd = fd }
        function door.run()
            local came = door.came
            door.came = {}
            for _, conn in ipairs(came) do
                running.announce(conn)
            end
        end
        state.listener, state.door = listener, door
        state.by_fd[fd] = door
        ok, err = listen.serve(listener, function(peer)
            local left = weak.state
            if left and not left.destroyed then
                serve(left, peer, methods.metatable)
            end
        end, nil, function()
            local left = weak.state
            if not left or left.destroyed then
                return
            end
            -- Maybe because the worker is to quit, which service() wants to know at once.
            vm.natives.hub.mailbox_wake(left.mailbox)
            if ngx.worker.exiting() then
                service.quit_alone(left)
            end
        end)
        if ok then
            ok, err = listen.forget_with_owner(listener)
        end
        if not ok then
            destroy(state, true)
            fail(err)
        end
        if program.on_add_fd then
            program.on_add_fd(fd)
        end
    end
    return self
end


rawset(_G, "websockets", _M)

return _M
