---@meta resty.websocket.client
-- Annotations for LuaLS: types of resty.websocket.client, drop-in for lua-resty-websocket. Compared
-- with the real table by t/operations/annotations.t.

---@class resty.websocket.client.Options
---@field max_payload_len? integer longest payload of a frame, both ways; default: 65535
---@field max_recv_len? integer
---@field max_send_len? integer
---@field send_unmasked? boolean sends frames without a masking key, which servers refuse
---@field timeout? integer milliseconds

---@class resty.websocket.client.ConnectOptions
---@field protocols? string|string[]
---@field origin? string
---@field host? string
---@field key? string
---@field headers? string[] `"Name: value"`
---@field ssl_verify? boolean
---@field server_name? string
---@field client_cert? userdata
---@field client_priv_key? userdata
---@field pool? string
---@field pool_size? integer
---@field backlog? integer

---One call, one frame. The methods of `resty.websocket`'s client connections work on it too.
---@class resty.websocket.client : resty.websocket.ClientConnection
---@field _VERSION string
---@field sock tcpsock the cosocket
---@field fatal? boolean every error of a frame but a read time-out sets it
---@field closed? boolean nothing more is sent
---@field max_recv_len integer
---@field max_send_len integer
---@field send_unmasked? boolean
local M = {}

---@param opts? resty.websocket.client.Options
---@return resty.websocket.client? wb
---@return string? err
function M:new(opts) end

---@param uri string
---@param opts? resty.websocket.client.ConnectOptions
---@return 1? ok
---@return string? err
---@return string? response status line and headers, or `"connection reused"`
function M:connect(uri, opts) end

---@param time? integer milliseconds
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
function M:send_text(data) end

---@param data string
---@return integer? bytes
---@return string? err
function M:send_binary(data) end

---Nothing can be sent afterwards.
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

---Sends an empty close frame if none was sent, and closes.
---@return 1? ok
---@return string? err
function M:close() end

---Puts the connection into the pool.
---@param ... integer idle milliseconds, and the pool's size
---@return 1? ok
---@return string? err
function M:set_keepalive(...) end

return M
