-- websocket: the opening handshake of a peer, as client and as server. Packets and their rules are
-- websocket.handshake's; this keeps what has come within the time there is. A part of peer.lua.

local natives, vm = ...

local socket = vm.module("websocket.socket")
local handshake = vm.module("websocket.handshake")

local receive_some = socket.receive_some
local send_all = socket.send_all
local strerror = socket.strerror
local concat = table.concat
local error = error
local min = math.min
local now = ngx.now
local pairs = pairs
local rawget = rawget
local rawset = rawset
local sub = string.sub
local tostring = tostring
local type = type

-- How long a peer may take to read the answer that refuses it.
local REFUSAL_TIMEOUT = 3
local BAD_REQUEST = natives.bad_request
local TOO_LARGE = "HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\n\r\n"

local _M = {}


local function check_open(self, level)
    if self.peer.own.closed then
        error("attempt to use closed socket", (level or 2) + 1)
    end
end

_M.check_open = check_open


-- What is left until `deadline`, which may be nil: for ever.
local function left_of(deadline)
    return deadline and deadline - now()
end

_M.left_of = left_of


-- More of a head in own.input: true | nil, "closed" | nil, err. Not longer than the peer has for it.
local function more_input(self, deadline)
    local own = self.own
    local limit = own.handshake_deadline
    local data, err = receive_some(self.peer, min(left_of(limit), left_of(deadline) or math.huge))
    if data then
        own.input = own.input .. data
        return true
    end
    if err == "timeout" and now() >= limit then
        own.failed = strerror(err)
        self.peer:shutdown()
    end
    return nil, err
end


local function refuse(self, response, err)
    self.own.failed = err
    local ok, failure = send_all(self.peer, response, REFUSAL_TIMEOUT)
    self.peer:shutdown()
    if not ok then
        return nil, strerror(failure)
    end
    return nil, err
end


local function begin_frames(self, request, response)
    local own = self.own
    rawset(self, "handshaked", true)
    rawset(self, "handshake_packets", { request = request, response = response, request, response })
    own.codec = natives.framed_new(self.is_client, own.max_payload)
    if own.input ~= "" then
        vm.natives.carried.feed(own.codec, own.input)
        own.input = ""
    end
    return true
end


-- A whole head, or what cannot become one, is looked at once, not with every byte that trickles in.
local function is_worth_parsing(input)
    return #input < 1024 or #input > 32768 or input:find("\n\r?\n") ~= nil
end


-- Whether the handshake is done; if not, its time begins with the first call.
local function is_done(self)
    check_open(self, 3)
    local own = self.own
    if not own.codec and self.handshaked then
        own.codec = natives.framed_new(self.is_client, own.max_payload)
    end
    own.handshake_deadline = own.handshake_deadline or now() + own.handshake_timeout
    return own.codec ~= nil
end


-- As the server: true | nil, err. Goes on where a time-out has left it.
function _M.check_handshake(self, timeout)
    if is_done(self) then
        return true
    end
    local own = self.own
    local deadline = timeout and now() + timeout
    while not own.failed do
        local list, len
        if own.input ~= "" and is_worth_parsing(own.input) then
            list, len = natives.http_request(own.input)
        end
        if list == false then
            refuse(self, len == "too large" and TOO_LARGE or BAD_REQUEST, "Malformed packet")
            return false, "Malformed packet"
        elseif list then
            own.input = sub(own.input, len + 1)
            local request = natives.tarantool_packet(list, "method", "uri", "version")
            local valid, response = handshake.validate_request(request)
            if not valid then
                return refuse(self, response, "Handshake failed")
            end
            response = handshake.accept_upgrade(request)
            local hook = rawget(self, "proxy_handshake")
            if hook then
                response = hook(self, request, response)
            end
            local ok, err = send_all(self.peer, handshake.reduce_response(response),
                                     left_of(deadline))
            if not ok then
                return nil, strerror(err)
            end
            if tostring(response.code) == "101" then
                return begin_frames(self, request, response)
            end
            -- The client may ask again on the same connection.
            own.handshake_deadline = now() + own.handshake_timeout
        else
            local ok, err = more_input(self, deadline)
            if not ok then
                return nil, err == "closed" and "Connection closed" or strerror(err)
            end
        end
    end
    return nil, own.failed
end


local function json(value)
    if type(value) == "table" then
        local out = {}
        for key, v in pairs(value) do
            out[#out + 1] = json(tostring(key)) .. ":" .. json(v)
        end
        return "{" .. concat(out, ",") .. "}"
    end
    return '"' .. tostring(value):gsub('[%c"\\]', function(c)
        return ("\\u%04x"):format(c:byte())
    end) .. '"'
end


-- A request and its headers, of which another connection may be made too.
local function copy(request)
    local to, headers = {}, {}
    for key, value in pairs(request or {}) do
        to[key] = value
    end
    for name, value in pairs(to.headers or {}) do
        headers[name] = value
    end
    to.headers = headers
    return to
end


-- As the client: true | false or nil, err. Goes on where a time-out has left it: the request is
-- sent once.
function _M.check_client_handshake(self, timeout)
    if is_done(self) then
        return true
    end
    local own = self.own
    if own.failed then
        return nil, own.failed
    end
    local deadline = timeout and now() + timeout
    if not own.request then
        local request = handshake.upgrade_request(copy(self.client_request))
        local ok, err = send_all(self.peer, handshake.reduce_request(request), left_of(deadline))
        if not ok then
            return false, "Connection closed: " .. (err == "closed" and "eof" or err)
        end
        own.request = request
    end
    while true do
        local list, len, granted
        if is_worth_parsing(own.input) then
            list, len, granted = natives.http_response(own.input,
                                                       own.request.headers["Sec-WebSocket-Key"])
        end
        if list == false then
            own.failed = "Malformed packet"
            self.peer:shutdown()
            return false, own.failed
        elseif list then
            own.input = sub(own.input, len + 1)
            local response = natives.tarantool_packet(list, "version", "code", "reason")
            if not granted then
                response.status = ""
                own.failed = "Handshake error: " .. json(response)
                self.peer:shutdown()
                return false, own.failed
            end
            return begin_frames(self, own.request, response)
        end
        local ok, err = more_input(self, deadline)
        if not ok then
            return nil, err == "closed" and "Connection closed: eof" or strerror(err)
        end
    end
end


-- true | nil, err
function _M.shake_hands(self, deadline)
    if self.own.codec then
        return true
    end
    local ok, err
    if self.is_client then
        ok, err = self:check_client_handshake(left_of(deadline))
    else
        ok, err = self:check_handshake(left_of(deadline))
    end
    if not ok then
        return nil, err
    end
    return true
end


return _M
