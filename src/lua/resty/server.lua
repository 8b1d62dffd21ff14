-- resty.websocket.server: lua-resty-websocket's server object on a native session. This shim
-- orders the calls, keeps the object's visible fields and loops over waits; frames, limits and
-- sockets are the natives'. An object whose `sock` is another one, a test's mock or a cosocket's,
-- does its frames over that, as upstream's.

local natives, vm = ...

local waiting = vm.module("resty.websocket.wait")
local wait = waiting.call
local wait_again = waiting.call_again
local raw_stream = vm.module("resty.websocket.raw_stream")
local take_socket = raw_stream.take
local ASK_FIRST = raw_stream.ASK_FIRST
local fast = vm.module("resty.websocket.fast")
local object = vm.module("resty.websocket.object")
local protocol = vm.module("resty.websocket.protocol")

local fast_recv = fast.recv_frame
local fast_send = fast.send_frame
local view = fast.view
local copy = fast.copy
local native_switch = natives.switch
local native_open = natives.open
local native_recv = natives.recv
local native_send = natives.send
local native_drain = natives.drain
local is_open = natives.is_open
local MIXED = object.MIXED
local limit = object.limit
local new_socket = object.new_socket
local session_of = object.session_of
local recv_over = protocol.recv_frame
local send_over = protocol.send_frame
local find = string.find
local huge = math.huge
local error = error
local setmetatable = setmetatable
local tostring = tostring
local type = type
local ngx = ngx
local ngx_log = ngx.log
local DEBUG = ngx.DEBUG
local debug = ngx.config.debug

local DEFAULT_MAX_LEN = 65535
-- In a finalizer or another C function's callback: no fault of the connection's.
local _, CANNOT_WAIT = vm.natives.vm.texts()
local MAX_TIMEOUT = waiting.MAX_TIMEOUT

-- By opcode + 1.
local TYPES = { "continuation", "text", "binary", [9] = "close", [10] = "ping", [11] = "pong" }
local LOG = 32
local NOT_LAST = 16

local _M = { _VERSION = "0.13" }
local mt = { __index = _M }


local function check_number(opts, name, highest)
    local value = opts[name]
    if not value then
        return nil
    end
    if type(value) ~= "number" then
        error('bad "' .. name .. '" option: number expected, got ' .. type(value), 3)
    end
    if not (value >= 0 and value <= highest) then
        error('bad "' .. name .. '" option: ' .. value, 3)
    end
    return value
end


function _M.new(_, opts)
    if opts == nil or opts == false then
        opts = {}
    elseif type(opts) ~= "table" then
        error('bad "opts" argument: table expected, got ' .. type(opts), 2)
    end

    local max_len = check_number(opts, "max_payload_len", huge) or DEFAULT_MAX_LEN
    local max_recv_len = check_number(opts, "max_recv_len", huge) or max_len
    local max_send_len = check_number(opts, "max_send_len", huge) or max_len
    local timeout = check_number(opts, "timeout", MAX_TIMEOUT)

    local step, err = native_switch(false, max_recv_len, timeout)
    if step == ASK_FIRST then
        if ngx.headers_sent then
            return nil, "response header already sent"
        end
        ngx.req.read_body()
        step, err = native_switch(true, max_recv_len, timeout)
    end
    if not step then
        return nil, err
    end

    local ok
    ok, err = take_socket(step)
    if not ok then
        return nil, err
    end

    local session
    session, err = native_open()
    if not session then
        return nil, err
    end

    -- Four fields take half the memory of five.
    local self = setmetatable({
        sock = new_socket(session),
        session = session,
        max_recv_len = max_recv_len,
        max_send_len = max_send_len,
    }, mt)
    if opts.send_masked ~= nil then
        self.send_masked = opts.send_masked
    end
    return self
end


-- What recv_frame returns for the frame in `view`.
local function taken(kind)
    local code = view.code
    local data = copy()
    if kind >= LOG then
        kind = kind - LOG
        ngx_log(DEBUG, "recv_frame: mask bit: ", 1)
    end
    if kind > NOT_LAST then
        return data, TYPES[kind - NOT_LAST], "again"
    end
    if kind == 9 then
        return data, "close", code >= 0 and code or nil
    end
    return data, TYPES[kind], nil
end


-- A frame that is here for who was woken, as recv_frame returns it, and that its log line is written.
local function here(session, max)
    local kind = fast_recv(session, max)
    if kind ~= 0 then
        local data, typ, err = taken(kind)
        return data, typ, err, true
    end
end


function _M.recv_frame(self)
    if self.fatal then
        return nil, nil, "fatal error already happened"
    end

    local sock = self.sock
    if not sock then
        return nil, nil, "not initialized yet"
    end

    local max = limit(self, "max_recv_len")
    local session = session_of(sock)
    if not session then
        local data, typ, err = recv_over(sock, max, true)
        if not data and not find(err, ": timeout", 1, true) then
            self.fatal = true
        end
        return data, typ, err
    end

    local kind = fast_recv(session, max)
    if kind ~= 0 then
        return taken(kind)
    end
    local data, typ, err, logged = native_recv(session, false, nil, max)
    if data == true or data == false then
        data, typ, err, logged = wait_again(native_recv, session, nil, max, nil, nil, here, session)
    end
    if err == MIXED then
        error(err, 2)
    end
    if not data and not find(err, ": timeout", 1, true) and err ~= CANNOT_WAIT
       and is_open(session)
    then
        self.fatal = true
    end

    -- lua-resty-websocket's line, which its tests and its users' look for.
    if debug and not logged and (data or err == "frame unmasked") then
        ngx_log(DEBUG, "recv_frame: mask bit: ", data and 1 or 0)
    end

    return data, typ, err
end


local function send_frame(self, fin, opcode, payload)
    if self.fatal then
        return nil, "fatal error already happened"
    end

    local sock = self.sock
    if not sock then
        return nil, "not initialized yet"
    end

    local max = limit(self, "max_send_len")
    local session = session_of(sock)
    if not session then
        local bytes, err = send_over(sock, fin, opcode, payload, max, self.send_masked)
        if not bytes then
            self.fatal = true
        end
        return bytes, err
    end

    if fin == true and (opcode == 0x1 or opcode == 0x2) and type(payload) == "string"
       and not self.send_masked
    then
        local bytes = fast_send(session, opcode, payload, #payload, max)
        if bytes > 0 then
            return bytes, nil
        end
    end

    if type(payload) ~= "string" then
        payload = payload and tostring(payload) or ""
    end

    local bytes, err = native_send(session, fin, opcode, payload, max, self.send_masked)
    if bytes and err then
        -- Above the high-water mark: wait for the peer, where that can be. It is queued in any case.
        local drained
        drained, err = wait(native_drain, session)
        if not drained and err ~= CANNOT_WAIT then
            bytes = nil
        end
    end

    if not bytes then
        if err ~= CANNOT_WAIT and is_open(session) then
            self.fatal = true
        end
        return nil, err
    end

    return bytes, nil
end


object.add_common(_M, send_frame)


function _M.send_continue(self, data)
    return send_frame(self, true, 0x0, data)
end


function _M.send_close(self, code, msg)
    local payload, err
    if code then
        payload, err = natives.close_payload(code, msg)
        if not payload then
            return nil, err
        end
    end
    return send_frame(self, true, 0x8, payload)
end


-- Message calls and the hub's work on these objects too; the module's own keys stay upstream's.
vm.module "resty.websocket"
setmetatable(_M, { __index = vm.natives.message.server_methods })


return _M
