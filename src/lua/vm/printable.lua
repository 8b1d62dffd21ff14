-- A peer's bytes for the log: a control character, with which they could begin a line of their own, is escaped.

local byte = string.byte
local format = string.format
local gsub = string.gsub


local function escape(char)
    return format("\\x%02X", byte(char))
end


return function (text)
    return (gsub(text, "%c", escape))
end
