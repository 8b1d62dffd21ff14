---@meta resty.websocket.server
-- Annotations for LuaLS: types of resty.websocket.server, drop-in for lua-resty-websocket. Compared
-- with the real table by t/operations/annotations.t.

---@class resty.websocket.server.Options
---@field max_payload_len? integer longest payload, both ways; default: 65535
---@field max_recv_len? integer
---@field max_send_len? integer
---@field send_masked? boolean masks what is sent
---@field timeout? integer milliseconds

---One call, one frame. The methods of `resty.websocket`'s connections work on it too.
---@class resty.websocket.server : resty.websocket.Connection
---@field _VERSION string
---@field sock tcpsock the object's own; time-outs act, bytes belong to the object
---@field fatal? boolean every error but a time-out sets it
---@field max_recv_len integer
---@field max_send_len integer
---@field send_masked? boolean
local M = {}

---Upgrades the current request.
---@param opts? resty.websocket.server.Options
---@return resty.websocket.server? wb
---@return string? err
function M:new(opts) end

---@param time? integer milliseconds; nil and 0 mean the directives
function M:set_timeout(time) end

---@return string? data
---@return "text"|"binary"|"continuation"|"close"|"ping"|"pong"|nil typ
---@return string|integer|nil err `"again"` where fragments follow; the code of a close frame
function M:recv_frame() end

---@param fin boolean
---@param opcode integer
---@param payload? string
---@return integer? bytes
---@return string? err
function M:send_frame(fin, opcode, payload) end

---@param data string
---@return integer? bytes
---@return string? err
function M:send_continue(data) end

---@param data string
---@return integer? bytes
---@return string? err
function M:send_text(data) end

---@param data string
---@return integer? bytes
---@return string? err
function M:send_binary(data) end

---@param code? integer
---@param msg? string
---@return integer? bytes
---@return string? err
function M:send_close(code, msg) end

---@param data? string
---@return integer? bytes
---@return string? err
function M:send_ping(data) end

---@param data? string
---@return integer? bytes
---@return string? err
function M:send_pong(data) end

return M
