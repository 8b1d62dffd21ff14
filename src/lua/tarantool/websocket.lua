-- websocket: tarantool/websocket's class of peers, and what makes them: a socket that is there
-- (new), a connection to a server (connect), a port opened from Lua (server, bind). Times in seconds.

local natives, vm = ...

local listen = vm.module("resty.websocket.listen")
local listening = vm.module("websocket.listening")
local socket = vm.module("websocket.socket")
local wspeer = vm.module("websocket.peer")
vm.module("websocket.ssl")

local error = error
local setmetatable = setmetatable
local tonumber = tonumber
local tostring = tostring
local type = type

local PING_FREQUENCY = 120
local HANDSHAKE_TIMEOUT = 10
-- A received frame's, where the program sets no limit of its own.
local MAX_PAYLOAD = 16 * 1024 * 1024


-- Limits are numbers: of a string no comparison would hold. `level` is error()'s.
local function check_numbers(level, ping_frequency, max_receive_payload, handshake_timeout)
    local function check(name, value)
        if value and type(value) ~= "number" then
            error('bad "' .. name .. '" (number expected, got ' .. type(value) .. ")", level + 2)
        end
    end
    check("ping_frequency", ping_frequency)
    check("max_receive_payload", max_receive_payload)
    check("handshake_timeout", handshake_timeout)
end


local function check_options(options)
    options = options or {}
    check_numbers(3, options.ping_frequency, options.max_receive_payload, options.handshake_timeout)
    return options
end


-- A peer over a socket: a cosocket, a raw request socket, a connection that was accepted, or the
-- `peer` of another. Nothing is sent or received yet.
function wspeer.new(peer, ping_freq, is_client, is_handshaked, client_request, max_receive_payload,
                    handshake_timeout)
    if peer == nil then
        error("attempt to index local 'peer' (a nil value)", 2)
    end
    check_numbers(2, ping_freq, max_receive_payload, handshake_timeout)
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
        close_sended = false,
        close_received = false,
        closed_by_me = false,
        ping_sended = false,
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
    return scheme and scheme:lower() or "ws", host ~= "" and host or "localhost", port, (path:gsub("#.*$", ""))
end


-- Connects in TCP; handshakes come with the first read() or write(). A peer | nil, err
function wspeer.connect(url, request, options)
    local scheme, host, port, path = parse_url(url)
    options = check_options(options)
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


-- Opens the port of a URL: listener | nil, err. `early` is listen.open's.
local function open(url, options, early)
    local scheme, host, port = parse_url(url)
    options.ping_frequency = options.ping_frequency or PING_FREQUENCY
    local tls, err
    if scheme == "wss" or options.ctx then
        tls, err = natives.tarantool_server_tls(options.ctx)
        if not tls then
            return nil, err
        end
    end
    return listening.open(host, port or (scheme == "wss" and 443 or 80), {
        tls = tls, backlog = options.backlog, workers = options.workers, early = early,
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
    options = check_options(options)
    local listener, err = open(url, options)
    if not listener then
        return nil, err
    end
    local function finish(conn)
        local codec = conn.ws and conn.ws.own.codec
        if codec then
            vm.natives.carried.lost(codec)
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
    return listening.server(listener, function(conn)
        return accepted(conn, options)
    end), listener:name()
end


-- Opens a port whose connections are taken by accept(), before their TLS handshake: a listening
-- socket | false, err
function wspeer.bind(url, options)
    options = check_options(options)
    local listener, err = open(url, options, true)
    if not listener then
        return false, err
    end
    return listening.server(listener, function(conn)
        return accepted(conn, options)
    end)
end


return wspeer
