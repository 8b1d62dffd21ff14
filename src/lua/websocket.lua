-- resty.websocket: the module's own API.

local natives = ...

local _M = { _VERSION = "0.1.0" }


-- Counters of this worker.
function _M.info()
    local open, accepted = natives.connections()
    return { open = open, accepted = accepted }
end


return _M
