-- The hub's half of resty.websocket: publish, send, close, count and info, and the methods by which
-- a server's connection subscribes. None of these calls waits.

local natives, vm = ...

local methods = vm.module("resty.websocket.methods")

local check_data = methods.check_data
local check_type = methods.check_type
local error = error
local next = next
local pairs = pairs
local tostring = tostring
local type = type

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


-- To the methods of server connections; `session_of` gives the native part of one.
local function add_to(server, session_of)
    -- A drop-in object is made known to the hub by its first call here.
    local function id_of(self)
        local id = self.id
        if not id then
            local err
            id, err = natives.register(session_of(self))
            if not id then
                error(err, 3)
            end
            self.id = id
        end
        return id
    end

    function server.subscribe(self, topic, opts)
        check_topic(topic)
        if opts ~= nil and (type(opts) ~= "table" or next(opts) ~= nil) then
            error('bad "opts" argument: empty table expected', 2)
        end
        local fresh, err = natives.subscribe(id_of(self), topic)
        if fresh == nil then
            return nil, err
        end
        return true
    end

    function server.unsubscribe(self, topic)
        if topic ~= nil then
            check_topic(topic)
        end
        return natives.unsubscribe(id_of(self), topic)
    end

    function server.topics(self)
        return natives.topics(id_of(self))
    end
end


local PUBLISH = { type = true, except = true, scope = true }
local SCOPES = { worker = true, node = true, cluster = true }


function _M.publish(topic, data, opts)
    check_topic(topic)
    check_data("data", data)
    if opts == nil then
        return natives.publish(topic, data, true)
    end
    if type(opts) ~= "table" then
        error('bad "opts" argument: table expected, got ' .. type(opts), 2)
    end
    for name in pairs(opts) do
        if not PUBLISH[name] then
            error('unknown option "' .. tostring(name) .. '" (known: except, scope, type)', 2)
        end
    end
    if opts.except ~= nil and type(opts.except) ~= "string" then
        error('bad "except" option: string expected, got ' .. type(opts.except), 2)
    end
    if opts.scope ~= nil and not SCOPES[opts.scope] then
        error('bad "scope" option: "worker", "node" or "cluster" expected', 2)
    end
    return natives.publish(topic, data, check_type(opts.type), opts.except,
                               opts.scope == "worker")
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


return { functions = _M, add_to = add_to }
