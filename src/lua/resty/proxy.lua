-- resty.websocket.proxy: lua-resty-websocket-proxy's object on the drop-in client and server. Two light
-- threads carry frames, one each way; this shim orders the calls, joins fragments, keeps the limits and
-- asks `on_frame`.

local _, vm = ...

local client = vm.module("resty.websocket.client")
local server = vm.module("resty.websocket.server")
local ask_for = vm.module("resty.websocket.leaving").ask_for
local escaped = vm.natives.vm.escaped

local concat = table.concat
local error = error
local find = string.find
local format = string.format
local gsub = string.gsub
local setmetatable = setmetatable
local sub = string.sub
local tostring = tostring
local type = type
local ngx = ngx
local log = ngx.log
local kill = ngx.thread.kill
local spawn = ngx.thread.spawn
local wait = ngx.thread.wait
local DEBUG = ngx.DEBUG
local ERR = ngx.ERR
local INFO = ngx.INFO
local WARN = ngx.WARN

-- States of `client_state` and `upstream_state`.
local INIT = 1
local ESTABLISHED = 2
local CLOSING = 3

local OPCODES = {
    continuation = 0x0, text = 0x1, binary = 0x2, close = 0x8, ping = 0x9, pong = 0xa,
}

-- Of a payload in a debug line, in bytes.
local SHOWN = 24

local _M = { _VERSION = "0.0.1" }
local mt = { __index = _M }


local function check_type(opts, name, expected)
    if opts[name] ~= nil and type(opts[name]) ~= expected then
        error("opts." .. name .. " must be a " .. expected, 3)
    end
end


local function check_limit(opts, name)
    local value = opts[name]
    if value ~= nil and not (type(value) == "number" and value >= 1) then
        error("opts." .. name .. " must be a number >= 1", 3)
    end
end


function _M.new(opts)
    if opts == nil then
        opts = {}
    elseif type(opts) ~= "table" then
        error("opts must be a table", 2)
    end
    check_type(opts, "on_frame", "function")
    check_type(opts, "recv_timeout", "number")
    check_limit(opts, "client_max_frame_size")
    check_limit(opts, "client_max_fragments")
    check_limit(opts, "upstream_max_frame_size")
    check_limit(opts, "upstream_max_fragments")

    local wb, err = client:new()
    if not wb then
        return nil, "failed to create client: " .. err
    end
    return setmetatable({
        client = wb,
        on_frame = opts.on_frame,
        recv_timeout = opts.recv_timeout,
        aggregate_fragments = opts.aggregate_fragments,
        client_max_frame_size = opts.client_max_frame_size,
        client_max_fragments = opts.client_max_fragments,
        upstream_max_frame_size = opts.upstream_max_frame_size,
        upstream_max_fragments = opts.upstream_max_fragments,
        debug = opts.debug,
        client_state = INIT,
        upstream_state = INIT,
    }, mt)
end


function _M.dd(self, ...)
    if self.debug then
        return log(DEBUG, ...)
    end
end


function _M.connect_upstream(self, uri, opts)
    if self.upstream_state == ESTABLISHED then
        log(WARN, format("connection with upstream at %q already established", self.upstream_uri))
        return true
    end

    self:dd('connecting to "', uri, '" upstream')
    local ok, err, response = ask_for(function ()
        return self.client:connect(uri, opts)
    end)
    if not ok then
        return nil, err
    end
    self:dd('connected to "', uri, '" upstream')

    self.upstream_uri = uri
    self.upstream_state = ESTABLISHED
    return true, nil, response
end


function _M.connect_client(self)
    if self.client_state == ESTABLISHED then
        log(WARN, "client handshake already completed")
        return true
    end

    self:dd("completing client handshake")
    local wb, err = server:new()
    if not wb then
        return nil, err
    end
    self:dd("completed client handshake")

    self.server = wb
    self.client_state = ESTABLISHED
    return true
end


function _M.connect(self, uri, upstream_opts)
    local ok, err = self:connect_upstream(uri, upstream_opts)
    if not ok then
        return nil, "failed connecting to upstream: " .. err
    end
    ok, err = self:connect_client()
    if not ok then
        return nil, "failed client handshake: " .. err
    end
    return true
end


-- One way of frames: who sends them, by both names, and what of a message has come.
local function new_way(self, role)
    local is_client = role == "client"
    return {
        role = role,
        peer = is_client and "upstream" or "client",
        from = is_client and self.server or self.client,
        to = is_client and self.client or self.server,
        max_size = self[role .. "_max_frame_size"],
        max_count = self[role .. "_max_fragments"],
        size = 0,
        count = 0,
        parts = {},
    }
end


local function show(self, way, typ, data, fin, code)
    local arrow = "<--"
    if typ == "close" then
        arrow = way.role == "client" and "--x" or "x--"
    elseif way.role == "client" then
        arrow = "-->"
    end
    local payload = gsub(data, "\n", "\\n")
    if #payload > SHOWN then
        payload = sub(payload, 1, SHOWN) .. "[...]"
    end
    local more = ""
    if way.first then
        more = format('\n  initial type: "%s"', way.first)
    elseif code then
        more = format("\n  code: %d", code)
    end
    self:dd(format('\n[frame] downstream %s resty.proxy %s upstream\n  aggregating: %s\n  type: "%s"%s\n'
                   .. "  payload: %q (len: %d)\n  fin: %s",
                   arrow, arrow, tostring(self.aggregate_fragments), typ, more, payload, #data,
                   tostring(fin)))
end


local function send_close(self, wb, role, code, reason)
    self:dd(role, format(" closing:\ncode: %s\nreason: %q", tostring(code), reason))
    local ok, err = wb:send_close(code, reason)
    if not ok then
        log(INFO, "failed sending close frame to ", role, ": ", err)
    end
end


-- Closes both sides of a way on which too much came.
local function refuse(self, way, what, number)
    log(INFO, format("%s frame %s (%s) exceeds limit, closing", way.role, what, number))
    send_close(self, way.from, way.role, 1009, "Payload Too Large")
    self[way.role .. "_state"] = CLOSING
    send_close(self, way.to, way.peer, 1001, "")
    return false
end


-- What `on_frame` makes of a frame: nil drops it.
local function ask(self, way, typ, data, fin, code)
    local updated, updated_code = self.on_frame(self, way.role, typ, data, fin, code)
    if updated ~= nil and type(updated) ~= "string" then
        error("opts.on_frame return value must be nil or a string", 0)
    end
    if typ == "close" and updated_code ~= nil then
        if type(updated_code) ~= "number" then
            error("opts.on_frame status code return value must be nil or a number", 0)
        end
        code = updated_code
    end
    if updated == nil then
        self:dd(way.role, " dropping ", typ, " frame after on_frame handler requested it")
    end
    return updated, code
end


local function forward(self, way, typ, data, fin, code)
    if self.on_frame then
        data, code = ask(self, way, typ, data, fin, code)
        if data == nil then
            return
        end
    end

    local bytes, err
    if typ == "close" then
        log(INFO, "forwarding close with code: ", code, ", payload: ", escaped(data))
        bytes, err = way.to:send_close(code, data)
    else
        bytes, err = way.to:send_frame(fin, OPCODES[typ], data)
    end
    if not bytes then
        log(INFO, format("failed forwarding a frame from %s: %s", way.role, err))
    end
end


-- Joins fragments where that is asked for. Returns nothing while the message is not whole.
local function join(self, way, typ, data, fin)
    local parts = way.parts
    if fin and #parts == 0 then
        return typ, data
    end
    parts[#parts + 1] = data
    if not fin then
        self:dd(way.role, " received fragmented frame, buffering")
        way.first = way.first or typ
        return nil
    end
    self:dd(way.role, " received last fragmented frame, forwarding")
    typ, data = way.first, concat(parts)
    way.parts, way.first = {}, nil
    return typ, data
end


-- A frame has come. Returns whether the way goes on.
local function pass(self, way, data, typ, err)
    local fin = err ~= "again"
    local code = typ == "close" and err or nil
    if self.debug then
        show(self, way, typ, data, fin, code)
    end

    if typ == "close" or typ == "ping" or typ == "pong" then
        forward(self, way, typ, data, true, code)
        return true
    end

    way.size = way.size + #data
    if way.max_size and way.size > way.max_size then
        return refuse(self, way, "size", way.size)
    end
    way.count = way.count + 1
    if way.max_count and way.count > way.max_count then
        return refuse(self, way, "count", way.count)
    end
    if self.aggregate_fragments then
        typ, data = join(self, way, typ, data, fin)
    end
    if typ then
        way.size, way.count = 0, 0
        forward(self, way, typ, data, fin)
    end
    return true
end


-- A light thread's work. Returns whose side has ended, and why where that was no end of stream.
local function carry(self, way)
    local role, from = way.role, way.from
    local state, peer_state = role .. "_state", way.peer .. "_state"
    while self[peer_state] ~= CLOSING do
        if self.recv_timeout then
            from:set_timeout(self.recv_timeout)
        end
        self:dd(role, " receiving frame...")
        local data, typ, err = from:recv_frame()
        if typ then
            if not pass(self, way, data, typ, err) then
                return role
            end
        elseif find(err, "timeout", 1, true) then
            log(INFO, format("timeout receiving frame from %s, reopening", role))
        else
            self[state] = CLOSING
            if find(err, "closed", 1, true) then
                return role
            end
            log(INFO, format("failed receiving frame from %s: %s", role, err))
            return role, err
        end
    end
    return nil
end


function _M.execute(self)
    if self.client_state ~= ESTABLISHED then
        return nil, "client handshake not complete"
    end
    if self.upstream_state ~= ESTABLISHED then
        return nil, "upstream connection not established"
    end

    self.co_client = spawn(carry, self, new_way(self, "client"))
    self.co_server = spawn(carry, self, new_way(self, "upstream"))
    local ok, role, err = wait(self.co_client, self.co_server)
    if not ok then
        err = role
        log(ERR, "failed to wait for websocket proxy threads: ", tostring(err))
    elseif role == "client" then
        self:dd('closing "', self.upstream_uri, '" upstream websocket')
        self.client:close()
    end
    -- Last: it closes the socket that a light thread is reading from.
    kill(self.co_client)
    kill(self.co_server)

    self.co_client = nil
    self.co_server = nil
    self.client_state = INIT
    self.upstream_state = INIT
    if err then
        return nil, err
    end
    return true
end


return _M
