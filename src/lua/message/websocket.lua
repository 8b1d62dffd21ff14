-- resty.websocket: whole messages, for servers and clients, and the hub. The server's half stands
-- here: accept() orders the calls of the opening handshake, its objects' methods loop over waits;
-- the protocol is the natives'. The other halves are connect.lua and hub.lua.

local natives, vm = ...

local options = vm.module("resty.websocket.options")
local methods = vm.module("resty.websocket.methods")
local waiting = vm.module("resty.websocket.wait")
local wait = waiting.call
local wait_again = waiting.call_again
local raw_stream = vm.module("resty.websocket.raw_stream")
local take_socket = raw_stream.take
local ASK_FIRST = raw_stream.ASK_FIRST
local client = vm.module("resty.websocket.connect")
local hub = vm.module("resty.websocket.hub")

local fast = vm.module("resty.websocket.fast")

local fast_receive = fast.recv_message
local copy = fast.copy
local native_switch = natives.switch
local native_open = natives.open
local native_receive = natives.receive
local native_check = natives.check_frame
local tell_gaps = hub.tell_gaps
local serving = vm.module("resty.websocket.serving")
local get_phase = ngx.get_phase
local check_time = methods.check_time
local error = error
local pairs = pairs
local setmetatable = setmetatable
local type = type
local ngx = ngx

-- The status once the 101 was begun: nginx and ngx_lua end such a request without another word.
local CLIENT_GONE = 499

local _M = { _VERSION = "0.2.0" }


-- Above the high-water mark the light thread waits for the peer before anything is queued.
local function send_server(_, native, session, a, b)
    local bytes, err = wait(native, session, nil, a, b)
    if not bytes then
        return nil, err
    end
    return bytes
end


local function server_session(self)
    return self.session or error("not initialized yet", 3)
end


local server = methods.add_common({}, send_server, server_session)
local server_mt = { __index = server }

server.role = "server"


-- A message that is here for who was woken: data, type, nil, nil.
local function here(self)
    if self.on_gap then
        tell_gaps(self)
    end
    local kind = fast_receive(self.session)
    if kind ~= 0 then
        return copy(), kind == 2 and "text" or "binary", nil, nil
    end
end


function server.recv(self, timeout)
    if timeout ~= nil then
        check_time("timeout", timeout)
    end
    local session = self.session or server_session(self)
    if self.on_gap then
        tell_gaps(self)
    end
    local kind = fast_receive(session)
    if kind ~= 0 then
        return copy(), kind == 2 and "text" or "binary", nil, nil
    end
    local data, typ, code, reason = native_receive(session, false, nil, timeout)
    if data == true or data == false then
        return wait_again(native_receive, session, nil, timeout, nil, nil, here, self)
    end
    return data, typ, code, reason
end


function server.close(self, code, reason, timeout)
    code, reason, timeout = methods.check_close(code, reason, timeout)
    local done, err = wait(natives.close, server_session(self), nil, code, reason, timeout)
    if not done then
        return nil, err
    end
    return true
end


function server.shutdown(self)
    natives.shutdown(server_session(self))
end


-- The natives' `switch`, by the options.
local function check_and_switch(opts, ready, dry)
    return native_switch(ready, dry, opts.protocols, opts.origins, opts.require_origin,
                         opts.compression, opts.max_message_size, opts.max_frame_size,
                         opts.timeout, opts.send_timeout, opts.ping_interval, opts.ping_timeout)
end


-- Upgrades the request: an object | nil, err, status. With `lean` the metatable makes what is not there.
local function upgrade(opts, mt, lean)
    local step, protocol, extensions = ASK_FIRST
    if not opts.headers then
        step, protocol, extensions = check_and_switch(opts)
    end
    if step == ASK_FIRST then
        if ngx.headers_sent then
            return nil, "response header already sent", 500
        end
        step, protocol, extensions = check_and_switch(opts, true, true)
        if step then
            ngx.req.read_body()
            for name, value in pairs(opts.headers or {}) do
                ngx.header[name] = value
            end
            step, protocol, extensions = check_and_switch(opts, true)
        end
    end
    if not step then
        return nil, protocol, extensions
    end

    local ok, err = take_socket(step)
    if not ok then
        return nil, err, CLIENT_GONE
    end

    local session, id, request_id = native_open(lean)
    if not session then
        return nil, id, CLIENT_GONE
    end

    -- Up to two fields take half the memory of three, and up to four that of five.
    local self
    if lean then
        self = { session = session }
        if request_id then
            self.request_id = request_id
        end
    else
        self = { session = session, id = id, request_id = request_id }
    end
    setmetatable(self, mt)
    if protocol then
        self.protocol = protocol
    end
    if extensions then
        self.extensions = extensions
    end
    return self
end


function _M.accept(opts)
    return upgrade(options.check(opts, options.ACCEPT), server_mt)
end


function _M.serve(opts)
    if opts == nil then
        error('bad "opts" argument: table expected, got nil', 2)
    end
    opts = options.check(opts, options.SERVE)
    if get_phase() ~= "content" then
        error("websocket.serve() is for content_by_lua: what comes after it would answer, too", 2)
    end
    local self, err, status = upgrade(opts, serving.mt, true)
    if not self then
        return nil, err, status
    end
    local ok
    ok, err = serving.begin(self, opts)
    if not ok then
        self:shutdown()
        return nil, err, CLIENT_GONE
    end
    return true
end


_M.proxy = vm.module("resty.websocket.relay")(function(opts)
    return upgrade(opts, server_mt)
end, function(opts)
    return check_and_switch(opts, true, true)
end)


-- What a handler that reads frames has to see to itself: asked with what recv_frame() returned.
function _M.frame_checker(max_message_size)
    if max_message_size ~= nil and (type(max_message_size) ~= "number" or not (max_message_size > 0)) then
        error('bad "max_message_size" argument: size in bytes expected', 2)
    end
    local checker = natives.check_new(max_message_size)
    return function(data, typ, err)
        -- Not as a tail call: misuse is told to whom this returns.
        local fine, fault, code = native_check(checker, data, typ, err)
        if fine then
            return true
        end
        return nil, fault, code
    end
end


hub.add_to(server, server_session)
serving.inherit(server)
_M.connect = client.connect
for name, call in pairs(hub.functions) do
    _M[name] = call
end

-- For the objects of the drop-in modules, which answer these calls too.
natives.server_methods = server
natives.client_methods = client.methods


return _M
