-- websocket: a peer, which reads and writes frames over a cosocket or a connection of a port opened
-- from Lua. This shim keeps each call within its time, in seconds; frames, their rules and the answers
-- to them are the natives'. Made by websocket.lua.

local natives, vm = ...

local opening = vm.module("websocket.opening")
local socket = vm.module("websocket.socket")
local frame = vm.module("websocket.frame")

local check_open = opening.check_open
local left_of = opening.left_of
local shake_hands = opening.shake_hands
local await_room = socket.await_room
local receive_some = socket.receive_some
local send_all = socket.send_all
local strerror = socket.strerror
local carry = vm.module("resty.websocket.carry")
local wait = vm.module("resty.websocket.wait")

local carried = vm.natives.carried
local carry_bytes = carry.carry
local is_sending = carry.is_sending
local push_bytes = carry.push
local native_next = natives.framed_next
local native_output = carried.output
local native_state = natives.framed_state
local park = wait.park
local wake = wait.wake
local error = error
local min = math.min
local now = ngx.now
local rawset = rawset
local tostring = tostring
local type = type

-- How long a peer may take to answer a close frame, where the program does not say.
local CLOSE_TIMEOUT = 3
local OVER_LIMIT = "Payload size limit reached"

local wspeer = {
    TEXT = frame.TEXT,
    BINARY = frame.BINARY,
    check_handshake = opening.check_handshake,
    check_client_handshake = opening.check_client_handshake,
}
wspeer.__index = wspeer


function wspeer.__newindex()
    error("Attempt to modify read-only wspeer properties", 2)
end


local function send_until(peer, bytes, deadline)
    return send_all(peer, bytes, left_of(deadline))
end


-- Sends what is queued: true | nil, err. A connection of a port takes bytes in order, whoever brings
-- them; readers must not wait for it.
local function push(self, deadline, reads)
    local codec, peer = self.own.codec, self.peer
    if peer.own.accepted then
        local out = native_output(codec)
        if out then
            local ok, err
            if reads then
                ok, err = peer.sock:queue(out)
            else
                ok, err = send_all(peer, out, left_of(deadline))
            end
            if not ok then
                return nil, err
            end
        end
        return true
    end

    return push_bytes(self.own, codec, peer.sock, send_until, peer, deadline)
end


-- Waits until no other light thread sends: true | nil, err. A connection of a port takes bytes of all.
local function await_sender(self, deadline)
    local own, peer = self.own, self.peer
    while not peer.own.accepted and is_sending(own, own.codec, peer.sock) do
        local woken, err = park(own, "writers", min(left_of(deadline) or 1, 1))
        if woken == nil then
            return nil, err
        elseif deadline and now() >= deadline then
            return nil, "timeout"
        end
    end
    return true
end


-- Pings -----------------------------------------------------------------------------------------

local function has_pong(self)
    local own = self.own
    local pongs = native_state(own.codec)
    if pongs > own.pongs then
        own.pongs = pongs
        rawset(self, "ping_sended", false)
    end
    return not self.ping_sended
end


-- A program that only writes has its pongs noticed too: what lies there is taken into frames, which
-- stay for read(). Somebody who reads, or frames that nobody takes, stand in for a pong.
local function look_for_pong(self)
    local codec = self.own.codec
    while not has_pong(self) do
        local _, full, over = native_state(codec)
        if full or over then
            return full
        end
        local data, err = receive_some(self.peer, 0)
        if not data then
            return err:find("busy", 1, true) ~= nil
        end
        carried.feed(codec, data)
    end
    return true
end


-- Pings where it is time: true | nil, err.
function wspeer.check_ping_pong(self, timeout)
    check_open(self)
    local freq, own = self.ping_freq, self.own
    if not freq or not own.codec then
        return true
    end
    local last = self.last_ping_sended
    if last and now() - last < freq then
        return true
    end
    if last and not has_pong(self) and not look_for_pong(self) then
        self:shutdown(1000, "pong timeout", 0)
        return nil, "Pong timeout"
    end
    rawset(self, "last_ping_sended", now())
    rawset(self, "ping_sended", true)
    natives.framed_ping(own.codec)
    if not push(self, timeout and now() + timeout, true) then
        return nil, "Connection write error"
    end
    return true
end


-- Frames ----------------------------------------------------------------------------------------

-- Nothing more comes, for the reason `why`. The first to notice ends the connection.
local function ended(self, why)
    local own = self.own
    local told = own.told
    own.told = true
    if told or why == "lost" then
        return {}
    end
    rawset(self, "close_received", why == "closed")
    rawset(self, "close_sended", true)
    rawset(self, "closed_by_me", why ~= "closed")
    push(self, now() + CLOSE_TIMEOUT, true)
    self.peer:shutdown()
    wake(own, "closers")
    if why == "limit" then
        return nil, OVER_LIMIT
    end
    return nil, why == "closed" and "Close handshaked" or "Validation error"
end


-- Brings bytes to read(), and pings where that is due meanwhile.
local function receive(self, ms)
    local own, freq, seconds = self.own, self.ping_freq, ms / 1000
    if freq then
        seconds = min(seconds, self.last_ping_sended + freq - now())
    end
    local data, err = receive_some(self.peer, seconds)
    if not data and err ~= "closed" then
        own.failure = strerror(err)
    end
    return data, err
end


local function take(self, _, deadline)
    local own = self.own
    local opcode, fin, data = native_next(own.codec)
    deadline = deadline and deadline / 1000
    push(self, deadline, true)
    if type(opcode) == "number" then
        rawset(self, "last_opcode", not fin and (opcode ~= 0 and opcode or self.last_opcode)
                                    or nil)
        return { opcode = opcode, fin = fin, data = data, rsv = 0 }
    elseif opcode == "lost" and own.failure then
        local failure = own.failure
        own.failure = nil
        return nil, failure
    elseif opcode then
        return ended(self, opcode)
    end
    own.failure = nil
    local ok, err = self:check_ping_pong(left_of(deadline))
    if not ok then
        return nil, err
    end
end


-- The next data frame { opcode, fin, data, rsv } | {} at the end of the stream | nil, err
function wspeer.read(self, timeout)
    check_open(self)
    local deadline = timeout and now() + timeout
    local ok, err = shake_hands(self, deadline)
    if not ok then
        return nil, err
    end
    local got, failure = carry_bytes(self, self.own.codec, take, receive,
                                     deadline and deadline * 1000)
    wake(self.own, "closers")
    if failure == OVER_LIMIT then
        error(failure, 2)
    elseif failure == "timeout" or failure == carry.BUSY or failure == wait.CANNOT_WAIT then
        failure = strerror(failure)
    end
    if not got then
        return nil, failure
    end
    return got
end


-- Sends a string as text, or a frame { opcode, fin, data }: bytes on the wire | nil, err
function wspeer.write(self, data, timeout)
    check_open(self)
    local opcode, fin = frame.TEXT, true
    if type(data) == "table" then
        opcode, fin, data = data.opcode, data.fin ~= false, data.data
    elseif type(data) ~= "string" then
        error("bad argument #1 to 'write' (string or frame expected, got " .. type(data) .. ")", 2)
    end
    if opcode ~= 0 and opcode ~= frame.TEXT and opcode ~= frame.BINARY then
        return nil, "You can send only text or binary frame"
    end
    if data ~= nil and type(data) ~= "string" then
        error("bad frame data (string expected, got " .. type(data) .. ")", 2)
    end
    local deadline = timeout and now() + timeout
    local ok, err = shake_hands(self, deadline)
    if not ok then
        return nil, err
    end
    ok, err = self:check_ping_pong(left_of(deadline))
    if not ok then
        return nil, err
    end
    local codec = self.own.codec
    local _, _, _, closing = native_state(codec)
    if closing then
        return nil, "Broken pipe"
    end
    -- Before anything is queued: of a frame that has no room in time nothing is sent later.
    ok, err = await_sender(self, deadline)
    if ok then
        ok, err = await_room(self.peer, left_of(deadline))
    end
    if not ok then
        return nil, strerror(err)
    end
    local bytes = natives.framed_send(codec, fin, opcode, data)
    if not bytes then
        return nil, "Broken pipe"
    end
    ok, err = push(self, deadline, self.peer.own.accepted)
    if not ok then
        return nil, strerror(err)
    end
    return bytes
end


-- Whether a frame may come now, by the frames validated before: true | false, { code, message }
function wspeer.validate(self, fr)
    local own = self.own
    own.judge = own.judge or natives.framed_rules()
    local code, message = natives.framed_judge(own.judge, fr.opcode, fr.fin ~= false, fr.rsv,
                                               fr.data)
    if code then
        return false, { code = code, message = message }
    end
    return true
end


-- Reads on until the peer's close frame, or the end of the time it has: what comes before is dropped.
local function drop(self)
    local kind
    repeat
        kind = native_next(self.own.codec)
    until type(kind) ~= "number"
    push(self, now() + CLOSE_TIMEOUT, true)
    return kind
end


local function read_on(self, ms)
    return receive_some(self.peer, ms / 1000)
end


-- Until the peer's close frame, or the end of its time.
local function await_close(self, deadline)
    local own = self.own
    local kind, err
    repeat
        kind, err = carry_bytes(self, own.codec, drop, read_on)
        -- Until the light thread in read() has found it, or reads no more.
    until err ~= carry.BUSY or not park(own, "closers", deadline - now())
    if kind then
        rawset(self, "close_received", kind == "closed")
    end
end


-- Closes with a close frame, waits for the peer's and ends the connection: true | nil, err
function wspeer.shutdown(self, code, reason, timeout)
    check_open(self)
    if code ~= nil and (type(code) ~= "number" or code < 0 or code > 65535) then
        error("bad argument #1 to 'shutdown' (close code expected)", 2)
    end
    local own = self.own
    timeout = timeout or CLOSE_TIMEOUT
    if own.codec and not own.told then
        local deadline = now() + timeout
        local ok, err = await_sender(self, deadline)
        carried.close(own.codec, code, reason and tostring(reason), timeout * 1000)
        rawset(self, "close_sended", true)
        rawset(self, "closed_by_me", not self.close_received)
        if ok then
            ok, err = push(self, deadline)
        end
        if not ok then
            carried.lost(own.codec)
            own.told = true
            self.peer:shutdown()
            return nil, strerror(err)
        end
        await_close(self, deadline)
        carried.lost(own.codec)
        own.told = true
    end
    self.peer:shutdown()
    return true
end


-- Closes the socket at once.
function wspeer.close(self)
    local own = self.own
    if own.codec then
        carried.lost(own.codec)
    end
    self.peer:close()
end


-- The text of the last socket error, or nil.
function wspeer.error(self)
    check_open(self)
    return self.peer:error()
end


-- Its number; 0 where there was none.
function wspeer.errno(self)
    check_open(self)
    return self.peer:errno()
end


return wspeer
