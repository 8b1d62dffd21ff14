---@meta websocket.utf8_validator
-- Annotations for LuaLS: types of websocket.utf8_validator, tarantool/websocket's API. Compared with
-- the real table by t/operations/annotations.t.

---`validator(s)` is the same as `validator.validate(s)`.
---@class websocket.utf8_validator
---@overload fun(s: string): boolean, integer?
local M = {}

---@param s string
---@return boolean ok
---@return integer? index of the first byte that is wrong
function M.validate(s) end

return M
