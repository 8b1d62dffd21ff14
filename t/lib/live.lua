-- The nginx side of t/lib/live.py: what handlers report about their session, and the locations
-- under /live/ that hand it to the test. Reports go by shared dictionary, so that they work across
-- workers and Lua VMs; the id in the URL's query (?id=) says which peer of the test is meant.

local _M = {}
local reports = ngx.shared.live


local function brief(value)
    if type(value) ~= "string" then
        return tostring(value)
    end
    return #value <= 80 and value or #value .. " bytes " .. ngx.md5(value)
end


local function line(...)
    local out = {}
    for i = 1, select("#", ...) do
        out[i] = brief((select(i, ...)))
    end
    return table.concat(out, " | ")
end


function _M.report_as(id, ...)
    assert(reports:rpush(id, line(...)))
end


function _M.report(...)
    return _M.report_as(ngx.var.arg_id, ...)
end


function _M.open(opts)
    return assert(require("resty.websocket.server"):new(opts))
end


-- Frames go back as they came until the peer closes or something fails; returns the error.
function _M.echo(wb)
    local send = { text = wb.send_text, binary = wb.send_binary, ping = wb.send_pong }
    while true do
        local data, typ, err = wb:recv_frame()
        if not data then
            return err
        elseif typ == "close" then
            wb:send_close(err, data)
            return nil
        elseif send[typ] then
            local ok
            ok, err = send[typ](wb, data)
            if not ok then
                return err
            end
        end
    end
end


-- The next report for ?id=, as soon as there is one.
function _M.take()
    local id = ngx.var.arg_id
    for _ = 1, tonumber(ngx.var.arg_wait) * 200 do
        local value = reports:lpop(id)
        if value then
            return ngx.print(value)
        end
        ngx.sleep(0.005)
    end
    ngx.exit(504)
end


-- Waits in a handler for the test's Peer.signal().
function _M.take_signal()
    local id = "signal " .. ngx.var.arg_id
    for _ = 1, 12000 do
        if reports:lpop(id) then
            return true
        end
        ngx.sleep(0.005)
    end
end


function _M.signal()
    _M.report_as("signal " .. ngx.var.arg_id, "go")
end


-- Live sessions of the worker that answers.
function _M.info()
    ngx.print(require("resty.websocket").info().open)
end


-- Numbers, strings, booleans and tables of them; a table with [1], or empty, is an array.
function _M.json(value)
    if type(value) == "string" then
        return '"' .. value:gsub('[%c"\\]', function(c) return ("\\u%04x"):format(c:byte()) end) .. '"'
    elseif type(value) ~= "table" then
        return tostring(value)
    end
    local parts = {}
    if value[1] ~= nil or next(value) == nil then
        for i, element in ipairs(value) do parts[i] = _M.json(element) end
        return "[" .. table.concat(parts, ",") .. "]"
    end
    for name, element in pairs(value) do
        parts[#parts + 1] = _M.json(name) .. ":" .. _M.json(element)
    end
    return "{" .. table.concat(parts, ",") .. "}"
end


return _M
