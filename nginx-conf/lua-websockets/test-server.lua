-- The test server: its own loop services the context, and raises the numbers after each turn.
--   loadfile("test-server.lua")(folder of these files [, port])
local folder, port = ...
local websockets = require "websockets"

local context = websockets.context {
    port = port or 8002,
    on_http = assert(loadfile(folder .. "pages.lua"))(folder .. "test-server/"),
    protocols = assert(loadfile(folder .. "protocols.lua"))(),
}

print(context, " ", context:canonical_hostname())

while true do
    context:service(100)
    context:broadcast("dumb-increment-protocol", "go on")
end
