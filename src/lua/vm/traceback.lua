-- The handler of xpcall() for what programs give us to call: a text gets its traceback. Anything else may
-- be raised too, and goes on as it is; light threads end by an error of their own (ngx.exit).

local traceback = debug.traceback
local type = type


return function (fault)
    return type(fault) == "string" and traceback(fault, 2) or fault
end
