-- Carries bytes between a connection's native part and the socket they come by: the one loop of all
-- who receive over a cosocket, or over a connection of a port opened from Lua, and of all who send over a
-- cosocket. When something is due, and for how long a peer is waited for, say the natives.

local natives, vm = ...

local wait = vm.module("resty.websocket.wait")

local can_wait = wait.can_wait
local wake = wait.wake
local native_beat = natives.beat
local native_feed = natives.feed
local native_lost = natives.lost
local native_offer = natives.offer
local native_output = natives.output
local error = error
local find = string.find
local max = math.max
local min = math.min
local ngx = ngx
local now = ngx.now
local pcall = pcall

-- What one read is to bring at most.
local READ_SIZE = 65536
local MAX_TIMEOUT = wait.MAX_TIMEOUT
local _, CANNOT_WAIT, BUSY = vm.natives.vm.texts()


-- Until look(owner, due, deadline) returns something, which is returned: it takes what has come, and
-- sends what that has queued. `due` are the milliseconds until the connection wants to be asked again,
-- nil if never; `deadline` is on ngx.now()'s clock, in milliseconds, nil: as long as it takes.
-- read(owner, ms) brings bytes | nil, err; and the cosocket, if what it has not read yet may be read
-- past it. nil, "timeout" when the time is over, nil, BUSY where another light thread reads, nil,
-- CANNOT_WAIT where the caller would have to.
local function carry(owner, session, look, read, deadline)
    local has_read = false
    while true do
        local due = native_beat(session, not has_read)
        local first, second, third, fourth = look(owner, due, deadline)
        if first ~= nil or second ~= nil then
            return first, second, third, fourth
        end

        local left = deadline and deadline - now() * 1000 or MAX_TIMEOUT
        if left <= 0 and has_read then
            return nil, "timeout"
        elseif not can_wait() then
            return nil, CANNOT_WAIT
        end
        has_read = true
        local bytes, err, sock = read(owner, max(1, min(left, due or left, MAX_TIMEOUT)))
        if bytes then
            native_feed(session, bytes, sock, READ_SIZE)
        elseif err == "timeout" then
            ngx.update_time()
        elseif find(err, "busy", 1, true) then
            return nil, BUSY
        else
            native_lost(session)
        end
    end
end


-- A raw request socket is asked in another way than a cosocket.
local function is_connected(sock)
    if sock.getreusedtimes then
        return sock:getreusedtimes() ~= nil
    end
    local sent, err = sock:send("")
    return sent ~= nil or find(err, "busy", 1, true) ~= nil
end


-- Whether a light thread is sending what is queued; what others queue meanwhile goes with it. `owner`
-- keeps that, and the place "writers". One that was killed has taken the cosocket along (ngx_lua sees to
-- that), and what it had of a frame: then the connection is lost.
local function is_sending(owner, session, sock)
    if owner.sending and not is_connected(sock) then
        owner.sending = nil
        native_lost(session)
        wake(owner, "writers")
    end
    return owner.sending
end


-- Sends what is queued by send(to, bytes, deadline), unless another light thread does: true | nil, err.
-- Where the caller cannot wait the rest of it leaves with the next call. Raises what `send` raises.
local function push(owner, session, sock, send, to, deadline)
    if is_sending(owner, session, sock) then
        return true
    end
    local left, writable, failed = native_offer(session, sock)
    if not left then
        return true
    end
    -- A cosocket's send yields as it likes, and has noted who is to be woken before that fails.
    if not can_wait() then
        return true
    end
    if not writable then
        -- Raises for a cosocket of another request, before anything is taken.
        sock:send("")
    end
    owner.sending = true
    local fine, ok, err = true, true, nil
    while left and ok and fine do
        local out = native_output(session)
        if not out then
            break
        end
        fine, ok, err = pcall(send, to, out, deadline)
        wake(owner, "writers")
        if ok and fine then
            left, writable, failed = native_offer(session, sock)
        end
    end
    owner.sending = nil
    if not fine then
        native_lost(session)
        error(ok, 0)
    elseif not ok then
        return nil, failed or err
    end
    return true
end


return { carry = carry, is_sending = is_sending, push = push, READ_SIZE = READ_SIZE, BUSY = BUSY }
