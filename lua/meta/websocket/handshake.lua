---@meta websocket.handshake
-- Annotations for LuaLS: types of websocket.handshake, tarantool/websocket's API. Compared with the
-- real table by t/operations/annotations.t.

---@class websocket.handshake.Response
---@field version string
---@field code string
---@field status string
---@field headers table<string, string>

---@class websocket.handshake
---@field sec_websocket_accept fun(key: string): string
local M = {}

---@param request? websocket.Request
---@return websocket.Request
function M.upgrade_request(request) end

---@param request websocket.Request
---@return boolean ok
---@return string? response
function M.validate_request(request) end

---@param request websocket.Request
---@return websocket.handshake.Response
function M.accept_upgrade(request) end

---@param response websocket.handshake.Response
---@return string
function M.reduce_response(response) end

---@param request websocket.Request
---@return string
function M.reduce_request(request) end

return M
