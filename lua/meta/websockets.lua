---@meta websockets
-- Annotations for LuaLS (lua-language-server): types of websockets, never loaded by nginx. In
-- .luarc.json: "workspace.library": ["…/lua/meta"]. t/operations/annotations.t compares with the real tables.

---lua-websockets' binding of libwebsockets.
---@class websockets
---@field WRITE_TEXT integer
---@field WRITE_BINARY integer
---@field WRITE_CONTINUATION integer
---@field WRITE_HTTP integer raw bytes, in on_http only
---@field WRITE_CLOSE integer
---@field WRITE_PING integer
---@field WRITE_PONG integer
---@field WRITE_NO_FIN integer to be added to a type
---@field WRITE_CLIENT_IGNORE_XOR_MASK integer to be added to a type; means nothing to a server
---@field SERVER_OPTIONS_DEFEAT_CLIENT_MASK integer unmasked frames are taken
---@field SERVER_OPTION_REQUIRE_VALID_OPENSSL_CLIENT_CERT integer
---@field POLLIN integer
---@field POLLOUT integer
---@field POLLERR integer
---@field POLLHUP integer
local M = {}

---@class websockets.Config
---@field port? integer 0: none is opened
---@field protocols? table<string, fun(ws: websockets.Websocket)> called for every new connection
---@field on_http? fun(ws: websockets.Websocket, uri?: string)
---@field on_add_fd? fun(fd: integer)
---@field on_del_fd? fun(fd: integer)
---@field interf? string a network interface's name, or an address
---@field ssl_cert_filepath? string
---@field ssl_private_key_filepath? string
---@field ssl_cert_path? string
---@field ssl_private_key_path? string
---@field ssl_ca_filepath? string
---@field options? integer
---@field gid? integer
---@field uid? integer
---@field max_message_size? integer bytes
---@field rx_buffer_size? integer bytes that on_receive gets at a time; default: whole messages
---@field handshake_timeout? integer milliseconds
---@field backlog? integer
---@field workers? integer 1: the port is opened in the first worker only

---@class websockets.Context
local context = {}

---@class websockets.Websocket
local websocket = {}

---Raises "websocket could not create context: …".
---@param config websockets.Config
---@return websockets.Context
function M.context(config) end

---Closes the port, and connections with 1001.
function context:destroy() end

---Runs what is due; waits for something at most so many milliseconds, negative: as long as it takes.
---@param timeout_ms? integer default: 0
---@return integer result 0, or -1 when there is nothing left to serve
function context:service(timeout_ms) end

---@param fd integer
---@param ... integer
---@return integer result 1 when the connection ended by an error, 0 otherwise
function context:service_fd(fd, ...) end

---Waits until service_fd(fd) has something to do.
---@param fd integer
---@param timeout_ms? integer
---@return boolean? due false when the time is over, nil when the descriptor is not the context's
function context:wait(fd, timeout_ms) end

---To all connections of the protocol, in every worker.
---@param protocol string
---@param data string|number
---@return integer result 0, or -1 where other workers cannot be reached
function context:broadcast(protocol, data) end

---@return string
function context:canonical_hostname() end

---Services the context in the background.
---@return integer result 0, or -1
function context:fork_service_loop() end

---@param data string|number
---@param typ? integer default: WRITE_TEXT
---@return integer result 0, or -1
function websocket:write(data, typ) end

---@param callback fun(ws: websockets.Websocket, data: string, typ: integer)
function websocket:on_receive(callback) end

---@param callback fun(ws: websockets.Websocket)
function websocket:on_closed(callback) end

---@param callback fun(ws: websockets.Websocket)
function websocket:on_server_writeable(callback) end

---@param mode integer|fun(ws: websockets.Websocket, data: string)
function websocket:on_broadcast(mode) end

---To all connections of this one's protocol.
---@param data string|number
---@return integer result 0, or -1
function websocket:broadcast(data) end

---@param reason? integer a close code; 0, the default, closes at once
function websocket:close(reason) end

---@return integer fd
function websocket:get_socket_fd() end

---@return string name
---@return string address
function websocket:get_peer_addresses() end

---@return integer bytes
function websocket:remaining_packet_payload() end

---@param enable boolean|integer
---@return integer result 0, or 1
function websocket:rx_flow_control(enable) end

---@param filename string
---@param content_type string
---@return integer result 0, or -1
function websocket:serve_http_file(filename, content_type) end

---@param ... integer
---@return integer result as of service_fd
function websocket:service(...) end

return M
