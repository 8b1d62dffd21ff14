-- As much of cjson.safe as the examples need where that is not installed: flat objects of strings and
-- numbers.

local _M = {}


function _M.encode(object)
    local out = {}
    for name, value in pairs(object) do
        out[#out + 1] = ('"%s":"%s"'):format(name, tostring(value):gsub('[%c"\\]', function (c)
            return ("\\u%04x"):format(c:byte())
        end))
    end
    return "{" .. table.concat(out, ",") .. "}"
end


function _M.decode(text)
    if text:find("^%b[]$") then
        return {}
    end
    local body = text:match("^{(.*)}$")
    if not body then
        return text:match('^"(.*)"$')
    end
    local object = {}
    for name, value in body:gmatch('"(%w+)":([^,]+)') do
        object[name] = value:match('^"(.*)"$') or tonumber(value)
    end
    return object
end


return _M
