-- An echo on the message API: resty.websocket keeps the protocol, so a message is all there is to
-- see. echo(ws) serves a connection of either side until it ends.

local _M = {}


function _M.echo(ws)
    for data, typ in ws:messages() do
        if not ws:send(data, typ) then
            return
        end
    end
end


return _M
