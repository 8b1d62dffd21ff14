-- websocket.handshake: the opening handshake's packets as tables, as tarantool/websocket has them.
-- What makes an upgrade, and the key that answers it, are the codec's.

local natives, vm = ...

local concat = table.concat
local pairs = pairs
local tostring = tostring
local type = type

-- For opening.lua too.
local BAD_REQUEST = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"
natives.bad_request = BAD_REQUEST

local _M = {}

_M.sec_websocket_accept = natives.accept_key


-- Makes a request, the given table itself, one that asks for an upgrade; what it has already stays.
function _M.upgrade_request(request)
    local req = request or {}
    local headers = req.headers or {}
    req.headers = headers
    req.method = req.method or "GET"
    req.path = req.path or "/"
    req.version = req.version or "HTTP/1.1"
    headers["Connection"] = headers["Connection"] or "Upgrade"
    headers["Upgrade"] = headers["Upgrade"] or "websocket"
    headers["Sec-WebSocket-Version"] = headers["Sec-WebSocket-Version"] or "13"
    headers["Sec-WebSocket-Key"] = headers["Sec-WebSocket-Key"] or vm.natives.message.new_key()
    return req
end


local function text(value)
    return value ~= nil and tostring(value) or nil
end


local function accept_of(request)
    local headers = request.headers or {}
    return natives.http_upgrade(text(headers["upgrade"]), text(headers["connection"]),
                                text(headers["sec-websocket-key"]),
                                text(headers["sec-websocket-version"]))
end


-- true | false, the response that refuses. Header names in lower case.
function _M.validate_request(request)
    if accept_of(request) then
        return true
    end
    return false, BAD_REQUEST
end


function _M.accept_upgrade(request)
    local headers = request.headers or {}
    return {
        version = "HTTP/1.1",
        code = "101",
        status = "Switching Protocols",
        headers = {
            ["Upgrade"] = "websocket",
            ["Connection"] = headers["connection"],
            ["Sec-WebSocket-Accept"] = _M.sec_websocket_accept(text(headers["sec-websocket-key"])
                                                               or ""),
        },
    }
end


-- Header values come from requests too: none may add a line.
local function lines(first, headers)
    local out = { first }
    for name, value in pairs(headers or {}) do
        local values = type(value) == "table" and value or { value }
        for i = 1, #values do
            local line = tostring(name) .. ": " .. tostring(values[i])
            out[#out + 1] = (line:gsub("[%c]", " "))
        end
    end
    out[#out + 1] = "\r\n"
    return concat(out, "\r\n")
end


-- The bytes of a response.
function _M.reduce_response(response)
    return lines(tostring(response.version or "HTTP/1.1") .. " "
                 .. tostring(response.code or "200") .. " "
                 .. tostring(response.status or "OK"), response.headers)
end


-- The bytes of a request.
function _M.reduce_request(request)
    return lines(tostring(request.method or "GET") .. " "
                 .. tostring(request.path or request.uri or "/") .. " "
                 .. tostring(request.version or "HTTP/1.1"), request.headers)
end


-- For the peers: a parsed list as a table.
function natives.tarantool_packet(list, first, second, third)
    local packet, headers = {}, {}
    packet[first], packet[second], packet[third] = list[1], list[2], list[3]
    for i = 4, #list, 2 do
        headers[list[i]] = list[i + 1]
    end
    packet.headers = headers
    return packet
end


return _M
