-- resty.websocket.protocol: single frames on any object with receive() and send(). This shim does
-- the reading and writing, keeps with its socket what a time-out has left half read, and nothing else:
-- how much is to be read, and what it means, is the natives' business.

local natives = ...

local ahead_over = natives.ahead_over
local frame_keep = natives.frame_keep
local frame_missing = natives.frame_missing
local frame_next = natives.frame_next
local frame_reader = natives.frame_reader
local frame_stage = natives.frame_stage
local offer_frame = natives.offer_frame
local read_ahead = natives.read_ahead
local native_build = natives.build_frame
local byte = string.byte
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

-- A frame that a read timeout interrupted is kept in its socket under this key, because a cosocket
-- hands out the bytes it has and forgets them: { reader, connect, setkeepalive }. It goes with the
-- socket, or when the socket gets another connection: until the frame is taken up again, connect() is
-- made to forget it first, and setkeepalive() refuses, as it does when unread bytes are left in the
-- socket's own buffer.
local KEY = {}


local function take_up(sock)
    local kept = rawget(sock, KEY)
    if kept then
        rawset(sock, KEY, nil)
        rawset(sock, "connect", kept.connect)
        rawset(sock, "setkeepalive", kept.setkeepalive)
        return kept.reader
    end
end


local function connect_anew(sock, ...)
    take_up(sock)
    return sock:connect(...)
end


local function refuse_keepalive()
    return nil, "unread data in buffer"
end


local function keep(sock, reader)
    rawset(sock, KEY, {
        reader = reader, connect = rawget(sock, "connect"),
        setkeepalive = rawget(sock, "setkeepalive"),
    })
    rawset(sock, "connect", connect_anew)
    rawset(sock, "setkeepalive", refuse_keepalive)
end


-- For the message calls of client objects: they must not begin inside a frame.
function natives.half_read(sock)
    return rawget(sock, KEY) ~= nil
end


-- Set on a socket while it is worth reading its frames ahead: the last one was a large one.
local AHEAD = {}

local FIRST = "failed to receive the first 2 bytes"

-- A reader that is between two frames, for the next who needs one.
local spare


local function new_reader()
    local reader = spare or frame_reader()
    spare = nil
    return reader
end


function _M.recv_frame(sock, max_payload_len, force_masking)
    local can_keep = type(sock) == "table"
    local reader = can_keep and take_up(sock) or nil
    local want, any, failed, ahead = 2, nil, nil, nil
    -- Whether this piece ends with the second byte of the frame.
    local first = not reader or frame_stage(reader) == FIRST
    if reader then
        want, any = frame_missing(reader, sock)
    elseif can_keep and rawget(sock, AHEAD) then
        rawset(sock, AHEAD, nil)
        ahead = read_ahead(sock, max_payload_len, force_masking)
    end

    while true do
        local piece, err, partial
        if any then
            piece, err = sock:receiveany(want)
        else
            piece, err, partial = sock:receive(want)
        end
        if not piece then
            if ahead then
                ahead_over(sock)
            end
            local what = reader and frame_stage(reader) or FIRST
            if err == "timeout" and can_keep and not failed
               and (reader or partial and partial ~= "")
            then
                reader = reader or new_reader()
                if frame_keep(reader, partial) then
                    keep(sock, reader)
                end
            end
            return nil, nil, what .. ": " .. (failed or err or "unknown")
        end

        reader = reader or new_reader()
        local data, typ, more, large = frame_next(reader, piece, max_payload_len, force_masking, sock,
                                                  any, ahead)
        if debug and first and (data ~= nil or more == "frame unmasked") then
            ngx_log(DEBUG, "recv_frame: mask bit: ", byte(piece, #piece) >= 0x80 and 1 or 0)
        end
        if type(data) ~= "number" then
            spare = reader
            if large then
                rawset(sock, AHEAD, true)
            end
            return data, typ, more
        end
        want, any, failed, first, ahead = data, typ, more, nil, nil
    end
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
