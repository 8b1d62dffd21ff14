-- A client of an exchange's ticker: subscribes, and logs every frame until the connection ends.

local json = require "json"
local websocket = require "websocket"

local ws, err = websocket.connect("wss://ws-feed.pro.coinbase.com", nil, { timeout = 3 })
if not ws then
    ngx.log(ngx.NOTICE, err)
    return ngx.say(err)
end

ws:write(json.encode {
    type = "subscribe",
    product_ids = { "ETH-USD", "ETH-EUR" },
    channels = { "level2", "heartbeat",
                 { name = "ticker", product_ids = { "ETH-BTC", "ETH-USD" } } },
})

local packet = ws:read()
while packet ~= nil and packet.opcode ~= nil do
    ngx.log(ngx.NOTICE, json.encode(packet))
    ngx.say(packet.data)
    packet = ws:read()
end
ws:close()
