-- websocket.utf8_validator: validator(s), validator.validate(s) -> true | false, index of the first
-- byte that is wrong.

local natives = ...

local check = natives.utf8_check


local function verdict(fine, at)
    if fine then
        return true
    end
    return false, at
end


-- The native is no tail call: misuse is told to whom that returns.
return setmetatable({
    validate = function(s)
        return verdict(check(s))
    end,
}, {
    __call = function(_, s)
        return verdict(check(s))
    end,
})
