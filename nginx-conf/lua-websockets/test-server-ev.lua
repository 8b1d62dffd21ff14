-- The test server with an event loop that is not its own: every descriptor is serviced when there is
-- something to do for it, and a timer raises the numbers. With lua-ev these were ev.IO and ev.Timer.
--   loadfile("test-server-ev.lua")(folder of these files [, port])
local folder, port = ...
local websockets = require "websockets"

local ios = {}

-- on_add_fd is called during websockets.context() already.
local context
context = websockets.context {
    port = port or 8003,
    on_http = assert(loadfile(folder .. "pages.lua"))(folder .. "test-server/"),
    protocols = assert(loadfile(folder .. "protocols.lua"))(),
    on_add_fd = function(fd)
        ios[fd] = ngx.timer.at(0, function()
            while context:wait(fd) do
                context:service_fd(fd, websockets.POLLIN)
            end
        end)
    end,
    on_del_fd = function(fd)
        ios[fd] = nil
    end,
}

ngx.timer.every(0.1, function()
    context:broadcast("dumb-increment-protocol", "go on")
end)
