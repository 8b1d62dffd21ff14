-- What the drop-in's two kinds of objects share: calls that both have, limits that the program may set,
-- and `wb.sock` of a server's object. Its connection is the session's, so that time-outs are set there,
-- and its bytes are none of others' business.

local natives, vm = ...

local error = error
local getmetatable = getmetatable
local setmetatable = setmetatable
local type = type

local MAX_TIMEOUT = vm.module("resty.websocket.wait").MAX_TIMEOUT
local REFUSED = "bytes belong to the websocket object"
-- Where a client's cosocket keeps what set_timeout() was given: the object's fields are upstream's.
local TIMEOUT = {}
-- Misuse of both kinds of calls.
local MIXED = vm.natives.vm.texts()

local socket = {}
local mt = { __index = socket }


-- A limit of an object's, which the program may have set.
local function limit(self, name)
    local value = self[name]
    if type(value) ~= "number" then
        error('bad "' .. name .. '" field: number expected, got ' .. type(value), 3)
    end
    return value
end


local function new_socket(session)
    return setmetatable({ session }, mt)
end


-- The session behind a socket; nil for any other, which a program may have put in its place.
local function session_of(sock)
    return type(sock) == "table" and getmetatable(sock) == mt and sock[1] or nil
end


local function check(time)
    if time == nil then
        return
    end
    if type(time) ~= "number" then
        error("bad timeout value: number expected, got " .. type(time), 3)
    end
    if not (time >= 0 and time <= MAX_TIMEOUT) then
        error("bad timeout value", 3)
    end
end


-- Milliseconds; nil and 0 mean ngx_lua's directives.
function socket.settimeout(self, time)
    check(time)
    natives.set_timeouts(self[1], time, time)
end


-- There is nothing to connect.
function socket.settimeouts(self, connect, send, read)
    check(connect)
    check(send)
    check(read)
    natives.set_timeouts(self[1], send, read)
end


local function refuse()
    return nil, REFUSED
end


socket.receive = refuse
socket.receiveany = refuse
socket.send = refuse


function socket.receiveuntil()
    return refuse
end


-- Methods that servers' objects and clients' have alike, but for how a frame is sent.
local function add_common(methods, send_frame)
    methods.send_frame = send_frame

    function methods.set_timeout(self, time)
        local sock = self.sock
        if not sock then
            return nil, nil, "not initialized yet"
        end

        return sock:settimeout(time)
    end

    function methods.send_text(self, data)
        return send_frame(self, true, 0x1, data)
    end

    function methods.send_binary(self, data)
        return send_frame(self, true, 0x2, data)
    end

    function methods.send_ping(self, data)
        return send_frame(self, true, 0x9, data)
    end

    function methods.send_pong(self, data)
        return send_frame(self, true, 0xa, data)
    end
end


return {
    MIXED = MIXED, TIMEOUT = TIMEOUT, add_common = add_common, limit = limit, new_socket = new_socket,
    session_of = session_of,
}
