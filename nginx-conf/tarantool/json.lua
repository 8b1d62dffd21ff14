-- json.encode(value), in place of tarantool's module of that name; nginx has none of its own.

local _M = {}


local function quoted(s)
    return '"' .. s:gsub('[%c"\\\127]', function(c)
        return ("\\u%04x"):format(c:byte())
    end) .. '"'
end


function _M.encode(value)
    if type(value) == "string" then
        return quoted(value)
    elseif type(value) ~= "table" then
        return value == nil and "null" or tostring(value)
    end
    local out = {}
    if #value > 0 then
        for i, item in ipairs(value) do
            out[i] = _M.encode(item)
        end
        return "[" .. table.concat(out, ",") .. "]"
    end
    local keys = {}
    for key in pairs(value) do
        keys[#keys + 1] = tostring(key)
    end
    table.sort(keys)
    for i, key in ipairs(keys) do
        out[i] = quoted(key) .. ":" .. _M.encode(value[key])
    end
    return "{" .. table.concat(out, ",") .. "}"
end


return _M
