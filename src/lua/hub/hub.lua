-- The hub's half of resty.websocket: publish, send, close, count and info, what topics remember, and
-- the methods by which a server's connection subscribes. Of these calls presence alone waits, and those
-- that need a broker or other machines.

local natives, vm = ...

local methods = vm.module("resty.websocket.methods")
local check_options = vm.module("resty.websocket.options").check_names
local wait = vm.module("resty.websocket.wait").call

local check_data = methods.check_data
local check_type = methods.check_type
local error = error
local ipairs = ipairs
local next = next
local tonumber = tonumber
local type = type
local byte = string.byte
local floor = math.floor
local sub = string.sub

local _M = {}


local function check_topic(topic, level)
    if type(topic) ~= "string" then
        error('bad "topic" argument: string expected, got ' .. type(topic), level or 3)
    end
    return topic
end


local function check_id(id)
    if type(id) ~= "string" then
        error('bad "id" argument: string expected, got ' .. type(id), 3)
    end
    return id
end


local SUBSCRIBE = { since = true, format = true, on_gap = true, timeout = true, info = true }
local FORMATS = { raw = true, json = true }
local TEXTS = { "except", "idempotency_key" }


local function check_since(since, level)
    local is_count = type(since) == "number" and since >= 0 and since == floor(since)
    if since ~= nil and type(since) ~= "string" and not is_count then
        error('bad "since" option: a cursor, "last" or a number of messages expected', level)
    end
end


-- What an errand of the worker that talks to brokers brings. `level` is for misuse, as by who cannot wait.
local function await(errand, level)
    local first, second, third = wait(natives.errand_answer, errand)
    if first == nil and third then
        error(second, level + 1)
    end
    return first, second, third
end


-- To the methods of server connections; `session_of` gives the native part of one.
local function add_to(server, session_of)
    -- A drop-in object is made known to the hub by its first call here: id | nil, err
    local function id_of(self)
        local id = self.id
        if id then
            return id
        end
        local err
        id, err = natives.register(session_of(self))
        self.id = id
        return id, err
    end

    function server.subscribe(self, topic, opts)
        check_topic(topic)
        opts = check_options(opts, SUBSCRIBE, 3)
        check_since(opts.since, 3)
        if opts.format ~= nil and not FORMATS[opts.format] then
            error('bad "format" option: "raw" or "json" expected', 2)
        end
        local on_gap = opts.on_gap
        if on_gap ~= nil and type(on_gap) ~= "function" then
            error('bad "on_gap" option: function expected, got ' .. type(on_gap), 2)
        end
        if opts.timeout ~= nil and (type(opts.timeout) ~= "number" or not (opts.timeout >= 0)) then
            error('bad "timeout" option: milliseconds expected', 2)
        end
        if opts.info ~= nil and type(opts.info) ~= "string" then
            error('bad "info" option: string expected, got ' .. type(opts.info), 2)
        end
        local id, err = id_of(self)
        if not id then
            return nil, err
        end
        -- Where that fails, subscribing says why.
        local errand = natives.errand_fetch(topic, opts.timeout)
        if errand then
            await(errand, 2)
        end
        local cursor, recovered, count, reason =
            natives.subscribe(id, topic, opts.since, opts.format == "json", on_gap ~= nil, opts.info)
        if cursor == nil then
            if count then
                error(recovered, 2)
            end
            return nil, recovered
        end
        if on_gap then
            self.on_gap = self.on_gap or {}
            self.on_gap[topic] = on_gap
        end
        return true, { cursor = cursor or nil, recovered = recovered, count = count, reason = reason }
    end

    function server.unsubscribe(self, topic)
        if topic ~= nil then
            check_topic(topic)
        end
        local id, err = id_of(self)
        if not id then
            return nil, err
        end
        local ended
        ended, err = natives.unsubscribe(id, topic)
        if not ended then
            return nil, err
        end
        local on_gap = self.on_gap
        if on_gap then
            if topic then
                on_gap[topic] = nil
            end
            if not topic or next(on_gap) == nil then
                self.on_gap = nil
            end
        end
        return ended
    end

    function server.topics(self)
        local id, err = id_of(self)
        if not id then
            return nil, err
        end
        return natives.topics(id)
    end
end


local PUBLISH = { type = true, except = true, scope = true, idempotency_key = true, confirm = true }
local SCOPES = { worker = true, node = true, cluster = true }
-- Of a list, as the format between workers has room for.
local MOST_TOPICS = 255


local function check_topics(topics)
    if type(topics) ~= "table" then
        return check_topic(topics)
    end
    if #topics == 0 or #topics > MOST_TOPICS then
        error('bad "topic" argument: 1 to ' .. MOST_TOPICS .. " topics expected", 3)
    end
    for i = 1, #topics do
        if type(topics[i]) ~= "string" then
            error('bad "topic" argument: array of strings expected', 3)
        end
    end
    return topics
end


function _M.publish(topic, data, opts)
    check_topics(topic)
    data = check_data("data", data)
    if opts == nil and type(topic) == "string" then
        return natives.publish(topic, data, true)
    end
    opts = check_options(opts, PUBLISH, 3)
    for _, name in ipairs(TEXTS) do
        if opts[name] ~= nil and type(opts[name]) ~= "string" then
            error('bad "' .. name .. '" option: string expected, got ' .. type(opts[name]), 2)
        end
    end
    if opts.scope ~= nil and not SCOPES[opts.scope] then
        error('bad "scope" option: "worker", "node" or "cluster" expected', 2)
    end
    local key = opts.idempotency_key
    if key and (#key == 0 or #key > 64) then
        error('bad "idempotency_key" option: 1 to 64 bytes expected', 2)
    end
    local n, sequence, cursor = natives.publish(topic, data, check_type(opts.type), opts.except,
                                                opts.scope, key, opts.confirm)
    if type(n) == "userdata" then
        n, sequence, cursor = await(n, 2)
    end
    if not n then
        if cursor then
            error(sequence, 2)
        end
        return nil, sequence
    end
    if not cursor then
        return n, sequence
    end
    return n, sequence, cursor
end


local HISTORY = { since = true, limit = true, reverse = true }


function _M.history(topic, opts)
    check_topic(topic)
    opts = check_options(opts, HISTORY, 3)
    check_since(opts.since, 3)
    local limit = opts.limit == nil and 100 or opts.limit
    if type(limit) ~= "number" or not (limit >= 0) then
        error('bad "limit" option: number expected', 2)
    end
    local errand, err = natives.errand_fetch(topic)
    if errand then
        errand, err = await(errand, 2)
    end
    if err then
        return nil, err
    end
    local flat, cursor = natives.history(topic, opts.since, limit, opts.reverse)
    if not flat then
        return nil, cursor
    end
    local messages = {}
    for i = 1, #flat, 5 do
        messages[#messages + 1] = {
            data = flat[i], type = flat[i + 1], offset = tonumber(flat[i + 2]),
            cursor = flat[i + 3], time = tonumber(flat[i + 4]),
        }
    end
    return messages, cursor
end


function _M.forget(topic)
    local errand, err = natives.errand_forget(check_topic(topic))
    if not errand and not err then
        return natives.forget(topic)
    end
    local forgotten
    if errand then
        forgotten, err = await(errand, 2)
    end
    if err then
        return nil, err
    end
    return forgotten == 1
end


function _M.close_topic(topic, code, reason)
    check_topic(topic)
    code, reason = methods.check_close(code, reason)
    return natives.close_topic(topic, code, reason)
end


-- Appends to the first n of `members` what presence_take has put into a string. Returns how many they are.
local function append(members, n, piece, node)
    local at = 1
    while at <= #piece do
        local high, low = byte(piece, at + 16, at + 17)
        local stop = at + 18 + high * 256 + low
        local info = stop > at + 18 and sub(piece, at + 18, stop - 1) or nil
        n = n + 1
        members[n] = { member = sub(piece, at, at + 15), info = info, node = node }
        at = stop
    end
    return n
end


-- Collects the answers to a question who is there, or how many. They come in pieces; after each the
-- others get their turn. Called in the place of its caller, as a tail call, so an error is at the user's.
local function call_roll(topic, only_number)
    local roll, err = natives.presence_ask(topic, only_number)
    if not roll then
        return nil, err
    end
    local members, n = {}, 0
    local piece, detail, answered, known = natives.presence_take(roll)
    while piece ~= false do
        -- Beside a piece its node.
        if piece then
            n = append(members, n, piece, detail)
        end
        local woken, refusal = natives.presence_wait(roll, piece ~= nil)
        if woken == nil then
            error(refusal, 2)
        end
        piece, detail, answered, known = natives.presence_take(roll)
    end
    return only_number and detail or members, answered, known
end


function _M.presence(topic)
    return call_roll(check_topic(topic), false)
end


function _M.cluster_count(topic)
    return call_roll(check_topic(topic), true)
end


function _M.send(id, data, typ)
    return natives.send(check_id(id), check_data("data", data), check_type(typ))
end


function _M.close(id, code, reason)
    check_id(id)
    code, reason = methods.check_close(code, reason)
    return natives.close(id, code, reason)
end


function _M.count(topic)
    if topic ~= nil then
        check_topic(topic)
    end
    return natives.count(topic)
end


-- Seen from outside -----------------------------------------------------------------------------

-- Counters of all workers: numbers, or tables of numbers by label.
function _M.info()
    local info, i = {}, 1
    local name, value, _, label = natives.metric(i)
    while name do
        if label then
            local by = info[name] or {}
            by[label] = value
            info[name] = by
        else
            info[name] = value
        end
        i = i + 1
        name, value, _, label = natives.metric(i)
    end
    -- The names a handler asks for most.
    info.open, info.accepted = info.connections_open, info.connections_accepted
    return info
end


-- For a connection's waiting call: has its handlers told of the gaps there have been.
local function tell_gaps(self)
    if not self.on_gap then
        return
    end
    local topic, reason = natives.take_gap(self.id)
    while topic do
        -- A handler may unsubscribe.
        local on_gap = self.on_gap and self.on_gap[topic]
        if on_gap then
            on_gap(topic, reason)
        end
        topic, reason = natives.take_gap(self.id)
    end
end


return { functions = _M, add_to = add_to, tell_gaps = tell_gaps }
