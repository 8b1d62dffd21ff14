-- The handlers behind nginx.conf in this folder, written as a lua-resty-websocket user would, with
-- nothing but its documented API. What a handler learned about its peer (a close code, an error)
-- goes to the shared dictionary under the id the client chose; /record tells it.

local server = require "resty.websocket.server"
local websocket = require "resty.websocket"

local records = ngx.shared.records
local LIMIT = 16 * 1024 * 1024
local opcodes = { continuation = 0x0, text = 0x1, binary = 0x2 }

local _M = {}


local function note(...)
    local id = ngx.var.arg_id
    if id then
        records:set(id, table.concat({ ... }, " "))
    end
end


-- Wraps a handler: handshake first, and /record's "running" counts the handlers under way.
local function session(opts, body)
    return function()
        local wb, err = server:new(opts)
        if not wb then
            ngx.status = 400
            return ngx.say(err)
        end

        records:incr("running", 1, 0)
        body(wb)
        records:incr("running", -1)
    end
end


-- Answers control frames; returns the next data frame, or nil once the connection is over.
local function next_data(wb)
    while true do
        local data, typ, err = wb:recv_frame()

        if not data then
            note("error:", err)
            return nil
        elseif typ == "close" then
            note("close:", err or "none", data)
            wb:send_close(err, data)
            return nil
        elseif typ == "ping" then
            wb:send_pong(data)
        elseif typ ~= "pong" then
            return data, typ, err == "again"
        end
    end
end


-- Whole messages come back, each in one frame.
_M.echo = session({ max_payload_len = LIMIT, timeout = 30000 }, function(wb)
    local parts, kind = {}, nil

    for data, typ, more in next_data, wb do
        kind = kind or typ
        parts[#parts + 1] = data

        if not more then
            if not wb:send_frame(true, opcodes[kind], table.concat(parts)) then
                return
            end
            parts, kind = {}, nil
        end
    end
end)


-- Frames come back as they are, fragments as fragments.
local function mirror(wb)
    for data, typ, more in next_data, wb do
        if not wb:send_frame(not more, opcodes[typ], data) then
            return
        end
    end
end

_M.frames = session({ max_payload_len = LIMIT, timeout = 30000 }, mirror)
_M.limited = session({ max_payload_len = 1000, timeout = 30000 }, mirror)


-- Pings whenever nothing was read for 50 ms, and goes on reading.
_M.patient = session({ timeout = 50 }, function(wb)
    while true do
        local data, typ, err = wb:recv_frame()

        if data and typ == "text" then
            wb:send_text(data)
        elseif typ == "close" then
            wb:send_close(err, data)
            return
        elseif not data then
            if not err:find(": timeout", 1, true) or not wb:send_ping("idle") then
                note("error:", err)
                return
            end
        end
    end
end)


-- Pings with ?payload= and tells the pong's payload as text.
_M.ping = session({ timeout = 30000 }, function(wb)
    wb:send_ping(ngx.unescape_uri(ngx.var.arg_payload or ""))

    while true do
        local data, typ, err = wb:recv_frame()

        if not data then
            return
        elseif typ == "pong" then
            wb:send_text("pong: " .. data)
        elseif typ == "close" then
            wb:send_close(err, data)
            return
        end
    end
end)


-- Sends ?n= binary messages of ?size= bytes without reading; each begins with its number.
_M.burst = session({ max_payload_len = LIMIT, timeout = 30000 }, function(wb)
    local rest = ("x"):rep(tonumber(ngx.var.arg_size) - 8)

    for n = 1, tonumber(ngx.var.arg_n) do
        local ok, err = wb:send_binary(("%08d"):format(n) .. rest)
        if not ok then
            note("error:", err)
            return
        end
    end

    next_data(wb)
end)


-- Closes with ?code= and ?reason=, then waits for the answer.
_M.close = session({ timeout = 30000 }, function(wb)
    wb:send_close(tonumber(ngx.var.arg_code), ngx.unescape_uri(ngx.var.arg_reason or ""))

    local data, typ, err = wb:recv_frame()
    if typ == "close" then
        note("close:", err or "none", data)
    else
        note("error:", err)
    end
end)


-- Takes "v2" of the subprotocols on offer, if it is there, and echoes.
local choosing = session({ timeout = 30000 }, mirror)

function _M.subprotocol()
    local offered = ngx.var.http_sec_websocket_protocol or ""
    if ("," .. offered:gsub("%s", "") .. ","):find(",v2,", 1, true) then
        ngx.req.set_header("Sec-WebSocket-Protocol", "v2")
    else
        ngx.req.clear_header("Sec-WebSocket-Protocol")
    end
    return choosing()
end


-- Echoes whole messages, compressed where the client offers it; the options of the query are those
-- of the "compression" table.
function _M.messages()
    local compression = ngx.req.get_uri_args()
    for name, value in pairs(compression) do
        compression[name] = tonumber(value) or value == "true"
    end
    local ws, _, status = websocket.accept{ compression = next(compression) and compression }
    if not ws then
        return ngx.exit(status)
    end
    for data, typ in ws:messages() do
        ws:send(data, typ)
    end
end


-- Bytes of compressed messages so far, before and after compression, over all workers.
function _M.counters()
    local bytes = websocket.info().compression_bytes
    ngx.print(bytes.before, " ", bytes.after)
end


function _M.record()
    ngx.print(records:get(ngx.var.arg_id) or "")
end


return _M
