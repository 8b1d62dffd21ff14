-- Every call that the README of lua-websockets shows, in one program. A client of "super-test" says
-- which one it wants to see, and is told what came of it.
local folder, port = ...
local websockets = require "websockets"

local function echo_cb(ws)
    ws:on_receive(function(ws, data)
        ws:write(data, websockets.WRITE_TEXT)
    end)
end

-- Written by the callbacks, read by "fds".
local fds = {}
local function register_fd(fd) fds[fd] = true end
local function unregister_fd(fd) fds[fd] = nil end

local function handle_http(ws, uri)
    ws:serve_http_file(folder .. "test-server/test.html", "text/html")
end

local context
local calls = {}

function calls.write(ws)
    return ws:write("hello", websockets.WRITE_TEXT)
end

function calls.binary(ws)
    return ws:write("hello", websockets.WRITE_BINARY)
end

function calls.hostname()
    return context:canonical_hostname()
end

function calls.fds(ws)
    return tostring(fds[ws:get_socket_fd()])
end

function calls.peer(ws)
    local name, rip = ws:get_peer_addresses()
    return name .. " " .. rip
end

function calls.remaining(ws)
    return ws:remaining_packet_payload()
end

function calls.flow(ws)
    return ws:rx_flow_control(true)
end

function calls.forward_text(ws)
    ws:on_broadcast(websockets.WRITE_TEXT) -- forward broadcast as text
end

function calls.forward_binary(ws)
    ws:on_broadcast(websockets.WRITE_BINARY) -- forward broadcast binary
end

function calls.intercept(ws)
    ws:on_broadcast(function(ws, data) -- intercept broadcast
        ws:write(data .. "hello", websockets.WRITE_TEXT)
    end)
end

function calls.broadcast(ws)
    return ws:broadcast("all echo hello")
end

function calls.broadcast_echo()
    return context:broadcast("echo", "hello")
end

function calls.close(ws)
    ws:on_closed(function() ngx.log(ngx.NOTICE, "bye") end)
    ws:close(1000)
end

function calls.destroy()
    context:destroy()
end

context = websockets.context {
    -- the port the websockets server listens on
    port = port or 8001,
    -- a callback for http requests
    on_http = handle_http,
    on_add_fd = register_fd,
    on_del_fd = unregister_fd,
    protocols = {
        ["echo"] = echo_cb,
        ["super-test"] = function(ws)
            ws:on_receive(function(ws, name)
                local result = calls[name](ws)
                ws:write(name .. ": " .. tostring(result))
            end)
        end,
    },
    -- a string describing the interface to listen on
    interf = "lo",
}

context:fork_service_loop()
