-- websocket.utf8_validator: validator(s), validator.validate(s) -> true | false, index of the first
-- byte that is wrong.

local natives = ...

local check = natives.utf8_check


return setmetatable({ validate = check }, {
    __call = function(_, s)
        return check(s)
    end,
})
