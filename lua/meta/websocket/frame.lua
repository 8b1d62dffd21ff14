---@meta websocket.frame
-- Annotations for LuaLS: types of websocket.frame, tarantool/websocket's API. Compared with the real
-- table by t/operations/annotations.t.

---@class websocket.frame
---@field CONTINUATION integer
---@field TEXT integer
---@field BINARY integer
---@field CLOSE integer
---@field PING integer
---@field PONG integer
local M = {}

---@param data string
---@param opcode? integer
---@param masked? boolean
---@param fin? boolean
---@return string
function M.encode(data, opcode, masked, fin) end

---@param sock table
---@param timeout? number seconds
---@return websocket.Frame? frame
---@return string? err
function M.decode_from(sock, timeout) end

---@param code? integer
---@param reason? string
---@return string
function M.encode_close(code, reason) end

---@param data string
---@return integer? code
---@return string? reason
function M.decode_close(data) end

---@param data string
---@param mask integer[]
---@param len integer
---@return string
function M.xor_mask(data, mask, len) end

---What is left of `timeout` seconds that began at `start`.
---@param timeout? number
---@param start number
---@return number?
function M.slice_wait(timeout, start) end

return M
