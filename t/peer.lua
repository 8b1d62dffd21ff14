-- The other side for .t files: a raw TCP client on a cosocket that performs the opening handshake
-- and then sends and receives bytes as it is told, and what handler and client share because one
-- worker runs both: report() and the wait for handlers to end. Used by blocks with a `client`
-- section (see t/Wire.pm), as `peer`.

local semaphore = require "ngx.semaphore"

local byte = string.byte

local _M = {}
local peer = { __index = _M }

local HEAD = "GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             .. "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n"

-- How long is waited for what must come, in seconds: a busy machine with valgrind takes its time.
local PATIENCE = 60

local running = 0
local ended = semaphore.new()


-- The answer to a client's key (RFC 6455 4.2.2).
function _M.accept_of(key)
    return ngx.encode_base64(ngx.sha1_bin(key .. "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
end


-- A handler begins and ends. One that raises an error or leaves by ngx.exit never ends here.
function _M.enter()
    running = running + 1
end


function _M.leave()
    running = running - 1
    ended:post()
end


function _M.await_handlers()
    while running > 0 do
        if not ended:wait(PATIENCE) then
            running = 0
            error("a handler did not end")
        end
    end
end


-- A value in the form of t::Wire::brief.
local function brief(value)
    if type(value) ~= "string" then
        return tostring(value)
    end
    if #value <= 80 and not value:find("[^\32-\126]") then
        return '"' .. value .. '"'
    end
    return #value .. " bytes " .. ngx.md5(value)
end


local function line(...)
    local out = {}
    for i = 1, select("#", ...) do
        out[i] = brief((select(i, ...)))
    end
    return table.concat(out, " ")
end


-- Without the nils at the end, which say no more than that there is nothing.
function _M.trimmed(...)
    local n = select("#", ...)
    while n > 1 and (select(n, ...)) == nil do
        n = n - 1
    end
    return unpack({ ... }, 1, n)
end


-- A log line for the `results` section.
function _M.report(...)
    ngx.log(ngx.INFO, "result: ", line(...))
end


function _M.say(...)
    ngx.say(line(...))
end


-- What server:new() does in a phase that may not allow it, as a log line and as a result.
function _M.attempt(where)
    local ok, wb, err = pcall(function ()
        return require("resty.websocket.server"):new()
    end)
    local text
    if ok then
        text = where .. ": returned " .. tostring(wb) .. " " .. tostring(err)
    else
        text = where .. ": raised " .. tostring(wb):gsub("^[^:]*:%d+: ", "")
    end
    ngx.log(ngx.INFO, text)
    return text
end


-- Connects and upgrades. `rest` is sent together with the request head. A socket of an address
-- other than the running server's own is given as "unix:...". `lines` are further header lines,
-- each with its end.
function _M.connect(rest, path, address, lines)
    local sock = ngx.socket.tcp()
    sock:settimeout(PATIENCE * 1000)
    if address then
        assert(sock:connect(address))
    else
        assert(sock:connect(ngx.var.server_addr, tonumber(ngx.var.server_port)))
    end
    local self = setmetatable({ sock = sock }, peer)
    self:send(HEAD:format(path or "/ws", lines or "") .. (rest or ""))
    self.head = assert(sock:receiveuntil("\r\n\r\n"))()
    return self
end


function _M.send(self, data)
    return assert(self.sock:send(data))
end


-- A client's frame: first byte and payload, the latter masked with a key of zeros, which leaves
-- it readable in the tests.
function _M.frame(first, payload)
    local len = #payload
    local head
    if len < 126 then
        head = string.char(first, 0x80 + len)
    elseif len < 65536 then
        head = string.char(first, 0x80 + 126, math.floor(len / 256), len % 256)
    else
        head = string.char(first, 0x80 + 127, 0, 0, 0, 0, math.floor(len / 2 ^ 24) % 256,
                           math.floor(len / 2 ^ 16) % 256, math.floor(len / 256) % 256, len % 256)
    end
    return head .. "\0\0\0\0" .. payload
end


-- What a masked frame holds, and its key; its header without mask and key must be `head`.
function _M.unmask(frame, head)
    local masked = head:sub(1, 1) .. string.char(byte(head, 2) + 128) .. head:sub(3)
    assert(frame:sub(1, #head) == masked, "another header")
    local key = frame:sub(#head + 1, #head + 4)
    local out = {}
    for i = 1, #frame - #head - 4 do
        out[i] = string.char(bit.bxor(byte(frame, #head + 4 + i), byte(key, (i - 1) % 4 + 1)))
    end
    return table.concat(out), key
end


-- The next frame of the server: first byte and payload; nil and the error if there is none.
function _M.receive(self)
    local sock = self.sock
    local head, err = sock:receive(2)
    if not head then
        return nil, err
    end
    local first, len = byte(head, 1, 2)
    assert(len < 128, "the server masked a frame")
    if len == 126 then
        local a, b = byte(assert(sock:receive(2)), 1, 2)
        len = a * 256 + b
    elseif len == 127 then
        len = 0
        for _, digit in ipairs({ byte(assert(sock:receive(8)), 1, 8) }) do
            len = len * 256 + digit
        end
    end
    return first, len > 0 and assert(sock:receive(len)) or ""
end


-- What is left is a close frame: its code and reason, and what `rest` returns behind it.
function _M.receive_close(self)
    local first, payload = self:receive()
    assert(first == 0x88, "no close frame")
    local high, low = byte(payload, 1, 2)
    return high * 256 + low, payload:sub(3), self:rest()
end


-- Reads what is left and returns it together with how the connection ended.
function _M.rest(self)
    local data, err, partial = self.sock:receive("*a")
    return data or partial, err or "closed"
end


function _M.close(self)
    self.sock:close()
end


return _M
