-- websockets.connection: one connection of a `websockets` context as the program sees it: callbacks,
-- writing, the end. What is to be told the program waits in the context until service() comes for
-- it (running.lua). Frames and buffers are the natives'. Used by the other parts of websockets.
--
-- A context's state, as far as it is used here: ready (what service() has to run, by number),
-- mailbox, members (established connections by protocol), by_fd, closing (of which an answer is
-- awaited), running (whose callbacks run), looked, count, and the fields of the configuration. What of these is the program's, its callbacks,
-- may hold the context, which the light threads of its connections must not: a context that nobody else
-- holds goes. So the context alone holds them, in `program`, and all others find them there by `theirs`,
-- a weak table.

local natives, vm = ...

local wait = vm.module "resty.websocket.wait"
local carried = vm.natives.carried
local has_room = carried.has_room
local native_drain = vm.natives.listen.socket_drain
local native_output = carried.output
local native_send = vm.natives.listen.socket_send
local native_write = natives.write
local pairs = pairs
local tostring = tostring
local type = type
local xpcall = xpcall
local ngx = ngx
local park = wait.park
local wake = wait.wake
local traceback = debug.traceback

-- libwebsockets gives a peer five seconds for its close frame.
local CLOSE_WAIT = 5000
-- write() answers -1 when so many times `websocket_send_buffer` is waiting for the peer.
local WRITE_CAP = 16

local connection = { CLOSE_WAIT = CLOSE_WAIT }

local NOTHING = { protocols = {}, calls = {} }
local NO_CALLS = {}


-- What the program gave to the context: its functions, and in `calls` what each connection has of them.
local function program_of(state)
    return state.theirs.program or NOTHING
end


-- The callbacks of a connection.
local function calls_of(conn)
    return program_of(conn.state).calls[conn] or NO_CALLS
end


connection.calls_of = calls_of
connection.program_of = program_of


-- Telling service() ------------------------------------------------------------------------------

-- There is something for the program here. Not before on_add_fd has been called.
local function make_due(conn)
    if conn.queued or conn.finished then
        return
    end
    if not conn.announced then
        conn.late = true
        return
    end
    conn.queued = true
    local ready = conn.state.ready
    ready.last = ready.last + 1
    ready[ready.last] = conn
    vm.natives.hub.mailbox_wake(conn.state.mailbox)
    wake(conn, "watchers")
end


local function wake_reader(conn)
    wake(conn, "reader")
end


connection.make_due = make_due
connection.wake_reader = wake_reader


-- The worker is to quit: readers that wait for the program look how long they may.
function connection.hurry(state)
    for conn in pairs(state.connections) do
        wake_reader(conn)
    end
end


-- Waits until there is something for the program here: context:wait(). As park().
function connection.watch(conn, seconds)
    if conn.queued or conn.finished then
        return true
    end
    return park(conn, "watchers", seconds)
end


-- The end ----------------------------------------------------------------------------------------

local function log_failure(name, err)
    ngx.log(ngx.ERR, "websockets: ", name, " failed: ", tostring(err))
end


local function tell(name, callback, ...)
    if callback then
        local ok, err = xpcall(callback, traceback, ...)
        if not ok then
            log_failure(name, err)
        end
    end
end


local function push(conn)
    local out = native_output(conn.session)
    if out and not native_send(conn.peer.handle, out) then
        carried.lost(conn.session)
        make_due(conn)
        return false
    end
    return true
end


-- Takes the connection out of the context. Returns whether it ended by an error; nil: it had ended.
local function forget(conn)
    if conn.finished then
        return nil
    end
    conn.finished = true
    local state, failed = conn.state, false
    if conn.session then
        push(conn)
        failed = natives.gone(conn.session)
    end
    conn.peer:close()
    state.count = state.count - 1
    state.closing[conn] = nil
    state.connections[conn] = nil
    program_of(state).calls[conn] = nil
    state.by_fd[conn.fd] = nil
    if conn.protocol then
        state.members[conn.protocol][conn] = nil
    end
    wake_reader(conn)
    wake(conn, "watchers")
    if conn.announced then
        tell("on_del_fd", program_of(state).on_del_fd, conn.fd)
    end
    return failed
end


local function finish(conn)
    local on_closed = calls_of(conn).on_closed
    local failed = forget(conn)
    if failed ~= nil and conn.established then
        tell("on_closed", on_closed, conn.ws)
    end
    return failed
end


-- Queues a close frame; the peer has a while to answer it.
local function begin_close(conn, code, reason)
    carried.close(conn.session, code, reason, CLOSE_WAIT)
    push(conn)
    conn.closing = true
    conn.state.closing[conn] = true
    -- Who waits in service() may wait too long now.
    vm.natives.hub.mailbox_wake(conn.state.mailbox)
    wake_reader(conn)
end


-- Closes with 1001, because the context goes; `quietly`: without a word to the program.
function connection.leave(conn, quietly)
    if conn.established and not conn.finished then
        carried.close(conn.session, 1001, "", 0)
    end
    if quietly then
        forget(conn)
    else
        finish(conn)
    end
end


connection.begin_close = begin_close
connection.finish = finish
connection.forget = forget
connection.push = push


-- A callback of this connection. One that fails costs its own connection, and nobody else's.
local function call(conn, name, callback, ...)
    local ok, err = xpcall(callback, traceback, conn.ws, ...)
    if not ok then
        log_failure(name, err)
        if conn.session and not conn.finished then
            carried.close(conn.session, 1011, "", 0)
        end
        finish(conn)
    end
    return ok
end


-- A trace through these would hold the program's functions, and by them its context, for good.
jit.off(tell)
jit.off(call)

connection.call = call
connection.tell = tell


-- The methods' side ------------------------------------------------------------------------------

local function wait_for_peer(_, conn)
    if not wait.call(native_drain, conn.peer.handle, nil, conn.state.send_buffer) then
        carried.lost(conn.session)
    end
    conn.gated = nil
    make_due(conn)
end


-- Until the peer has read, which is waited for elsewhere.
local function gate(conn)
    if not conn.gated then
        -- Without a timer the message is handed out all the same.
        conn.gated = ngx.timer.at(0, wait_for_peer, conn)
    end
    return conn.gated
end

connection.gate = gate


-- 0 | -1, as the original's write().
function connection.write(conn, data, typ)
    if not conn.established or conn.finished or conn.closing then
        return -1
    end
    if not has_room(conn.session, conn.peer.handle, WRITE_CAP) then
        conn.wants_room = true
        gate(conn)
        return -1
    end
    if not native_write(conn.session, data, typ) then
        return -1
    end
    return push(conn) and 0 or -1
end


-- Forwards a broadcast, as far as the peer keeps up.
function connection.forward(conn, data, typ)
    local queued, code, reason = natives.forward(conn.session, conn.peer.handle, data, typ,
                                                 conn.state.close_slow)
    if code then
        begin_close(conn, code, reason)
    elseif queued then
        push(conn)
    end
end


function connection.broadcast(conn, data)
    if conn.finished or conn.closing then
        return
    end
    local mode = calls_of(conn).on_broadcast
    if type(mode) == "function" then
        call(conn, "on_broadcast", mode, data)
    else
        connection.forward(conn, data, mode or 0)
    end
end


-- Gives a connection a callback; one that is over needs none.
function connection.set(conn, name, callback)
    local program = conn.state.theirs.program
    if program and not conn.finished then
        local calls = program.calls
        calls[conn] = calls[conn] or {}
        calls[conn][name] = callback
    end
end


function connection.pause(conn, paused)
    conn.paused = paused
    if not paused then
        make_due(conn)
        wake_reader(conn)
    end
end


return connection
