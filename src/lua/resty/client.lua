-- resty.websocket.client: lua-resty-websocket's client object on a cosocket. This shim orders the
-- calls and keeps the object's visible fields; frames are resty.websocket.protocol's, the opening
-- handshake opening.lua's, and the connection (pool, resolver, TLS) ngx_lua's.

local natives, vm = ...

local new_opening = vm.module("resty.websocket.opening").new
local object = vm.module("resty.websocket.object")
local limit = object.limit
local TIMEOUT = object.TIMEOUT
local protocol = vm.module "resty.websocket.protocol"

local proto_recv = protocol.recv_frame
local proto_send = protocol.send_frame
local tcp = ngx.socket.tcp
local encode_base64 = ngx.encode_base64
local char = string.char
local concat = table.concat
local find = string.find
local random = math.random
local error = error
local setmetatable = setmetatable
local tonumber = tonumber
local type = type
local debug = ngx.config.debug
local ngx_log = ngx.log
local DEBUG = ngx.DEBUG

local DEFAULT_MAX_LEN = 65535
local MAX_TIMEOUT = vm.module("resty.websocket.wait").MAX_TIMEOUT

local _M = { _VERSION = "0.13" }
local mt = { __index = _M }


local function length(opts, name, default)
    local value = opts[name] or default
    if type(value) ~= "number" then
        error('bad "' .. name .. '" option: number expected, got ' .. type(value), 3)
    end
    return value
end


function _M.new(_, opts)
    if not opts then
        opts = {}
    elseif type(opts) ~= "table" then
        error('bad "opts" argument: table expected, got ' .. type(opts), 2)
    end

    local max_len = length(opts, "max_payload_len", DEFAULT_MAX_LEN)
    local max_recv_len = length(opts, "max_recv_len", max_len)
    local max_send_len = length(opts, "max_send_len", max_len)

    local sock, err = tcp()
    if not sock then
        return nil, err
    end

    if opts.timeout then
        sock:settimeout(opts.timeout)
        sock[TIMEOUT] = opts.timeout
    end

    return setmetatable({
        sock = sock,
        max_recv_len = max_recv_len,
        max_send_len = max_send_len,
        send_unmasked = opts.send_unmasked,
    }, mt)
end


-- A string for a header field, or an array of them joined by commas.
local function field(opts, name, list_allowed)
    local value = opts[name]
    if not value then
        return nil
    end
    if list_allowed and type(value) == "table" then
        for i = 1, #value do
            if type(value[i]) ~= "string" and type(value[i]) ~= "number" then
                error('bad "' .. name .. '" option: no string at index ' .. i, 3)
            end
        end
        return concat(value, ",")
    end
    if type(value) ~= "string" and type(value) ~= "number" then
        error('bad "' .. name .. '" option: string expected, got ' .. type(value), 3)
    end
    return value
end


-- Drawn from math.random, in upstream's order: the key only proves that the peer has read the
-- request (RFC 6455 1.3), and who seeds the generator gets the same requests as ever.
local function random_key()
    local r = random
    return encode_base64(char(r(256) - 1, r(256) - 1, r(256) - 1, r(256) - 1,
                              r(256) - 1, r(256) - 1, r(256) - 1, r(256) - 1,
                              r(256) - 1, r(256) - 1, r(256) - 1, r(256) - 1,
                              r(256) - 1, r(256) - 1, r(256) - 1, r(256) - 1))
end


function _M.connect(self, uri, opts)
    local sock = self.sock
    if not sock then
        return nil, "not initialized"
    end

    local opening, err = new_opening(uri)
    if not opening then
        return nil, err
    end

    if not opts then
        opts = {}
    elseif type(opts) ~= "table" then
        error('bad "opts" argument: table expected, got ' .. type(opts), 2)
    end

    local protocols = field(opts, "protocols", true)
    local origin = field(opts, "origin")
    if opts.client_cert and not opts.client_priv_key then
        error("client_priv_key must be provided with client_cert", 0)
    end
    if opts.server_name ~= nil and type(opts.server_name) ~= "string" then
        return nil, "SSL server_name must be a string"
    end
    if opts.headers and type(opts.headers) ~= "table" then
        return nil, "custom headers must be a table"
    end
    if opts.host ~= nil and type(opts.host) ~= "string" then
        return nil, "custom host header must be a string"
    end
    if opts.key ~= nil and type(opts.key) ~= "string" then
        return nil, "custom Sec-WebSocket-Key must be a string"
    end

    local key = opts.key or random_key()
    local request, ok
    request, err = natives.opening_request(opening.native, key, opts.host, protocols, origin,
                                           opts.headers)
    if not request then
        return nil, err
    end

    ok, err = opening:connect(sock, opts)
    if not ok then
        return nil, err
    end

    self.fatal = nil
    self.closed = nil
    self.session = nil
    self.half_read = nil
    self.sending = nil
    self.hung_up = nil
    self.is_to_close = nil

    local count
    count, err = sock:getreusedtimes()
    if not count then
        return nil, "failed to get reused times: " .. err
    end
    if count > 0 then
        return 1, nil, "connection reused"
    end

    local response, header, answered
    response, err, header, answered = opening:upgrade(sock, request, opts)
    if not response then
        -- No WebSocket will come of this connection. Only one whose peer answered in HTTP stays
        -- open, so that the body can be read from wb.sock.
        self.closed = true
        if not answered then
            sock:close()
        end
        if header then
            return nil, err, header
        end
        return nil, err
    end

    return 1, nil, response
end


function _M.recv_frame(self)
    if self.fatal then
        return nil, nil, "fatal error already happened"
    end

    local sock = self.sock
    if not sock then
        return nil, nil, "not initialized yet"
    end

    local session = self.session
    if session then
        -- Whole messages that came while message calls were in use are handed out as frames.
        local data, typ = vm.natives.message.take_message(session)
        if data then
            return data, typ, nil
        end
        if typ then
            self.fatal = true
            return nil, nil, typ
        end
        if not vm.natives.message.is_between(session) then
            error(object.MIXED, 2)
        end
    end

    local data, typ, err = proto_recv(sock, limit(self, "max_recv_len"), false)
    if err == "again" then
        self.half_read = true
    elseif typ == "continuation" then
        self.half_read = nil
    end
    if not data and not find(err, ": timeout", 1, true) then
        self.fatal = true
    end

    return data, typ, err
end


local function send_frame(self, fin, opcode, payload)
    if self.fatal then
        return nil, "fatal error already happened"
    end

    if self.closed then
        return nil, "already closed"
    end

    local sock = self.sock
    if not sock then
        return nil, "not initialized yet"
    end

    local bytes, err = proto_send(sock, fin, opcode, payload, limit(self, "max_send_len"),
                                  not self.send_unmasked)
    if not bytes then
        self.fatal = true
    end

    return bytes, err
end


object.add_common(_M, send_frame)


local set_timeout = _M.set_timeout

-- Message calls set the cosocket's times too, and put this one back.
function _M.set_timeout(self, time)
    local sock = self.sock
    local ms = tonumber(time)
    if sock and (time == nil or ms and ms >= 0 and ms <= MAX_TIMEOUT) then
        sock[TIMEOUT] = ms
    end
    return set_timeout(self, time)
end


local function send_close(self, code, msg)
    local payload, bytes, err
    if code then
        payload, err = natives.close_payload(type(code) == "number" and code, msg)
        if not payload then
            return nil, err
        end
    end

    if debug then
        ngx_log(DEBUG, "sending the close frame")
    end

    bytes, err = send_frame(self, true, 0x8, payload)
    if not bytes then
        self.fatal = true
    end
    self.closed = true

    return bytes, err
end


_M.send_close = send_close


function _M.close(self)
    if self.fatal then
        return nil, "fatal error already happened"
    end

    local sock = self.sock
    if not sock then
        return nil, "not initialized"
    end

    if not self.closed then
        local bytes, err = send_close(self)
        if not bytes then
            return nil, "failed to send close frame: " .. err
        end
    end

    return sock:close()
end


function _M.set_keepalive(self, ...)
    local sock = self.sock
    if not sock then
        return nil, "not initialized"
    end

    return sock:setkeepalive(...)
end


-- Message calls work on these objects too; the module's own keys stay upstream's.
vm.module "resty.websocket"
setmetatable(_M, { __index = vm.natives.message.client_methods })


return _M
