-- resty.websocket.client against the servers of server.py: a request handler of nginx.conf that
-- answers with a TAP line for each check. Arguments of the request: the ports.

local client = require "resty.websocket.client"

local bases = {
    ws = "ws://127.0.0.1:" .. ngx.var.arg_ws,
    wss = "wss://127.0.0.1:" .. ngx.var.arg_wss,
}
local checks = {}


local function check(name, body)
    checks[#checks + 1] = { name, body }
end


local function equal(got, expected)
    if got ~= expected then
        local function brief(value)
            value = tostring(value)
            return #value > 100 and #value .. " bytes" or value
        end
        error("got " .. brief(got) .. ", expected " .. brief(expected), 2)
    end
end


local function pattern(size)
    local bytes = {}
    for i = 0, 250 do
        bytes[#bytes + 1] = string.char(i)
    end
    return table.concat(bytes):rep(math.ceil(size / 251)):sub(1, size)
end


local function connect(base, path, opts)
    local wb = assert(client:new{ timeout = 5000, max_payload_len = 16777216 })
    opts = opts or {}
    if base == bases.wss then
        opts.ssl_verify = true
        opts.host = opts.host or "localhost"
        opts.server_name = "localhost"
    end
    return wb, wb:connect(base .. path, opts)
end


local function open(base, path, opts)
    local wb, ok, err, response = connect(base, path, opts)
    assert(ok, err)
    return wb, response
end


check("text and binary of every class of length come back", function (base)
    local wb = open(base, "/echo")
    for _, size in ipairs{ 0, 1, 125, 126, 65535, 65536, 1048576, 16777216 } do
        assert(wb:send_binary(pattern(size)))
        local data, typ, err = wb:recv_frame()
        equal(typ, "binary")
        equal(err, nil)
        equal(data, pattern(size))
    end
    assert(wb:send_text("zażółć 👋"))
    local data, typ = wb:recv_frame()
    equal(data .. typ, "zażółć 👋text")
    assert(wb:close())
end)


check("1,000 messages sent ahead of their echoes", function (base)
    local wb = open(base, "/echo")
    local writer = ngx.thread.spawn(function ()
        for i = 1, 1000 do
            assert(wb:send_text(i .. pattern(i):gsub("[\128-\255]", "?")))
        end
    end)
    for i = 1, 1000 do
        equal(wb:recv_frame(), i .. pattern(i):gsub("[\128-\255]", "?"))
    end
    assert(ngx.thread.wait(writer))
    assert(wb:close())
end)


check("the library reads the request as it was meant", function (base)
    local wb, response = open(base, "/facts?a=b", {
        protocols = { "v1", "v2" }, origin = "http://page.test", headers = { "X-One: 1", "X-One: 2" },
        host = "named.test",
    })
    equal(wb:recv_frame(), '{"extensions": [], "host": "named.test", "origin": "http://page.test", '
          .. '"path": "/facts?a=b", "subprotocol": "v2", "x-one": ["1", "2"]}')
    equal(response:match("Sec%-WebSocket%-Protocol: ([^\r]*)"), "v2")
    assert(wb:close())
end)


check("fragments both ways", function (base)
    local wb = open(base, "/fragments")
    local parts = {}
    repeat
        local data, typ, err = wb:recv_frame()
        equal(typ, parts[1] and "continuation" or "text")
        parts[#parts + 1] = data
    until err ~= "again"
    equal(table.concat(parts, "|"), "one |two |three|")
    assert(wb:send_frame(false, 1, "a"))
    assert(wb:send_frame(false, 0, "b"))
    assert(wb:send_frame(true, 0, "c"))
    equal(wb:recv_frame(), "abc")
    assert(wb:close())
end)


check("pings of both sides", function (base)
    local wb = open(base, "/ping")
    local data, typ = wb:recv_frame()
    equal(data .. typ, "are you there?ping")
    assert(wb:send_pong(data))
    equal(wb:recv_frame(), "pong came")
    assert(wb:send_ping("and you?"))
    data, typ = wb:recv_frame()
    equal(data .. typ, "and you?pong")
    assert(wb:close())
end)


check("the server closes", function (base)
    for _, case in ipairs{ { 1000, "bye" }, { 4999, "later" } } do
        local wb = open(base, "/close?code=" .. case[1] .. "&reason=" .. case[2])
        local data, typ, code = wb:recv_frame()
        equal(data .. typ .. code, case[2] .. "close" .. case[1])
        assert(wb:send_close(code, data))
        equal(select(3, wb:recv_frame()), "failed to receive the first 2 bytes: closed")
    end
end)


check("the client closes", function (base)
    local wb = open(base, "/closed")
    assert(wb:send_close(3000, "enough"))
    local data, typ, code = wb:recv_frame()
    equal(data .. typ .. code, "enoughclose3000")
    assert(wb:close())
    equal(open(base, "/closed?tell"):recv_frame(), "3000 enough")

    wb = open(base, "/closed")
    assert(wb:close())
    equal(open(base, "/closed?tell"):recv_frame(), "1005 ")
end)


check("a refusal, and its body", function (base)
    local wb, ok, err, response = connect(base, "/refused")
    equal(ok, nil)
    equal(err, "failed websocket handshake: unexpected response status: 403")
    equal(wb.sock:receive(tonumber(response:match("Content%-Length: (%d+)"))), "not for you")
    assert(wb:close())
end)


check("what the library refuses it tells by a close code", function (base)
    -- An unmasked frame (RFC 6455 5.1), and a reserved opcode (5.2).
    local wb = open(base, "/echo")
    wb.send_unmasked = true
    assert(wb:send_text("bare"))
    equal(select(3, wb:recv_frame()), 1002)
    wb = open(base, "/echo")
    assert(wb:send_frame(true, 3, ""))
    equal(select(3, wb:recv_frame()), 1002)
end)


check("a pooled connection goes on", function (base)
    local name = { pool = "check of " .. base }
    local wb = open(base, "/echo", name)
    assert(wb:send_text("a"))
    equal(wb:recv_frame(), "a")
    assert(wb:set_keepalive())
    local again, response = open(base, "/echo", name)
    equal(response, "connection reused")
    assert(again:send_text("b"))
    equal(again:recv_frame(), "b")
    assert(again:close())
end)


for _, scheme in ipairs{ "ws", "wss" } do
    for _, case in ipairs(checks) do
        local ok, err = pcall(case[2], bases[scheme])
        ngx.say(ok and "ok - " or "not ok - ", scheme, ": ", case[1])
        if not ok then
            ngx.say("# ", (tostring(err):gsub("\n", "\n# ")))
        end
    end
end
