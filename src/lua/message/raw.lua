-- The message that on_message has in place of a string where serve() was told `raw = true`. It owns
-- nothing: its bytes are lent, as they lie, under a number, from before the callback is called until that
-- returns or waits (lending.rs). With another number, or none, there is nothing to be seen any more.

local _, vm = ...

local ffi = require "ffi"
local fast = vm.module("resty.websocket.fast")

local view = fast.view
local keep = fast.keep
local error = error
local byte = string.byte
local istype = ffi.istype
local type = type

ffi.cdef "struct nlw_raw { const unsigned int number; };"


local function check(self, level)
    if self.number ~= view.lent then
        error("raw message used after its callback has returned or waited", level or 3)
    end
end


local methods = {}


function methods.tostring(self)
    check(self)
    return keep()
end


function methods.len(self)
    check(self)
    return view.len
end


-- As string.byte; of one byte no string is made.
function methods.byte(self, i, j)
    check(self)
    i = i or 1
    if j == nil and type(i) == "number" and i >= 1 and i <= view.len then
        return view.data[i - 1]
    end
    return byte(keep(), i, j)
end


local raw = ffi.metatype("struct nlw_raw", {
    __index = methods, __len = methods.len, __tostring = methods.tostring,
})


-- What is lent now, as a message.
local function new()
    return raw(view.lent)
end


local function is_raw(data)
    return type(data) == "cdata" and istype(raw, data)
end


-- The string of what a method was called with; `level` as error() has it.
local function to_string(data, level)
    check(data, (level or 3) + 1)
    return keep()
end


return { new = new, is_raw = is_raw, to_string = to_string }
