-- Callbacks of websocket.serve(). A runner is a timer's light thread that calls for one connection
-- after the other what there is to call; src/session/callbacks.rs says for whom, and when another
-- runner is needed. Timers keep the location of their creator, so each location has its own.

local natives, vm = ...

local fast = vm.module("resty.websocket.fast")
local tell_gaps = vm.module("resty.websocket.hub").tell_gaps
local wait_again = vm.module("resty.websocket.wait").call_again
local with_traceback = vm.module("resty.websocket.traceback")

local view = fast.view
local copy = fast.copy
local next_event = fast.next_event
local native_rest = natives.runner_rest
local raw_message = vm.module("resty.websocket.raw").new
local error = error
local ngx = ngx
local pairs = pairs
local timer_at = ngx.timer.at
local tostring = tostring
local xpcall = xpcall

-- Kinds of events, as in fast.rs.
local BINARY, TEXT, OPEN, GAP, DRAIN = 1, 2, 3, 4, 5
local RAW, START, CTX = 8, 16, 32

-- By location: the natives' set, and by a connection's number its object and callbacks.
local sets = {}


local run


local function start_runner(set)
    local ok, err = timer_at(0, run, set)
    if not ok then
        natives.runner_lost(set.native)
    end
    return ok, err
end


-- What is not a message.
local function call_other(set, kind, number, ws)
    if kind == OPEN then
        local call = set.on_open[number]
        set.on_open[number] = nil
        if call then
            return xpcall(call, with_traceback, ws)
        end
    elseif kind == GAP then
        return xpcall(tell_gaps, with_traceback, ws)
    elseif kind == DRAIN then
        local call = set.on_drain[number]
        if call then
            return xpcall(call, with_traceback, ws)
        end
    else
        local call = set.on_close[number]
        set.objects[number], set.on_message[number] = nil, nil
        set.on_close[number], set.on_drain[number] = nil, nil
        if call then
            local code, reason = natives.close_info(ws.session)
            return xpcall(call, with_traceback, ws, code or 1006, reason or "")
        end
    end
    return true
end


-- Calls for an event of `kind`, the one that next_event() has just told of.
local function call_for(set, runner, kind)
    -- What is lent stays where it is meanwhile.
    local number = view.code
    if kind >= CTX then
        kind = kind - CTX
        ngx.ctx = {}
    end
    if kind >= START then
        kind = kind - START
        start_runner(set)
    end
    local ok, err = true, nil
    local is_raw = kind > RAW
    if is_raw then
        kind = kind - RAW
    end
    if kind == TEXT or kind == BINARY then
        local data, call = is_raw and raw_message() or copy(), set.on_message[number]
        if call then
            ok, err = xpcall(call, with_traceback, set.objects[number], data,
                             kind == TEXT and "text" or "binary")
        end
        if is_raw then
            view.lent = 0
        end
    else
        ok, err = call_other(set, kind, number, set.objects[number])
    end
    if not ok then
        natives.callback_failed(runner)
        ngx.log(ngx.ERR, "websocket callback failed: ", tostring(err))
    end
end


-- An event for who was woken.
local function here(runner)
    local kind = next_event(runner)
    if kind ~= 0 then
        return kind
    end
end


-- The next event's kind; 0: look again; nil: this runner is to end. As recv() does it, for the same reasons
-- (wait.lua).
local function await(runner)
    local kind = next_event(runner)
    if kind ~= 0 then
        return kind
    end
    local goes_on = native_rest(runner, false)
    if goes_on == true or goes_on == false then
        return wait_again(native_rest, runner, nil, nil, nil, nil, here, runner)
    end
    return goes_on
end


function run(_, set)
    local runner, err = natives.runner_new(set.native)
    if not runner then
        ngx.log(ngx.ERR, "websocket callbacks are not called: ", err)
        return
    end
    local kind = await(runner)
    while kind do
        if kind ~= 0 then
            call_for(set, runner, kind)
        end
        kind = await(runner)
    end
end


local served = {}

-- Fields that are made when a program first asks for them: strings that most connections need not keep.
local made = { request_id = natives.new_id }


function made.id(self)
    return natives.id(self.session)
end


local function index(self, name)
    local method = served[name]
    if method ~= nil then
        return method
    end
    local make = made[name]
    if make then
        local value = make(self)
        self[name] = value
        return value
    end
end


local function no_recv()
    error("recv() on a connection whose messages go to on_message", 2)
end


-- What connections with callbacks have of a server's methods.
local function inherit(server)
    for name, method in pairs(server) do
        served[name] = method
    end
    served.recv, served.messages = no_recv, no_recv
end


-- Has the callbacks of `opts` called for a connection of the current request: true | nil, err.
local function begin(ws, opts)
    local key = natives.location_key()
    local set = sets[key]
    if not set then
        local native, err = natives.serving_new()
        if not native then
            return nil, err
        end
        set = { native = native, objects = {}, on_open = {}, on_message = {}, on_close = {},
                on_drain = {} }
        sets[key] = set
    end
    local number, starts = natives.serve(set.native, ws.session, opts.raw)
    set.objects[number] = ws
    set.on_open[number], set.on_message[number] = opts.on_open, opts.on_message
    set.on_close[number], set.on_drain[number] = opts.on_close, opts.on_drain
    if starts then
        return start_runner(set)
    end
    return true
end


return { mt = { __index = index }, inherit = inherit, begin = begin }
