-- websockets.methods: what a program calls on a websocket, and broadcasts: to the connections of a
-- context, and by the hub to those on the same port in other workers. Used by websockets.lua.

local _, vm = ...

local connection = vm.module "websockets.connection"
local running = vm.module "websockets.running"

local mailbox_take = vm.natives.hub.mailbox_take
local error = error
local io_open = io.open
local ipairs = ipairs
local pairs = pairs
local select = select
local tostring = tostring
local type = type
local ngx = ngx

local WRITE_HTTP = 3

-- Misuse, in the words of Lua's own library. `level` as error() has it, seen from the caller.
local function bad_argument(n, name, expected, value, level)
    local got = value == nil and "no value" or type(value)
    error("bad argument #" .. n .. " to '" .. name .. "' (" .. expected .. " expected, got " .. got
          .. ")", (level or 2) + 1)
end


local function check_data(n, name, data)
    if type(data) == "number" then
        return tostring(data)
    elseif type(data) ~= "string" then
        bad_argument(n, name, "string", data, 3)
    end
    return data
end


-- Websockets -------------------------------------------------------------------------------------

local websocket = {}
local websocket_mt = {
    __index = websocket,
    __tostring = function(self) return ("websocket %p"):format(self) end,
    __metatable = "websockets.ws",
}


function websocket.write(self, data, typ)
    local conn = self[1]
    data = check_data(1, "write", data)
    if typ ~= nil and type(typ) ~= "number" then
        bad_argument(2, "write", "number", typ)
    end
    if conn.answer and not conn.answered and typ == WRITE_HTTP then
        conn.answer[#conn.answer + 1] = data
        return 0
    end
    return connection.write(conn, data, typ or 0)
end


for _, name in ipairs { "on_receive", "on_closed", "on_server_writeable" } do
    websocket[name] = function(self, callback)
        if type(callback) ~= "function" then
            bad_argument(1, name, "function", callback)
        end
        connection.set(self[1], name, callback)
    end
end


-- A function, or the type as which broadcasts are forwarded.
function websocket.on_broadcast(self, mode)
    if type(mode) ~= "function" and type(mode) ~= "number" then
        error("websocket on_broadcast value not supported", 2)
    end
    connection.set(self[1], "on_broadcast", mode)
end


-- 0: at once. Otherwise the peer has five seconds to answer; a second call does not wait for them.
function websocket.close(self, reason)
    local conn = self[1]
    if reason ~= nil and type(reason) ~= "number" then
        bad_argument(1, "close", "number", reason)
    end
    reason = reason or 0
    if reason ~= 0 and vm.natives.message.close_fault(reason, "") then
        error("bad argument #1 to 'close' (invalid close code " .. reason .. ")", 2)
    end
    if conn.finished then
        return
    elseif reason == 0 or conn.closing or not conn.established then
        connection.finish(conn)
    else
        connection.begin_close(conn, reason, "")
    end
end


function websocket.get_socket_fd(self)
    return self[1].finished and -1 or self[1].fd
end


-- Name and address. The name is the address too: a reverse lookup would make everybody wait.
function websocket.get_peer_addresses(self)
    local address = self[1].peer:peer()
    local host = address and address.host or ""
    return host, host
end


function websocket.remaining_packet_payload(self)
    return self[1].remaining
end


function websocket.rx_flow_control(self, enable)
    if type(enable) ~= "boolean" and type(enable) ~= "number" then
        bad_argument(1, "rx_flow_control", "boolean or number", enable)
    end
    local conn = self[1]
    if conn.finished or not conn.established then
        return 1
    end
    connection.pause(conn, not enable or enable == 0)
    return 0
end


-- Relative names are below nginx's prefix.
function websocket.serve_http_file(self, filename, content_type)
    local answer = self[1].answer
    filename = check_data(1, "serve_http_file", filename)
    content_type = check_data(2, "serve_http_file", content_type)
    if not answer or self[1].answered then
        return -1
    end
    if filename:sub(1, 1) ~= "/" then
        filename = ngx.config.prefix() .. filename
    end
    local file = io_open(filename, "rb")
    -- A folder can be opened, and read not even to its end.
    if not file or select(2, file:read(0)) then
        answer[#answer + 1] = "HTTP/1.0 400 Bad\r\nServer: libwebsockets\r\n\r\n"
        return -1
    end
    answer[#answer + 1] = "HTTP/1.0 200 OK\r\nServer: libwebsockets\r\nContent-Type: "
                          .. content_type:gsub("%c", "") .. "\r\nContent-Length: "
                          .. ("%d"):format(file:seek("end")) .. "\r\n\r\n"
    file:seek("set")
    answer[#answer + 1] = file
    return 0
end


function websocket.service(self, ...)
    local conn = self[1]
    if conn.finished or not conn.queued or select("#", ...) == 0 then
        return 0
    end
    return running.run(conn) and 1 or 0
end


-- Broadcasts -------------------------------------------------------------------------------------

local function broadcast_here(state, protocol, data)
    local members = {}
    for conn in pairs(state.members[protocol]) do
        members[#members + 1] = conn
    end
    for _, conn in ipairs(members) do
        connection.broadcast(conn, data)
    end
end


-- To the connections of this context at once, to the others on this port when their service() comes
-- to it. 0 | -1 where the others cannot be reached.
local function broadcast(state, protocol, data)
    broadcast_here(state, protocol, data)
    if not state.topic then
        return 0
    end
    local reached, err = vm.natives.hub.publish(state.topic .. protocol, data, false, state.id)
    if not reached then
        ngx.log(ngx.WARN, "websockets: broadcast to the other workers: ", err)
        return -1
    end
    return 0
end


function websocket.broadcast(self, data)
    local conn = self[1]
    data = check_data(1, "broadcast", data)
    if conn.finished or not conn.established then
        return -1
    end
    return broadcast(conn.state, conn.protocol, data)
end


-- What other workers have broadcast. Returns whether there was something.
local function take_messages(state)
    local topic, data = mailbox_take(state.mailbox)
    local some = topic ~= nil
    while topic and not state.destroyed do
        local protocol = topic:sub(#state.topic + 1)
        if state.members[protocol] then
            broadcast_here(state, protocol, data)
        end
        topic, data = mailbox_take(state.mailbox)
    end
    if data and not topic then
        ngx.log(ngx.WARN, "websockets: ", data, " broadcasts lost, because service() came too late")
    end
    return some
end


return {
    metatable = websocket_mt, bad_argument = bad_argument, check_data = check_data,
    broadcast = broadcast, take_messages = take_messages,
}
