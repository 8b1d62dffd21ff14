-- Listening sockets as tarantool programs see them: what websocket.bind, websocket.server and their
-- relatives of TLS return. Loaded by the other shims of this folder alone.

local _, vm = ...

local listen = vm.module("resty.websocket.listen")
local socket = vm.module("websocket.socket")

local milliseconds = socket.milliseconds
local setmetatable = setmetatable
local strerror = socket.strerror

local _M = {}


-- Opens a port. `tls` is what listen.open takes.
function _M.open(host, port, opts)
    local server, err = listen.open { host = host == "localhost" and "127.0.0.1" or host,
                                      port = port, tls = opts.tls, backlog = opts.backlog,
                                      workers = opts.workers, early = opts.early,
                                      handshake_timeout = opts.handshake_timeout
                                          and milliseconds(opts.handshake_timeout) or nil }
    if not server then
        return nil, strerror(err)
    end
    return server
end


local server = {}
local server_mt = { __index = server }


-- What websocket.bind and websocket.server return. `accepted` makes of a connection what accept()
-- is to return.
function _M.server(listener, accepted)
    return setmetatable({ listener = listener, accepted = accepted }, server_mt)
end


-- The port listens since it was bound.
function server.listen(self)
    return self.listener:is_open()
end


-- Waits for a connection, at most `timeout` seconds: what was accepted | nil, err.
function server.accept(self, timeout)
    local conn, err = self.listener:accept(timeout and milliseconds(timeout))
    if not conn then
        return nil, strerror(err)
    end
    return self.accepted(conn)
end


function server.readable(self, timeout)
    return self.listener:readable(timeout and milliseconds(timeout)) or false
end


function server.close(self)
    local open = self.listener:is_open()
    self.listener:close()
    return open
end


function server.shutdown(self)
    return self:close()
end


function server.name(self)
    return self.listener:name()
end


function server.fd(self)
    return self.listener:fd()
end


function server.peer()
    return nil
end


function server.error()
    return nil
end


function server.errno()
    return 0
end


function server.nonblock()
    return true
end


function server.setsockopt()
    return nil, "not supported"
end


function server.getsockopt()
    return nil, "not supported"
end


return _M
