-- websocket.frame: frames by themselves, as tarantool/websocket has them.

local natives, vm = ...

local socket = vm.module("websocket.socket")

local char = string.char
local error = error
local now = ngx.now
local sub = string.sub
local tonumber = tonumber
local type = type

local _M = {
    CONTINUATION = 0,
    TEXT = 1,
    BINARY = 2,
    CLOSE = 8,
    PING = 9,
    PONG = 10,
}


-- A frame's bytes; `fin` is true unless it is false.
function _M.encode(data, opcode, masked, fin)
    data = data or ""
    if type(data) ~= "string" then
        error("bad argument #1 to 'encode' (string expected, got " .. type(data) .. ")", 2)
    end
    -- Not as a tail call: misuse is told to whom this returns.
    local bytes, err = vm.natives.resty.build_frame(fin ~= false, opcode or _M.TEXT, #data, data, masked)
    if not bytes then
        return nil, err
    end
    return bytes
end


-- What is left of `timeout` seconds that began at `start`; nil stays nil.
function _M.slice_wait(timeout, start)
    return timeout and timeout - (now() - start)
end


-- Reads one frame: { opcode, fin, data, rsv } | {} at the end of the stream | nil, err. What came
-- beyond it, or of a frame that is not whole yet, stays with the socket.
function _M.decode_from(sock, timeout)
    local peer = socket.wrap(sock)
    local own, start = peer.own, now()
    local bytes = ""
    while true do
        local data, opcode, fin, rsv = natives.frame_decode(bytes)
        if type(data) == "string" then
            return { opcode = opcode, fin = fin, data = data, rsv = rsv }
        elseif not data then
            return nil, opcode
        end
        local more, err
        while #bytes < data do
            more, err = socket.receive_some(peer, _M.slice_wait(timeout, start))
            if not more then
                break
            end
            local missing = data - #bytes
            bytes = bytes .. sub(more, 1, missing)
            own.buffer = sub(more, missing + 1) .. own.buffer
        end
        if #bytes < data then
            if err == "closed" then
                return {}
            end
            own.buffer = bytes .. own.buffer
            return nil, socket.strerror(err)
        end
    end
end


-- A close frame's payload; without a code it is empty.
function _M.encode_close(code, reason)
    if not code then
        return ""
    end
    local number = tonumber(code)
    if not number or number < 0 or number > 65535 then
        error("bad argument #1 to 'encode_close' (close code expected)", 2)
    end
    local payload = natives.close_payload(number, reason)
    return payload
end


-- code | nil, reason | nil
function _M.decode_close(data)
    return natives.close_read(data)
end


-- The first `len` bytes of `data`, masked or unmasked by four bytes in a table.
function _M.xor_mask(data, mask, len)
    return natives.frame_mask(sub(data, 1, len), char(mask[1], mask[2], mask[3], mask[4]))
end


return _M
