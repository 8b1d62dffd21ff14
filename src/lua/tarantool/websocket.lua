-- websocket: tarantool/websocket's peers, frame by frame, over cosockets and over the connections of
-- ports opened from Lua. This shim orders handshake, reads and writes within their time; frames,
-- their rules and the answers to them are the natives'. Times in seconds.

local natives = ...

local listen = natives.module("resty.websocket.listen")
local socket = natives.module("websocket.socket")
local frame = natives.module("websocket.frame")
local handshake = natives.module("websocket.handshake")
natives.module("websocket.ssl")

local receive_some = socket.receive_some
local send_all = socket.send_all
local strerror = socket.strerror
local native_next = natives.framed_next
local native_output = natives.framed_output
local native_state = natives.framed_state
local concat = table.concat
local error = error
local max = math.max
local min = math.min
local now = ngx.now
local pairs = pairs
local rawget = rawget
local rawset = rawset
local running = coroutine.running
local setmetatable = setmetatable
local status = coroutine.status
local sub = string.sub
local tonumber = tonumber
local tostring = tostring
local type = type

local PING_FREQUENCY = 120
local HANDSHAKE_TIMEOUT = 10
-- A received frame's, where the program sets no limit of its own.
local MAX_PAYLOAD = 16 * 1024 * 1024
-- How long a peer may take to answer a close frame, where the program does not say.
local CLOSE_TIMEOUT = 3
local BAD_REQUEST = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"
local TOO_LARGE = "HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\n\r\n"

local wspeer = { TEXT = frame.TEXT, BINARY = frame.BINARY }
wspeer.__index = wspeer


function wspeer.__newindex()
    error("Attempt to modify read-only wspeer properties", 2)
end


local function check_open(self)
    if self.peer.own.closed then
        error("attempt to use closed socket", 3)
    end
end


local function left_of(deadline)
    return deadline and deadline - now()
end


-- Sends what is queued. A connection of a port takes bytes in order, whoever brings them. A cosocket
-- has one sender at a time: what others queue meanwhile goes with it, and they wait for it (but for
-- readers, who must not).
local function push(self, deadline, reads)
    local own, peer = self.own, self.peer
    local codec = own.codec
    if peer.own.accepted then
        local out = native_output(codec)
        if out then
            local ok, err
            if reads then
                ok, err = peer.sock:queue(out)
            else
                ok, err = send_all(peer, out, left_of(deadline))
            end
            if not ok then
                return nil, err
            end
        end
        return true
    end

    while own.pushing and status(own.pushing) ~= "dead" do
        if reads then
            return true
        end
        local waiters = own.waiters or require("ngx.semaphore").new()
        own.waiters = waiters
        waiters:wait(max(0, min(left_of(deadline) or 1, 1)))
        if deadline and now() >= deadline then
            return nil, "timeout"
        end
    end
    own.pushing = running()
    local out, ok, err = native_output(codec), true, nil
    while out and ok do
        ok, err = send_all(peer, out, left_of(deadline))
        out = ok and native_output(codec)
    end
    own.pushing = nil
    local waiters = own.waiters
    if waiters and waiters:count() < 0 then
        waiters:post(-waiters:count())
    end
    if not ok then
        return nil, err
    end
    return true
end


-- Handshake -------------------------------------------------------------------------------------

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
    local ok, failure = send_all(self.peer, response, CLOSE_TIMEOUT)
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
        natives.framed_feed(own.codec, own.input)
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
    check_open(self)
    local own = self.own
    if not own.codec and self.handshaked then
        own.codec = natives.framed_new(self.is_client, own.max_payload)
    end
    own.handshake_deadline = own.handshake_deadline or now() + own.handshake_timeout
    return own.codec ~= nil
end


-- As the server: true | nil, err. Goes on where a time-out has left it.
function wspeer.check_handshake(self, timeout)
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


-- As the client: true | false or nil, err. Goes on where a time-out has left it: the request is
-- sent once.
function wspeer.check_client_handshake(self, timeout)
    if is_done(self) then
        return true
    end
    local own = self.own
    if own.failed then
        return nil, own.failed
    end
    local deadline = timeout and now() + timeout
    if not own.request then
        local request = handshake.upgrade_request(self.client_request)
        local ok, err = send_all(self.peer, handshake.reduce_request(request), left_of(deadline))
        if not ok then
            return false, "Connection closed: " .. (err == "closed" and "eof" or err)
        end
        own.request = request
    end
    while true do
        local list, len = natives.http_response(own.input)
        if list == false then
            own.failed = "Malformed packet"
            self.peer:shutdown()
            return false, own.failed
        elseif list then
            own.input = sub(own.input, len + 1)
            local response = natives.tarantool_packet(list, "version", "code", "reason")
            local key = own.request.headers["Sec-WebSocket-Key"]
            if response.code ~= "101" or response.headers["sec-websocket-accept"]
                                         ~= handshake.sec_websocket_accept(key) then
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
local function shake_hands(self, deadline)
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


-- Pings -----------------------------------------------------------------------------------------

local function has_pong(self)
    local own = self.own
    local pongs = native_state(own.codec)
    if pongs > own.pongs then
        own.pongs = pongs
        rawset(self, "ping_sended", false)
    end
    return not self.ping_sended
end


-- A program that only writes has its pongs noticed too: what lies there is taken into frames, which
-- stay for read(). Somebody who reads, or frames that nobody takes, stand in for a pong.
local function look_for_pong(self)
    local codec = self.own.codec
    while not has_pong(self) do
        local _, full, over = native_state(codec)
        if full or over then
            return full
        end
        local data, err = receive_some(self.peer, 0)
        if not data then
            return err:find("busy", 1, true) ~= nil
        end
        natives.framed_feed(codec, data)
    end
    return true
end


-- Pings where it is time: true | nil, err.
function wspeer.check_ping_pong(self, timeout)
    check_open(self)
    local freq, own = self.ping_freq, self.own
    if not freq or not own.codec then
        return true
    end
    local last = self.last_ping_sended
    if last and now() - last < freq then
        return true
    end
    if last and not has_pong(self) and not look_for_pong(self) then
        self:shutdown(1000, "pong timeout", 0)
        return nil, "Pong timeout"
    end
    rawset(self, "last_ping_sended", now())
    rawset(self, "ping_sended", true)
    natives.framed_ping(own.codec)
    if not push(self, timeout and now() + timeout, true) then
        return nil, "Connection write error"
    end
    return true
end


-- Frames ----------------------------------------------------------------------------------------

-- Nothing more comes, for the reason `why`. The first to notice ends the connection.
local function ended(self, why)
    local own = self.own
    local told = own.told
    own.told = true
    if told or why == "lost" then
        return {}
    end
    rawset(self, "close_received", why == "closed")
    if why == "closed" then
        natives.framed_close(own.codec, 1000)
    end
    rawset(self, "close_sended", true)
    push(self, now() + CLOSE_TIMEOUT, true)
    self.peer:shutdown()
    if own.closers then
        own.closers:post(1)
    end
    if why == "limit" then
        error("Payload size limit reached", 3)
    end
    return nil, why == "closed" and "Close handshaked" or "Validation error"
end


-- The next data frame { opcode, fin, data, rsv } | {} at the end of the stream | nil, err
function wspeer.read(self, timeout)
    check_open(self)
    local deadline = timeout and now() + timeout
    local ok, err = shake_hands(self, deadline)
    if not ok then
        return nil, err
    end
    local codec, freq = self.own.codec, self.ping_freq
    while true do
        local opcode, fin, data = native_next(codec)
        push(self, deadline, true)
        if type(opcode) == "number" then
            rawset(self, "last_opcode", not fin and (opcode ~= 0 and opcode or self.last_opcode)
                                        or nil)
            return { opcode = opcode, fin = fin, data = data, rsv = 0 }
        elseif opcode then
            return ended(self, opcode)
        end

        ok, err = self:check_ping_pong(left_of(deadline))
        if not ok then
            return nil, err
        end
        local left = left_of(deadline)
        local wait = left
        if freq then
            local due = self.last_ping_sended + freq - now()
            wait = min(left or due, due)
        end
        local chunk
        chunk, err = receive_some(self.peer, wait)
        if chunk then
            natives.framed_feed(codec, chunk)
        elseif err == "closed" then
            natives.framed_lost(codec)
        elseif err ~= "timeout" then
            if not err:find("busy", 1, true) then
                natives.framed_lost(codec)
            end
            return nil, strerror(err)
        elseif deadline and now() >= deadline then
            return nil, strerror(err)
        end
    end
end


-- Sends a string as text, or a frame { opcode, fin, data }: bytes on the wire | nil, err
function wspeer.write(self, data, timeout)
    check_open(self)
    local opcode, fin = frame.TEXT, true
    if type(data) == "table" then
        opcode, fin, data = data.opcode, data.fin ~= false, data.data
    end
    if opcode ~= 0 and opcode ~= frame.TEXT and opcode ~= frame.BINARY then
        return nil, "You can send only text or binary frame"
    end
    if data ~= nil and type(data) ~= "string" then
        error("bad frame data (string expected, got " .. type(data) .. ")", 2)
    end
    local deadline = timeout and now() + timeout
    local ok, err = shake_hands(self, deadline)
    if not ok then
        return nil, err
    end
    ok, err = self:check_ping_pong(left_of(deadline))
    if not ok then
        return nil, err
    end
    local bytes = natives.framed_send(self.own.codec, fin, opcode, data)
    if not bytes then
        return nil, "Broken pipe"
    end
    ok, err = push(self, deadline)
    if not ok then
        return nil, strerror(err)
    end
    return bytes
end


-- Whether a frame may come now, by the frames validated before: true | false, { code, message }
function wspeer.validate(self, fr)
    local own = self.own
    own.judge = own.judge or natives.framed_rules()
    local code, message = natives.framed_judge(own.judge, fr.opcode, fr.fin ~= false, fr.rsv,
                                               fr.data)
    if code then
        return false, { code = code, message = message }
    end
    return true
end


-- Reads on until the peer's close frame: what comes before it is dropped.
local function await_close(self, deadline)
    local own = self.own
    local codec = own.codec
    while true do
        local kind = native_next(codec)
        push(self, deadline, true)
        if type(kind) == "string" then
            rawset(self, "close_received", kind == "closed")
            return
        elseif kind == nil then
            local data, err = receive_some(self.peer, left_of(deadline))
            if data then
                natives.framed_feed(codec, data)
            elseif err:find("busy", 1, true) then
                -- Then the light thread in read() finds it.
                own.closers = own.closers or require("ngx.semaphore").new()
                own.closers:wait(max(0, left_of(deadline)))
                return
            else
                natives.framed_lost(codec)
                return
            end
        end
    end
end


-- Closes with a close frame, waits for the peer's and ends the connection: true | nil, err
function wspeer.shutdown(self, code, reason, timeout)
    check_open(self)
    if code ~= nil and (type(code) ~= "number" or code < 0 or code > 65535) then
        error("bad argument #1 to 'shutdown' (close code expected)", 2)
    end
    local own = self.own
    local deadline = now() + (timeout or CLOSE_TIMEOUT)
    if own.codec and not own.told then
        natives.framed_close(own.codec, code, reason and tostring(reason))
        rawset(self, "close_sended", true)
        rawset(self, "closed_by_me", true)
        local ok, err = push(self, deadline)
        if not ok then
            natives.framed_lost(own.codec)
            own.told = true
            return nil, strerror(err)
        end
        await_close(self, deadline)
        natives.framed_lost(own.codec)
        own.told = true
    end
    self.peer:shutdown()
    return true
end


-- Closes the socket at once.
function wspeer.close(self)
    local own = self.own
    if own.codec then
        natives.framed_lost(own.codec)
    end
    self.peer:close()
end


-- The text of the last socket error, or nil.
function wspeer.error(self)
    check_open(self)
    return self.peer:error()
end


-- Its number; 0 where there was none.
function wspeer.errno(self)
    check_open(self)
    return self.peer:errno()
end


-- Constructors ----------------------------------------------------------------------------------

-- A peer over a socket: a cosocket, a raw request socket, a connection that was accepted, or the
-- `peer` of another. Nothing is sent or received yet.
function wspeer.new(peer, ping_freq, is_client, is_handshaked, client_request, max_receive_payload,
                    handshake_timeout)
    if peer == nil then
        error("attempt to index local 'peer' (a nil value)", 2)
    end
    peer = socket.wrap(peer)
    local address = peer:peer()
    return setmetatable({
        peer = peer,
        peerhost = address and address.host,
        peerport = address and address.port,
        ping_freq = ping_freq or nil,
        is_client = is_client and true or false,
        handshaked = is_handshaked and true or false,
        client_request = client_request,
        -- Ours: what the natives and this shim keep between two calls.
        own = {
            input = "",
            pongs = 0,
            max_payload = max_receive_payload or MAX_PAYLOAD,
            handshake_timeout = handshake_timeout or HANDSHAKE_TIMEOUT,
        },
    }, wspeer)
end


-- scheme, host, port or nil, path and what follows it | nothing
local function parse_url(url)
    if type(url) ~= "string" then
        error("Websocket invalid url: " .. tostring(url), 3)
    end
    local scheme, rest = url:match("^(%a[%w+.-]*)://(.*)$")
    rest = rest or url
    local authority, path = rest:match("^([^/?#]*)(.*)$")
    authority = authority:gsub("^.*@", "")
    local host, service = authority:match("^%[([%x:.]+)%]:?(%d*)$")
    if not host then
        host, service = authority:match("^([%w._-]*):?(%d*)$")
    end
    local port = service and service ~= "" and tonumber(service) or nil
    if not host or port and port > 65535 or url:find("[%c ]") then
        error("Websocket invalid url: " .. url, 3)
    end
    -- Without a path a query has no place in the request line.
    if path:sub(1, 1) ~= "/" then
        path = "/"
    end
    return scheme or "ws", host ~= "" and host or "localhost", port, (path:gsub("#.*$", ""))
end


-- Connects in TCP; handshakes come with the first read() or write(). A peer | nil, err
function wspeer.connect(url, request, options)
    local scheme, host, port, path = parse_url(url)
    options = options or {}
    local secure = scheme == "wss" or options.ctx ~= nil
    port = port or (scheme == "wss" and 443 or 80)
    request = request or {}
    request.method = "GET"
    request.path = request.path or path
    request.version = request.version or "HTTP/1.1"
    request.headers = request.headers or {}
    local name = host:find(":", 1, true) and "[" .. host .. "]" or host
    request.headers.Host = request.headers.Host or name .. ":" .. port
    local peer, err = socket.connect(host, port, options.timeout,
                                     secure and natives.tarantool_client_tls(options.ctx, host))
    if not peer then
        return nil, err
    end
    return wspeer.new(peer, options.ping_frequency, true, false, request,
                      options.max_receive_payload, options.handshake_timeout or math.huge)
end


-- Opens the port of a URL: listener | nil, err
local function open(url, options)
    local scheme, host, port = parse_url(url)
    options.ping_frequency = options.ping_frequency or PING_FREQUENCY
    local tls, err
    if scheme == "wss" or options.ctx then
        tls, err = natives.tarantool_server_tls(options.ctx)
        if not tls then
            return nil, err
        end
    end
    return socket.open(host, port or (scheme == "wss" and 443 or 80), {
        tls = tls, backlog = options.backlog, workers = options.workers,
        handshake_timeout = options.handshake_timeout,
    })
end


local function accepted(conn, options)
    return wspeer.new(conn, options.ping_frequency, false, false, nil, options.max_receive_payload,
                      options.handshake_timeout)
end


-- Opens a port and calls handler(peer) in a light thread of its own for every connection: the
-- listening socket, its address | nil, err
function wspeer.server(url, handler, options)
    options = options or {}
    local listener, err = open(url, options)
    if not listener then
        return nil, err
    end
    local function finish(conn)
        local codec = conn.ws and conn.ws.own.codec
        if codec then
            natives.framed_lost(codec)
        end
    end
    local ok
    ok, err = listen.serve(listener, function(conn)
        local ws = accepted(conn, options)
        conn.ws = ws
        handler(ws)
        finish(conn)
    end, function(failure, conn)
        finish(conn)
        ngx.log(ngx.ERR, "websocket handler failed: ", tostring(failure), listen.client(conn))
    end)
    if not ok then
        listener:close()
        return nil, err
    end
    return socket.server(listener, function(conn)
        return accepted(conn, options)
    end), listener:name()
end


-- Opens a port whose connections are taken by accept(): a listening socket | false, err
function wspeer.bind(url, options)
    options = options or {}
    local listener, err = open(url, options)
    if not listener then
        return false, err
    end
    return socket.server(listener, function(conn)
        return accepted(conn, options)
    end)
end


return wspeer
