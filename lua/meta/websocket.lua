---@meta websocket
-- Annotations for LuaLS: types of `websocket`, tarantool/websocket's API. Times are seconds. Compared
-- with the real table by t/operations/annotations.t.

---@class websocket.Frame
---@field opcode? integer none: the stream has ended
---@field fin? boolean
---@field data? string
---@field rsv? integer

---@class websocket.Request
---@field method? string
---@field path? string
---@field version? string
---@field headers? table<string, string>

---@class websocket.Options
---@field timeout? number
---@field ctx? websocket.ssl.Context
---@field ping_frequency? number
---@field max_receive_payload? integer
---@field handshake_timeout? number
---@field backlog? integer ports only
---@field workers? integer ports only: 1 opens it in the first worker alone

---A listening socket.
---@class websocket.Listener
---@field close fun(self): boolean
---@field name fun(self): table?

---A peer, and the module's own functions.
---@class websocket
---@field TEXT integer
---@field BINARY integer
---@field handshake_packets? { request: websocket.Request, response: table }
local M = {}

---Connects in TCP; the handshake comes with the first `read` or `write`.
---@param url string
---@param request? websocket.Request
---@param options? websocket.Options
---@return websocket? peer
---@return string? err
function M.connect(url, request, options) end

---Opens a port and calls the handler in a light thread of its own for every connection.
---@param url string
---@param handler fun(peer: websocket)
---@param options? websocket.Options
---@return websocket.Listener? listener
---@return table|string|nil address_or_err
function M.server(url, handler, options) end

---Opens a port whose connections are taken by `accept()`.
---@param url string
---@param options? websocket.Options
---@return websocket.Listener|false listener
---@return string? err
function M.bind(url, options) end

---@param peer table a socket
---@param ping_freq? number
---@param is_client? boolean
---@param is_handshaked? boolean
---@param client_request? websocket.Request
---@param max_receive_payload? integer
---@param handshake_timeout? number
---@return websocket peer
function M.new(peer, ping_freq, is_client, is_handshaked, client_request, max_receive_payload, handshake_timeout) end

---One frame; an empty table at the end of the stream.
---@param timeout? number
---@return websocket.Frame? frame
---@return string? err
function M:read(timeout) end

---@param data string|websocket.Frame
---@param timeout? number
---@return integer? bytes
---@return string? err
function M:write(data, timeout) end

---@param code? integer
---@param reason? string
---@param timeout? number
---@return true? ok
---@return string? err
function M:shutdown(code, reason, timeout) end

---Closes the socket at once.
function M:close() end

---@return string? text
function M:error() end

---@return integer
function M:errno() end

---@param fr websocket.Frame
---@return boolean ok
---@return { code: integer, message: string }? fault
function M:validate(fr) end

---@param timeout? number
---@return true? ok
---@return string? err
function M:check_handshake(timeout) end

---@param timeout? number
---@return boolean? ok
---@return string? err
function M:check_client_handshake(timeout) end

---@param timeout? number
---@return true? ok
---@return string? err
function M:check_ping_pong(timeout) end

return M
