-- What the objects of websocket.accept() and websocket.connect() answer alike, and the checks of
-- arguments which their own methods share. Misuse is an error at the user's call.

local natives, vm = ...

local fast = vm.module("resty.websocket.fast")
local raw = vm.module("resty.websocket.raw")
local fast_send = fast.send_message
local fast_send_lent = fast.send_lent
local is_raw = raw.is_raw
local raw_to_string = raw.to_string
local MAX_TIMEOUT = vm.module("resty.websocket.wait").MAX_TIMEOUT
local native_send = natives.send
local native_control = natives.control
local error = error
local setmetatable = setmetatable
local tostring = tostring
local type = type

local PING, PONG = 0x9, 0xa
local CLOSE_TIMEOUT = 3000


local function check_time_argument(name, value, level)
    if value ~= nil and (type(value) ~= "number" or not (value >= 0) or value > MAX_TIMEOUT) then
        error('bad "' .. name .. '" argument: milliseconds expected', level or 3)
    end
end


local function check_data(name, data, level)
    if is_raw(data) then
        return raw_to_string(data, level)
    end
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
    check_time_argument("timeout", timeout, 4)
    return code, reason, timeout or CLOSE_TIMEOUT
end


-- Methods that are the same on both sides but for how queued bytes leave. `session_of` gives the
-- native part of an object; a drop-in object may have none yet.
local function add_common(methods, send, session_of)
    function methods.send(self, data, typ)
        local text = check_type(typ)
        local session = self.session or session_of(self)
        if type(data) == "string" then
            local bytes = fast_send(session, text, data, #data)
            if bytes > 0 then
                return bytes
            end
        else
            if is_raw(data) then
                local bytes = fast_send_lent(session, text, data.number)
                if bytes > 0 then
                    return bytes
                end
            end
            data = check_data("data", data)
        end
        return send(self, native_send, session, data, text)
    end

    function methods.ping(self, data)
        return send(self, native_control, session_of(self), PING, check_control(data))
    end

    function methods.pong(self, data)
        return send(self, native_control, session_of(self), PONG, check_control(data))
    end

    local stream = {}
    local stream_mt = { __index = stream }

    function methods.send_stream(self, typ)
        local text = check_type(typ)
        local ok, err = send(self, natives.stream_open, session_of(self), text)
        if not ok then
            return nil, err
        end
        return setmetatable({ ws = self }, stream_mt)
    end

    -- A finished writer must not write into the stream that another opened after it.
    function stream.write(self, chunk)
        chunk = check_data("chunk", chunk)
        if self.finished then
            return nil, "stream finished"
        end
        local ws = self.ws
        return send(ws, natives.stream_write, session_of(ws), chunk)
    end

    function stream.finish(self)
        if self.finished then
            return nil, "stream finished"
        end
        local ws = self.ws
        local bytes, err = send(ws, natives.stream_finish, session_of(ws))
        self.finished = bytes ~= nil
        return bytes, err
    end

    local function message_after_timeout(self)
        local data, typ
        repeat
            data, typ = self:recv()
        until data or typ ~= "timeout"
        return data, typ
    end

    -- Without a loop of its own, it becomes part of the caller's trace.
    local function next_message(self)
        local data, typ = self:recv()
        if data or typ ~= "timeout" then
            return data, typ
        end
        return message_after_timeout(self)
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


return {
    add_common = add_common, check_time = check_time_argument, check_data = check_data,
    check_type = check_type, check_close = check_close,
}
