---@meta resty.websocket.protocol
-- Annotations for LuaLS: types of resty.websocket.protocol, drop-in for lua-resty-websocket. Compared
-- with the real table by t/operations/annotations.t.

---What frames are read from and written to: a cosocket, a raw request socket, an object of yours.
---@class resty.websocket.protocol.Socket
---@field receive fun(self, n: integer): string?, string?
---@field send fun(self, data: string): integer?, string?

---Single frames on any socket.
---@class resty.websocket.protocol
---@field _VERSION string
---@field new_tab fun(narr: integer, nrec: integer): table LuaJIT's `table.new`
local M = {}

---After a time-out the next call on the same socket goes on where the frame was interrupted.
---@param sock resty.websocket.protocol.Socket
---@param max_payload_len integer
---@param force_masking? boolean refuses frames without a masking key
---@return string? data
---@return string? typ
---@return string|integer|nil err
function M.recv_frame(sock, max_payload_len, force_masking) end

---@param fin boolean
---@param opcode integer
---@param payload_len integer
---@param payload string
---@param masking? boolean
---@return string? frame
---@return string? err
function M.build_frame(fin, opcode, payload_len, payload, masking) end

---@param sock resty.websocket.protocol.Socket
---@param fin boolean
---@param opcode integer
---@param payload? string
---@param max_payload_len integer
---@param masking? boolean
---@return integer? bytes
---@return string? err
function M.send_frame(sock, fin, opcode, payload, max_payload_len, masking) end

return M
