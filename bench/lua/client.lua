-- nginx as a WebSocket client: some connections at a time, on each of them so many messages to an
-- echo server and back, one by one.

local _M = {}


-- The object, and its methods that send and receive.
local function open(module, uri)
    local max = 16 * 1024 * 1024
    local api = require(module)
    if api.connect and not api.new then
        local ws, err = api.connect(uri, { max_message_size = max })
        return ws, ws and ws.send or err, ws and ws.recv
    end
    local wb = api:new({ max_payload_len = max })
    local ok, err = wb:connect(uri)
    return ok and wb, ok and wb.send_binary or err, wb.recv_frame
end


local function talk(module, uri, payload, count)
    local ws, send, recv = open(module, uri)
    if not ws then
        return nil, "failed to connect: " .. send
    end

    for i = 1, count do
        local ok, err = send(ws, payload, "binary")
        local data, typ
        if ok then
            data, typ, err = recv(ws)
        end
        if data ~= payload or typ ~= "binary" then
            return nil, "message " .. i .. " did not come back: " .. (err or typ)
        end
    end
    ws:close()
    return true
end


function _M.run()
    local args = ngx.req.get_uri_args()
    local payload = string.rep("websocket frames", tonumber(args.size) / 16)
    local threads = {}
    for i = 1, tonumber(args.connections) do
        threads[i] = ngx.thread.spawn(talk, args.module, args.uri, payload, tonumber(args.count))
    end
    for _, thread in ipairs(threads) do
        local _, ok, err = ngx.thread.wait(thread)
        if not ok then
            ngx.status = 502
            return ngx.say(err)
        end
    end
    ngx.say("done")
end


return _M
