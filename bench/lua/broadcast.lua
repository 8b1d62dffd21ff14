-- Broadcast handlers: the module's hub, and what one writes without it, a light thread for each
-- subscriber that waits on a semaphore and sends what a table holds for it.

local semaphore = require "ngx.semaphore"

local TOPIC = "bench"
local TIMEOUT = 600000

local _M = {}
local subscribers = {}


local function accept(module)
    local wb, err = require(module):new({ timeout = TIMEOUT })
    if not wb then
        ngx.log(ngx.ERR, "failed to accept: ", err)
        return ngx.exit(444)
    end
    return wb
end


local function write(subscriber)
    local wb, sem = subscriber.wb, subscriber.sem
    while not subscriber.over do
        if sem:wait(TIMEOUT / 1000) then
            local queue = subscriber.queue
            subscriber.queue = {}
            for i = 1, #queue do
                local ok = wb:send_text(queue[i])
                if not ok then
                    return
                end
            end
        end
    end
end


function _M.thread_subscriber()
    local wb = accept("nginx.websocket.server")
    local subscriber = { wb = wb, sem = semaphore.new(), queue = {} }
    subscribers[subscriber] = true
    local writer = ngx.thread.spawn(write, subscriber)
    repeat
        local data, typ = wb:recv_frame()
    until not data or typ == "close"
    subscribers[subscriber] = nil
    subscriber.over = true
    ngx.thread.kill(writer)
end


function _M.thread_publisher()
    local wb = accept("nginx.websocket.server")
    while true do
        local data, typ = wb:recv_frame()
        if not data or typ == "close" then
            return
        end
        for subscriber in pairs(subscribers) do
            local queue = subscriber.queue
            queue[#queue + 1] = data
            if #queue == 1 then
                subscriber.sem:post(1)
            end
        end
    end
end


function _M.hub_subscriber()
    local ws = assert(require("resty.websocket").accept({ timeout = TIMEOUT }))
    assert(ws:subscribe(TOPIC))
    -- Further topics, that nothing is published to.
    for i = 2, tonumber(ngx.var.arg_topics) or 1 do
        assert(ws:subscribe("other" .. i))
    end
    for _ in ws:messages() do end
end


function _M.hub_publisher()
    local websocket = require "resty.websocket"
    local ws = assert(websocket.accept({ timeout = TIMEOUT }))
    local topic = ngx.var.arg_topic or TOPIC
    for data, typ in ws:messages() do
        websocket.publish(topic, data, { type = typ })
    end
end


return _M
