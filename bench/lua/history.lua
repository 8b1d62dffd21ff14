-- What topics remember: handlers that publish many messages and look who is there.

local _M = {}
local names = {}


-- As many topics as asked for, made once: making a string is not what is measured.
local function topics_of(prefix, count)
    local key = prefix .. " " .. count
    if not names[key] then
        names[key] = {}
        for i = 1, count do
            names[key][i] = prefix .. ("%05d"):format(i)
        end
    end
    return names[key]
end


-- /history/publish?topic=...&count=messages&topics=...&burst=messages a turn of the event loop&
-- pause=seconds after each burst
function _M.publish()
    local publish = require("resty.websocket").publish
    local args = ngx.req.get_uri_args()
    local count, burst, pause = tonumber(args.count), tonumber(args.burst), tonumber(args.pause) or 0
    local topics = topics_of(args.topic, tonumber(args.topics) or 1)
    local data = ("x"):rep(100)
    for i = 1, count do
        assert(publish(topics[i % #topics + 1], data))
        if i % burst == 0 then
            ngx.sleep(pause)
        end
    end
    local cursor = select(3, publish(topics[1], data))
    ngx.print(cursor or "")
end


-- /broker/many?prefix=...&topics=...: a connection that subscribes many topics with names of 32 bytes.
function _M.many()
    local ws = assert(require("resty.websocket").accept())
    local prefix = ngx.var.arg_prefix .. ("n"):rep(27 - #ngx.var.arg_prefix)
    for i = 1, tonumber(ngx.var.arg_topics) do
        assert(ws:subscribe(prefix .. ("%05d"):format(i - 1)))
    end
    for _ in ws:messages() do end
end


function _M.presence()
    local members = assert(require("resty.websocket").presence(ngx.var.arg_topic))
    ngx.print(#members)
end


return _M
