-- websocket.connect() with compression against servers that are not ours: Python's "websockets"
-- (server.py), Node's "ws" (server.cjs) and nchan. A request handler of nginx.conf that answers
-- with a TAP line for each check. Arguments of the request: the ports.

local websocket = require "resty.websocket"

local args = ngx.req.get_uri_args()


local function check(name, body)
    local ok, err = pcall(body)
    ngx.say(ok and "ok - " or "not ok - ", name)
    if not ok then
        ngx.say("# ", (tostring(err):gsub("\n", "\n# ")))
    end
end


local function connect(url, compression)
    local ws, err = websocket.connect(url, {
        compression = compression, timeout = 5000, max_message_size = "16m",
    })
    assert(ws, err)
    assert(ws.extensions and ws.extensions:find("permessage-deflate", 1, true), "nothing agreed")
    return ws
end


local function echoes(ws, data, typ)
    assert(ws:send(data, typ))
    local back, kind = ws:recv()
    assert(back == data and kind == typ, kind)
end


local AGREEMENTS = {
    default = true,
    ["small windows"] = { client_max_window_bits = 9, server_max_window_bits = 10 },
    ["no takeover"] = { client_no_context_takeover = true, server_no_context_takeover = true },
    ["level 9, all compressed"] = { level = 9, threshold = 0 },
}

for _, server in ipairs { "python", "node" } do
    for name, compression in pairs(AGREEMENTS) do
        check(server .. " server: " .. name, function()
            local ws = connect("ws://127.0.0.1:" .. args[server] .. "/echo", compression)
            for _, size in ipairs { 0, 1, 125, 1000, 65536, 2^20 } do
                echoes(ws, ("all work and no play "):rep(size / 21 + 1):sub(1, size), "text")
                echoes(ws, ("\0"):rep(size), "binary")
            end
            assert(ws:close())
        end)
    end
end


check("nchan: published messages come compressed", function()
    local ws = connect("ws://127.0.0.1:" .. args.nchan .. "/sub", true)
    local text = ("news of the day, "):rep(1000)
    for n = 1, 5 do
        local sock = ngx.socket.tcp()
        assert(sock:connect("127.0.0.1", args.nchan))
        assert(sock:send("POST /pub HTTP/1.0\r\nContent-Length: " .. #text + 1 .. "\r\n\r\n" .. text .. n))
        assert(sock:receive("*a"))
        assert(ws:recv() == text .. n, "another message")
    end
    assert(ws:close())
end)
