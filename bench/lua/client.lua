-- nginx as a WebSocket client: some connections at a time, on each of them so many messages to an
-- echo server and back, one by one.

local _M = {}


local function talk(module, uri, payload, count)
    local wb = require(module):new({ max_payload_len = 16 * 1024 * 1024 })
    local ok, err = wb:connect(uri)
    if not ok then
        return nil, "failed to connect: " .. err
    end

    for i = 1, count do
        ok, err = wb:send_binary(payload)
        local data, typ
        if ok then
            data, typ, err = wb:recv_frame()
        end
        if data ~= payload or typ ~= "binary" then
            return nil, "message " .. i .. " did not come back: " .. (err or typ)
        end
    end
    wb:close()
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
