-- websockets.reader: the light thread that every connection of a `websockets` context has: reads the
-- request, then frames, and says so to service(). What the bytes mean is the natives' business.

local natives, vm = ...

local connection = vm.module "websockets.connection"
local running = vm.module "websockets.running"

local finish = connection.finish
local forget = connection.forget
local make_due = connection.make_due
local carry = vm.module("resty.websocket.carry").carry
local native_feed = vm.natives.carried.feed
local native_send = vm.natives.listen.socket_send
local native_status = natives.status
local park = vm.module("resty.websocket.wait").park
local push = connection.push
local find = string.find
local min = math.min
local ipairs = ipairs
local setmetatable = setmetatable
local sub = string.sub
local tostring = tostring
local type = type
local xpcall = xpcall
local ngx = ngx
local now = ngx.now
local traceback = debug.traceback

local READ_SIZE = 16 * 1024
local FILE_PIECE = 64 * 1024
-- A longer request head is refused, line or no line.
local MAX_CHUNK = 30 * 1024

local reader = {}


-- Until service() has seen to it. A worker that ends waits as long for a service() that nobody calls
-- as for a peer's close frame.
local function rest(conn, field)
    local patience = connection.CLOSE_WAIT / 1000
    while not (conn[field] or conn.finished) do
        local exiting = ngx.worker.exiting()
        local woken = park(conn, "reader", exiting and 1 or 60)
        if not woken and exiting or woken == nil then
            patience = patience - 1
            if patience <= 0 or woken == nil then
                forget(conn)
            end
        end
    end
end


-- Says to service() what there is for it. True where nothing more comes.
local function look(conn)
    local waiting, _, over = native_status(conn.session)
    -- What waits for the program's or the peer's leave is looked at again when that is given.
    if over or waiting and not (conn.paused or conn.gated) then
        make_due(conn)
    end
    if over or conn.finished then
        return true
    end
    push(conn)
end


-- Nothing is read while messages wait for the program.
local function read(conn, ms)
    local _, full = native_status(conn.session)
    if (full or conn.paused) and not conn.closing then
        local woken, err = park(conn, "reader", min(ms / 1000, 60))
        return nil, woken == nil and err or "timeout"
    end
    local peer = conn.peer
    peer:settimeouts(nil, nil, ms)
    return peer:receiveany(READ_SIZE)
end


local function send_answer(conn)
    local peer = conn.peer
    for _, part in ipairs(conn.answer or {}) do
        if type(part) == "string" then
            peer:send(part)
        else
            local sent = true
            while sent do
                local piece = part:read(FILE_PIECE)
                sent = piece and peer:send(piece)
            end
            part:close()
        end
    end
end


-- Reads the request head: what it is | nil, refusal to be sent | nil.
local function read_head(conn)
    local state, peer = conn.state, conn.peer
    local deadline = now() + state.handshake_timeout / 1000
    local bytes = ""
    while true do
        local left = (deadline - now()) * 1000
        peer:settimeouts(nil, nil, left > 1 and left or 1)
        local data, err = peer:receiveany(READ_SIZE)
        if not data or left <= 0 then
            if err == "timeout" or left <= 0 then
                local _, response = natives.refusal(408, "no request in time")
                return nil, response
            end
            return nil
        end
        -- Looked at when a line has ended, not at every byte of a client that sends one at a time.
        local look = bytes == "" or #bytes > MAX_CHUNK or find(data, "\n", 1, true)
        bytes = bytes .. data
        local kind, first, protocol, length
        if look then
            kind, first, protocol, length = natives.request(bytes, state.names,
                                                             state.serves_http)
        end
        if kind == "refused" then
            return nil, first
        elseif kind then
            return kind, first, protocol, sub(bytes, length + 1)
        end
    end
end


local function converse(conn)
    local kind, first, protocol, more = read_head(conn)
    if conn.finished then
        return
    end
    if kind == "http" then
        conn.uri, conn.run = first, running.run_http
        make_due(conn)
        rest(conn, "answered")
        send_answer(conn)
    elseif kind then
        local state = conn.state
        conn.session = natives.open(state.max_message_size, state.unmasked)
        conn.protocol, conn.run = protocol, running.run_open
        native_send(conn.peer.handle, first)
        if more ~= "" then
            native_feed(conn.session, more)
            push(conn)
        end
        make_due(conn)
        carry(conn, conn.session, look, read)
        return
    elseif first then
        conn.peer:send(first)
    end
    conn.run = finish
    make_due(conn)
end


-- A connection that came, in the light thread that is its own.
function reader.serve(state, peer, methods)
    if state.destroyed then
        return
    end
    local conn = { state = state, peer = peer, fd = peer:fd(), run = finish, remaining = 0 }
    conn.ws = setmetatable({ conn }, methods)
    state.count = state.count + 1
    state.connections[conn] = true
    state.by_fd[conn.fd] = conn
    if state.tells_fds then
        local door = state.door
        door.came[#door.came + 1] = conn
        make_due(door)
    else
        conn.announced = true
    end
    local ok, err = xpcall(converse, traceback, conn)
    if not ok then
        ngx.log(ngx.ERR, "websockets: ", tostring(err))
        forget(conn)
    end
    rest(conn, "finished")
end


return reader
