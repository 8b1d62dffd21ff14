-- websockets.service: what is due in a `websockets` context: connections that have something for the
-- program, messages from other workers, deadlines, a worker that quits, the end of the context.
--
-- A program's callbacks run in whatever light thread calls service(), as they did in whatever
-- thread called it; waiting there goes on with nginx's event loop.

local _, vm = ...

local connection = vm.module "websockets.connection"
local running = vm.module "websockets.running"

local beat = vm.natives.carried.beat
local is_overdue = vm.natives.carried.is_overdue
local run = running.run
local take_messages = vm.module("websockets.methods").take_messages
local error = error
local ipairs = ipairs
local next = next
local pairs = pairs
local ngx = ngx
local now = ngx.now

-- service() looks at deadlines, and whether its worker is to end, at least this often. Seconds.
local SLICE = 1

local service = { SLICE = SLICE }


-- Ends a connection whose peer has not answered a close frame in time, if there is one: callbacks may
-- change the list, the rest comes the next time. What callbacks that run no more have left behind is due again.
local function end_overdue(state)
    running.retry(state)
    for conn in pairs(state.closing) do
        if is_overdue(conn.session) then
            connection.finish(conn)
            return true
        end
    end
    return false
end

service.end_overdue = end_overdue


-- Runs what is due now, and nothing that becomes due meanwhile. Returns whether there was something.
local function run_due(state)
    local some = take_messages(state)
    local ready = state.ready
    local last = ready.last
    while ready.first <= last and not state.destroyed do
        local conn = ready[ready.first]
        ready[ready.first] = nil
        ready.first = ready.first + 1
        if conn.queued then
            some = true
            run(conn)
        end
    end
    return end_overdue(state) or some
end


-- Its worker is told to quit: the port is closed already, and connections are told so.
local function begin_quit(state)
    state.quitting = true
    local connections = {}
    for conn in pairs(state.connections) do
        connections[#connections + 1] = conn
    end
    for _, conn in ipairs(connections) do
        if conn.session and not conn.closing and state.bye then
            connection.begin_close(conn, state.bye, state.bye_reason)
        end
    end
end


-- The same where service() may not be called any more: what it has not seen to in its time ends here,
-- so that no program keeps a worker.
function service.quit_alone(state)
    connection.hurry(state)
    if not state.quitting then
        begin_quit(state)
    end
    local give_up = now() + connection.CLOSE_WAIT / 1000 + SLICE
    while next(state.closing) and not state.destroyed do
        ngx.sleep(0.1)
        if now() > give_up then
            for _ = 1, state.count do
                end_overdue(state)
            end
            return
        end
    end
end


-- 0 | -1 when there is nothing left to serve. Seconds; negative: until something was done.
function service.run(state, timeout)
    if state.destroyed then
        return -1
    end
    local deadline = timeout >= 0 and now() + timeout
    local waited = false
    while not run_due(state) do
        if ngx.worker.exiting() then
            if not state.quitting then
                begin_quit(state)
            end
            if state.count == 0 then
                return -1
            end
        end
        local left = deadline and deadline - now() or SLICE
        if left <= 0 and waited then
            return 0
        end
        for conn in pairs(state.closing) do
            local due = beat(conn.session)
            left = due and due / 1000 < left and due / 1000 or left
        end
        left = left > SLICE and SLICE or left
        -- Even without a time to wait the others get their turn.
        local woken, err = vm.natives.hub.mailbox_wait(state.mailbox, left > 0.001 and left * 1000 or 1)
        if woken == nil then
            error(err, 3)
        end
        waited = true
        if state.destroyed then
            return -1
        end
    end
    return 0
end


-- `quietly`: without a word to the program.
function service.destroy(state, quietly)
    state.destroyed = true
    if state.listener then
        state.listener:close()
    end
    local connections = {}
    for conn in pairs(state.connections) do
        connections[#connections + 1] = conn
    end
    for _, conn in ipairs(connections) do
        connection.leave(conn, quietly)
    end
    vm.natives.hub.mailbox_wake(state.mailbox)
end


return service
