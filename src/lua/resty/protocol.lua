-- resty.websocket.protocol: single frames on any object with receive() and send(). This shim does
-- the reading and writing, keeps a frame that a timeout interrupted, and nothing else: what the
-- bytes mean is the codec's.

local natives = ...

local frame_head = natives.frame_head
local frame_len = natives.frame_len
local frame_body = natives.frame_body
local frame_rest = natives.frame_rest
local offer_frame = natives.offer_frame
local read_ahead = natives.read_ahead
local taken_frame = natives.taken_frame
local native_build = natives.build_frame
local byte = string.byte
local concat = table.concat
local rawget = rawget
local rawset = rawset
local tostring = tostring
local type = type
local debug = ngx.config.debug
local ngx_log = ngx.log
local DEBUG = ngx.DEBUG

local ok, new_tab = pcall(require, "table.new")
if not ok then
    new_tab = function ()
        return {}
    end
end

local _M = { _VERSION = "0.13", new_tab = new_tab }

-- The fields of a frame in which a read can fail.
local HEAD = { text = "failed to receive the first 2 bytes: " }
local LENGTH = {
    [2] = { text = "failed to receive the 2 byte payload length: " },
    [8] = { text = "failed to receive the 8 byte payload length: " },
}
local BODY = { text = "failed to read masking-len and payload: " }


-- A frame that a read timeout interrupted is kept in its socket under this key, because a cosocket
-- hands out the bytes it has and forgets them: { field, size, head, connect, setkeepalive, have,
-- chunks... }. It goes with the socket, or when the socket gets another connection: until the frame
-- is taken up again, connect() is made to forget it first, and setkeepalive() refuses, as it does
-- when unread bytes are left in the socket's own buffer.
local KEY = {}


local function take_up(sock)
    local frame = rawget(sock, KEY)
    if frame then
        rawset(sock, KEY, nil)
        rawset(sock, "connect", frame.connect)
        rawset(sock, "setkeepalive", frame.setkeepalive)
    end
    return frame
end


local function connect_anew(sock, ...)
    take_up(sock)
    return sock:connect(...)
end


local function refuse_keepalive()
    return nil, "unread data in buffer"
end


local function keep(sock, frame)
    frame.connect = rawget(sock, "connect")
    frame.setkeepalive = rawget(sock, "setkeepalive")
    rawset(sock, KEY, frame)
    rawset(sock, "connect", connect_anew)
    rawset(sock, "setkeepalive", refuse_keepalive)
end


-- For the message calls of client objects: they must not begin inside a frame.
function natives.half_read(sock)
    return rawget(sock, KEY) ~= nil
end


-- Reads one field of a frame, or the rest of it if it is the one `frame` was interrupted in.
local function receive(sock, field, size, head, frame)
    local have = 0
    if frame then
        have = frame.have
    end

    local data, err, partial = sock:receive(size - have)
    if data then
        if have > 0 then
            frame[#frame + 1] = data
            data = concat(frame)
        end
        return data
    end

    if err == "timeout" and type(sock) == "table" then
        partial = partial or ""
        if head or have > 0 or partial ~= "" then
            frame = frame or { field = field, size = size, head = head, have = 0 }
            frame[#frame + 1] = partial
            frame.have = have + #partial
            keep(sock, frame)
        end
    end

    return nil, field.text .. (err or "unknown")
end


-- Set on a socket while it is worth reading its frames ahead: the last one was a large one.
local AHEAD = {}


-- Reads the rest of a large body: the cosocket gives what its buffer holds and waits, everything
-- else is read past it. `body` has what came already, `failed` is why no more did.
local function receive_large(sock, missing, head, body, failed)
    while true do
        local piece, err = sock:receiveany(missing)
        if not piece then
            if err == "timeout" and not failed then
                keep(sock, { field = BODY, size = missing, head = head, body = body, large = true })
            end
            return nil, nil, BODY.text .. (failed or err)
        end

        local data, typ
        data, typ, err, failed = frame_rest(sock, head, missing, piece, body)
        if data ~= false then
            rawset(sock, AHEAD, true)
            return data, typ, err
        end
        missing, body = typ, err
    end
end


local function log_mask_bit(head)
    ngx_log(DEBUG, "recv_frame: mask bit: ", byte(head, 2) >= 0x80 and 1 or 0)
end


function _M.recv_frame(sock, max_payload_len, force_masking)
    local frame = type(sock) == "table" and take_up(sock) or nil
    local head, field, err
    if frame then
        head, field = frame.head, frame.field
    end

    if not head then
        local ahead = not frame and type(sock) == "table" and rawget(sock, AHEAD)
                      and read_ahead(sock, max_payload_len, force_masking)
        head, err = receive(sock, HEAD, 2, nil, frame)
        if ahead then
            local data, typ, more, failed = taken_frame(sock, head)
            if data ~= nil and debug then
                log_mask_bit(head)
            end
            if data then
                return data, typ, more
            elseif data == false then
                return receive_large(sock, typ, head, more, failed)
            end
            rawset(sock, AHEAD, nil)
        end
        if not head then
            return nil, nil, err
        end
        frame, field = nil, nil
    end

    local rest, large
    if field == BODY then
        rest, large = frame.size, frame.large

    else
        local size
        if not field then
            rest, err = frame_head(head, force_masking, max_payload_len)
            if debug and (rest ~= nil or err == "frame unmasked") then
                log_mask_bit(head)
            end
            if rest == nil then
                return nil, nil, err
            end
            if rest == false then
                size = err
            end

        else
            size = frame.size
        end

        if size then
            local length
            length, err = receive(sock, LENGTH[size], size, head, frame)
            if not length then
                return nil, nil, err
            end
            frame = nil

            rest, large = frame_len(head, length, max_payload_len, sock)
            if not rest then
                return nil, nil, large
            end
        end
    end

    if large then
        return receive_large(sock, rest, head, frame and frame.body)
    end

    local body = ""
    if rest > 0 then
        body, err = receive(sock, BODY, rest, head, frame)
        if not body then
            return nil, nil, err
        end
    end

    local data, typ
    data, typ, err = frame_body(head, body)
    return data, typ, err
end


-- One value when all is well: the frame may stand last in a call's arguments.
function _M.build_frame(fin, opcode, payload_len, payload, masking)
    local frame, err = native_build(fin, opcode, payload_len, payload, masking)
    if not frame then
        return nil, err
    end
    return frame
end


function _M.send_frame(sock, fin, opcode, payload, max_payload_len, masking)
    if type(payload) ~= "string" then
        payload = payload and tostring(payload) or ""
    end

    local bytes, err, sent, failed = offer_frame(sock, fin, opcode, payload, max_payload_len,
                                                 masking)
    if not bytes then
        return nil, err
    elseif bytes > 0 then
        return bytes
    end

    bytes, err = sock:send(err)
    if not bytes then
        return nil, "failed to send frame: " .. (failed or err or "unknown")
    end
    return sent == 0 and bytes or sent + bytes
end


return _M
