-- The options of websocket.accept() and websocket.connect(): which there are, what they may be, and
-- the form in which the natives take them. Misuse is an error at the user's call.

local _, vm = ...

local MAX_TIMEOUT = vm.module("resty.websocket.wait").MAX_TIMEOUT
local ceil = math.ceil
local concat = table.concat
local error = error
local floor = math.floor
local ipairs = ipairs
local pairs = pairs
local sort = table.sort
local tostring = tostring
local type = type

-- Of what the natives count in 31 bits.
local MAX_SIZE = 0x7fffffff
local UNITS = { [""] = 1, k = 1024, K = 1024, m = 1048576, M = 1048576, g = 1073741824, G = 1073741824 }


local function fail(name, what, value)
    error('bad "' .. name .. '" option: ' .. what .. ", got "
          .. (type(value) == "number" and tostring(value) or type(value)), 5)
end


local function check_size(name, value)
    local size = value
    if type(value) == "string" then
        local digits, unit = value:match("^(%d+)([kKmMgG]?)$")
        size = digits and digits * UNITS[unit]
    end
    if type(size) ~= "number" or not (size > 0) or size ~= floor(size) then
        fail(name, "size in bytes expected", value)
    end
    return size
end


local function check_time(name, value)
    if type(value) ~= "number" or not (value >= 0) or value > MAX_TIMEOUT then
        fail(name, "milliseconds expected", value)
    end
    -- Less than one is no 0, which is no limit.
    return ceil(value)
end


local function check_flag(name, value)
    if type(value) ~= "boolean" then
        fail(name, "boolean expected", value)
    end
    return value
end


-- Whether a value is no array of strings, and what of it is none.
local function is_odd(value)
    if type(value) ~= "table" then
        return true, value
    end
    for i = 1, #value do
        if type(value[i]) ~= "string" then
            return true, value[i]
        end
    end
    return false
end


local function check_strings(name, value)
    if type(value) == "string" then
        return { value }
    end
    local odd, one = is_odd(value)
    if odd then
        fail(name, "array of strings expected", one)
    end
    return value
end


local COMPRESSION = { "level", "threshold", "server_no_context_takeover",
                      "client_no_context_takeover", "server_max_window_bits",
                      "client_max_window_bits" }
local RANGE = { level = { 1, 9 }, threshold = { 0, MAX_SIZE },
                server_max_window_bits = { 8, 15 }, client_max_window_bits = { 8, 15 } }


-- The natives' form: nil, an empty array for "off", or six numbers, -1 for what is not given.
local function check_compression(name, value)
    if value == false then
        return {}
    end
    if value == true then
        value = {}
    elseif type(value) ~= "table" then
        fail(name, "boolean or table expected", value)
    end
    local settings, known = {}, {}
    for i, key in ipairs(COMPRESSION) do
        local v, range = value[key], RANGE[key]
        known[key] = true
        if v == nil then
            v = -1
        elseif range then
            if type(v) ~= "number" or v < range[1] or v > range[2] or v ~= floor(v) then
                fail(name .. "." .. key, range[1] .. " to " .. range[2] .. " expected", v)
            end
        elseif type(v) ~= "boolean" then
            fail(name .. "." .. key, "boolean expected", v)
        else
            v = v and 1 or 0
        end
        settings[i] = v
    end
    for key in pairs(value) do
        if not known[key] then
            error('unknown option "' .. name .. "." .. tostring(key) .. '" (known: '
                  .. concat(COMPRESSION, ", ") .. ")", 4)
        end
    end
    return settings
end


-- Response headers by name, as ngx.header takes them.
local function check_headers(name, value)
    if type(value) ~= "table" then
        fail(name, "table expected", value)
    end
    for key, header in pairs(value) do
        if type(key) ~= "string" then
            fail(name, "names as keys expected", key)
        end
        for _, one in ipairs(type(header) == "table" and header or { header }) do
            if type(one) ~= "string" and type(one) ~= "number" then
                fail(name .. "." .. key, "string expected", one)
            end
        end
    end
    return value
end


-- Of a request: lines, and headers by name, of which one may stand several times. The natives' form: lines.
local function check_lines(name, value)
    if type(value) ~= "table" then
        fail(name, "table expected", value)
    end
    local lines = {}
    for key, header in pairs(value) do
        if type(key) == "number" then
            if type(header) ~= "string" then
                fail(name, "lines or names as keys expected", header)
            end
            lines[#lines + 1] = header
        elseif type(key) ~= "string" then
            fail(name, "names as keys expected", key)
        else
            for _, one in ipairs(type(header) == "table" and header or { header }) do
                if type(one) ~= "string" and type(one) ~= "number" then
                    fail(name .. "." .. key, "string expected", one)
                end
                lines[#lines + 1] = key .. ": " .. one
            end
        end
    end
    return lines
end


local function check_function(name, value)
    if type(value) ~= "function" then
        fail(name, "function expected", value)
    end
    return value
end


local function check_string(name, value)
    if type(value) ~= "string" then
        fail(name, "string expected", value)
    end
    return value
end


local function check_count(name, value)
    if type(value) ~= "number" or not (value >= 0) then
        fail(name, "number expected", value)
    end
    return value
end


-- Certificates and keys are what ngx.ssl makes: the cosocket looks at them.
local function pass(_, value)
    return value
end


local COMMON = {
    max_message_size = check_size, max_frame_size = check_size, timeout = check_time,
    send_timeout = check_time, ping_interval = check_time, ping_timeout = check_time,
    compression = check_compression, protocols = check_strings,
}


local function with_common(own)
    for name, check in pairs(COMMON) do
        own[name] = own[name] or check
    end
    return own
end


local ACCEPT = with_common { origins = check_strings, require_origin = check_flag,
                             headers = check_headers }

-- Of websocket.serve(): those of accept(), and the callbacks.
local SERVE = { on_open = check_function, on_message = check_function, on_close = check_function,
                on_drain = check_function, raw = check_flag }
for name, check in pairs(ACCEPT) do
    SERVE[name] = check
end

local CONNECT = with_common { origin = check_string, headers = check_lines, host = check_string,
                              server_name = check_string, pool = check_string,
                              pool_size = check_count, backlog = check_count,
                              ssl_verify = check_flag, client_cert = pass,
                              client_priv_key = pass }


-- A table of known options, or none. `level` is whom an error tells, as error() has it.
local function check_names(opts, known, level)
    if opts == nil then
        return {}
    end
    if type(opts) ~= "table" then
        error('bad "opts" argument: table expected, got ' .. type(opts), level)
    end
    for name in pairs(opts) do
        if not known[name] then
            local names = {}
            for each in pairs(known) do
                names[#names + 1] = each
            end
            sort(names)
            error('unknown option "' .. tostring(name) .. '" (known: ' .. concat(names, ", ") .. ")", level)
        end
    end
    return opts
end


local function check_options(opts, known)
    local checked = {}
    for name, value in pairs(check_names(opts, known, 4)) do
        checked[name] = known[name](name, value)
    end
    return checked
end


return {
    check = check_options, check_names = check_names, is_odd = is_odd,
    ACCEPT = ACCEPT, SERVE = SERVE, CONNECT = CONNECT,
}
