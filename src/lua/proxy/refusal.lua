-- An upstream of websocket.proxy() that answers in HTTP: read() takes the answer from its socket, and
-- answer() gives it to the client. What is handed on of it is the natives' business.

local natives, vm = ...

local READ_SIZE = vm.module("resty.websocket.carry").READ_SIZE

local lower = string.lower
local pairs = pairs
local ngx = ngx


-- What `head` begins: { status, header, body } | nil, err, where it is no answer in HTTP.
local function read(sock, head)
    local refusal, status, fields, more = natives.refusal_new(head)
    if not refusal then
        return nil, status
    end
    while more do
        -- The stream may end too early: then that is the body.
        local bytes = sock:receiveany(READ_SIZE)
        if not bytes then
            break
        end
        more = natives.refusal_feed(refusal, bytes)
        if more == nil then
            return nil, "failed websocket handshake: bad chunk in the response"
        end
    end
    local header = {}
    for i = 1, #fields, 2 do
        local key = lower(fields[i])
        local known = header[key]
        if known then
            known[#known + 1] = fields[i + 1]
        else
            header[key] = { name = fields[i], fields[i + 1] }
        end
    end
    return { status = status, header = header, body = natives.refusal_body(refusal) }
end


local function answer(refusal)
    ngx.status = refusal.status
    for _, values in pairs(refusal.header) do
        local name = values.name
        values.name = nil
        ngx.header[name] = values
    end
    ngx.header["Content-Length"] = #refusal.body
    ngx.print(refusal.body)
    ngx.flush(true)
end


return { read = read, answer = answer }
