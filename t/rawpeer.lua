-- The server's side of the client tests: a request handler that takes its connection as a raw
-- socket and then sends and reads bytes as the test says, and what handlers of one worker share:
-- events to wait for, instead of sleeping, and a way to say values. Used through t/Client.pm.

local ffi = require "ffi"
local semaphore = require "ngx.semaphore"
local accept_of = require("t.peer").accept_of

local byte = string.byte
local _M = {}

local running = 0
local failure
local events = {}


local function event(name)
    events[name] = events[name] or semaphore.new()
    return events[name]
end


function _M.post(name)
    event(name):post()
end


function _M.wait(name)
    local ok, err = event(name):wait(20)
    if not ok then
        error("waiting for " .. name .. ": " .. err, 2)
    end
end


-- The raw socket of this request. Its head is in `head`.
function _M.enter()
    running = running + 1
    _M.head = ngx.req.raw_header()
    local sock = assert(ngx.req.socket(true))
    sock:settimeout(20000)
    return sock
end


function _M.leave(ok, err)
    running = running - 1
    failure = failure or not ok and err
    _M.post("left")
end


function _M.await_servers()
    while running > 0 do
        _M.wait("left")
    end
    if failure then
        local text = failure
        failure = nil
        error("server: " .. text)
    end
end


-- Answers the opening handshake.
function _M.accept(sock, more)
    local key = _M.head:match("Sec%-WebSocket%-Key: ([^\r]*)")
    assert(sock:send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                     .. "Connection: Upgrade\r\nSec-WebSocket-Accept: " .. accept_of(key) .. "\r\n\r\n"
                     .. (more or "")))
end


-- The next frame: first byte, payload (unmasked), masking key or nil. nil and the error at the end.
function _M.receive(sock)
    local head, err = sock:receive(2)
    if not head then
        return nil, err
    end
    local first, len = byte(head, 1, 2)
    local masked = len >= 128
    len = len % 128
    if len > 125 then
        local digits = assert(sock:receive(len == 126 and 2 or 8))
        len = 0
        for i = 1, #digits do
            len = len * 256 + byte(digits, i)
        end
    end
    local key = masked and assert(sock:receive(4)) or nil
    local payload = len > 0 and assert(sock:receive(len)) or ""
    return first, key and _M.mask(key, payload) or payload, key
end


-- A payload of which no part looks like another, nor like one of another seed.
function _M.noise(len, seed)
    local words, state = ffi.new("uint32_t[?]", math.ceil(len / 4)), seed or 1
    for i = 0, math.ceil(len / 4) - 1 do
        state = (state * 1664525 + 1013904223) % 4294967296
        words[i] = state
    end
    return ffi.string(words, len)
end


-- The header of an unmasked frame with a payload of `len` bytes.
function _M.frame_head(len, first)
    first = first or "\x82"
    if len < 126 then
        return first .. string.char(len)
    end
    local digits = {}
    for i = len < 65536 and 2 or 8, 1, -1 do
        digits[i] = string.char(len % 256)
        len = math.floor(len / 256)
    end
    return first .. string.char(#digits == 2 and 126 or 127) .. table.concat(digits)
end


-- Four bytes at a time, so that a megabyte is no matter under valgrind either.
function _M.mask(key, payload)
    local words = math.ceil(#payload / 4)
    local data = ffi.new("int32_t[?]", words + 1)
    ffi.copy(data, payload, #payload)
    ffi.copy(data + words, key, 4)
    local mask = data[words]
    for i = 0, words - 1 do
        data[i] = bit.bxor(data[i], mask)
    end
    return ffi.string(data, #payload)
end


-- Everything until the peer closes.
function _M.drain(sock)
    repeat
        local data = sock:receiveany(65536)
    until not data
end


local function brief(value)
    if type(value) ~= "string" then
        return tostring(value)
    end
    if #value > 250 then
        return #value .. " bytes " .. ngx.md5(value)
    end
    return '"' .. value:gsub("[^\32-\126]", function (c)
        return ("\\x%02x"):format(byte(c))
    end) .. '"'
end


-- One line of values; strings in quotes.
function _M.line(...)
    local out = {}
    for i = 1, select("#", ...) do
        out[i] = brief((select(i, ...)))
    end
    return table.concat(out, " ")
end


function _M.say(...)
    ngx.say(_M.line(...))
end


-- What a call raises, without its position, which has to be in this file's caller.
function _M.raised(...)
    local ok, err = pcall(...)
    if ok then
        return "not raised", err
    end
    return (tostring(err):gsub("^content_by_lua%b():%d+: ", "here: "))
end


-- An object with receive() and send(): hands out what is in `script`, an entry a call: a string,
-- or { err, partial }. Notes how many bytes were asked for, and what was sent.
function _M.mock(...)
    local mock = { script = { ... }, asked = {}, sent = {} }
    function mock:receive(n)
        self.asked[#self.asked + 1] = n
        local entry = table.remove(self.script, 1)
        if type(entry) == "table" then
            return nil, entry[1], entry[2]
        end
        assert(entry == nil or #entry == n, "the script has another length")
        return entry
    end
    function mock:send(data)
        self.sent[#self.sent + 1] = data
        if self.send_error then
            return nil, self.send_error
        end
        return #data
    end
    return mock
end


return _M
