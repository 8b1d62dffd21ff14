-- websockets.running: what service() does with a connection of a `websockets` context that is due: its
-- callbacks run, messages are handed out as far as the program and the peer keep up. Used by the other
-- parts of websockets.

local natives, vm = ...

local connection = vm.module "websockets.connection"

local call = connection.call
local calls_of = connection.calls_of
local finish = connection.finish
local gate = connection.gate
local has_room = vm.natives.carried.has_room
local make_due = connection.make_due
local native_status = natives.status
local native_take = vm.natives.message.take_message
local program_of = connection.program_of
local push = connection.push
local tell = connection.tell
local wake_reader = connection.wake_reader
local coroutine_running = coroutine.running
local get_request = require("resty.core.base").get_request
local now = ngx.now
local pairs = pairs
local pcall = pcall
local setmetatable = setmetatable
local status = coroutine.status
local sub = string.sub
local type = type

-- Messages of one connection that are handed out before it is another one's turn.
local TURN = 16
local WRITE_TEXT, WRITE_BINARY = 0, 1
-- How often it is looked whether callbacks still run. Seconds.
local LOOK = 1

local WEAK = { __mode = "v" }

local running = {}


-- Hands out a message, in pieces where the context asks for them. False: not all of it, now.
local function hand_out(conn, data, typ, from)
    local size = conn.state.rx_buffer_size or #data
    repeat
        local piece = size >= #data and data or sub(data, from, from + size - 1)
        from = from + #piece
        conn.remaining = #data - from + 1
        local callback = calls_of(conn).on_receive
        if callback and not call(conn, "on_receive", callback, piece, typ) then
            return false
        end
        if conn.finished then
            return false
        end
        if from <= #data and conn.paused then
            conn.partial, conn.partial_type, conn.from = data, typ, from
            return false
        end
    until from > #data
    conn.partial = nil
    return true
end


local function run_messages(conn)
    local session = conn.session
    if conn.wants_room and not conn.gated then
        conn.wants_room = nil
        local callback = calls_of(conn).on_server_writeable
        if callback and not call(conn, "on_server_writeable", callback) then
            return
        end
    end
    for _ = 1, TURN do
        local _, _, over = native_status(session)
        if conn.paused and not over then
            return
        end
        -- Where so much waits for the peer, its next message has to wait as well.
        if not over and not has_room(session, conn.peer.handle) and gate(conn) then
            return
        end
        local data, typ, from = conn.partial, conn.partial_type, conn.from
        if not data then
            from = 1
            data, typ = native_take(session)
            if data then
                typ = typ == "text" and WRITE_TEXT or WRITE_BINARY
            end
        end
        if data then
            if not hand_out(conn, data, typ, from) then
                return
            end
        else
            push(conn)
            if typ then
                return finish(conn)
            end
            return
        end
    end
    make_due(conn)
end


-- The handshake is done.
function running.run_open(conn)
    conn.run = run_messages
    conn.established = true
    local state = conn.state
    state.members[conn.protocol][conn] = true
    local callback = program_of(state).protocols[conn.protocol]
    if type(callback) == "function" and not call(conn, "protocol " .. conn.protocol, callback) then
        return
    end
    if not conn.finished then
        run_messages(conn)
    end
end


-- A plain request came. Its answer leaves when this is over.
function running.run_http(conn)
    conn.run = finish
    conn.answer = {}
    local callback = program_of(conn.state).on_http
    if callback then
        call(conn, "on_http", callback, conn.uri)
    end
    conn.answered = true
    wake_reader(conn)
end


-- Whether callbacks of it run, or wait, in some light thread. One may be killed there, or leave by
-- ngx.exit. Its own request says so; others see it when the collector has taken what its stack held.
local function is_running(conn)
    local running = conn.running
    if not (running and running[1]) then
        return false
    end
    -- ngx_lua refuses to say where nothing can wait.
    local told, state = pcall(status, running[2])
    return conn.request ~= get_request() or not told or state ~= "dead"
end


-- What a light thread has left behind that is no more is due. Looked for now and then.
function running.retry(state)
    if now() < state.looked + LOOK then
        return
    end
    state.looked = now()
    for conn in pairs(state.running) do
        if not is_running(conn) then
            state.running[conn], conn.running = nil, nil
            make_due(conn)
        end
    end
end


-- What service() does with a connection that is due. Returns whether it ended by an error.
function running.run(conn)
    conn.queued = nil
    if conn.finished then
        return nil
    end
    if is_running(conn) then
        conn.late = true
        return nil
    end
    -- Held by this stack alone.
    local mark = {}
    conn.running, conn.request = setmetatable({ mark, coroutine_running() }, WEAK), get_request()
    conn.late = nil
    local all = conn.state.running
    all[conn] = true
    local failed = conn.run(conn)
    mark.over = true
    all[conn], conn.running = nil, nil
    if conn.late then
        conn.late = nil
        make_due(conn)
    end
    -- There may be room for more messages now.
    wake_reader(conn)
    return failed
end


function running.announce(conn)
    conn.announced = true
    tell("on_add_fd", program_of(conn.state).on_add_fd, conn.fd)
    if conn.late then
        conn.late = nil
        make_due(conn)
    end
end


return running
