---@meta websocket.ssl
-- Annotations for LuaLS: types of websocket.ssl, tarantool/websocket's API. Compared with the real
-- table by t/operations/annotations.t.

---Made by `ctx`.
---@class websocket.ssl.Context

---@class websocket.ssl
---@field methods table<"tls"|"tlsv1"|"tlsv11"|"tlsv12"|"tlsv13", table>
local M = {}

---@param method? table one of `methods`
---@return websocket.ssl.Context
function M.ctx(method) end

---@param ctx websocket.ssl.Context
---@param file string PEM
---@return boolean ok
---@return string? err
function M.ctx_use_private_key_file(ctx, file) end

---@param ctx websocket.ssl.Context
---@param file string PEM: the certificate, and the chain above it
---@return boolean ok
---@return string? err
function M.ctx_use_certificate_file(ctx, file) end

---@param ctx websocket.ssl.Context
---@param file string PEM: authorities of client certificates
---@return boolean ok
---@return string? err
function M.ctx_use_ca_file(ctx, file) end

---@param ctx websocket.ssl.Context
---@param mode boolean|"none"|"optional"|"require"|nil
---@return true
function M.ctx_set_verify(ctx, mode) end

---@param ctx websocket.ssl.Context
---@param name string for SNI and verification, in place of the URL's host
---@return true
function M.ctx_set_server_name(ctx, name) end

---@param ctx websocket.ssl.Context
---@param ciphers string OpenSSL's list, for TLS up to 1.2 on a port
---@return true
function M.ctx_set_ciphers(ctx, ciphers) end

---@param host string
---@param port integer|string
---@param timeout? number seconds
---@param ctx? websocket.ssl.Context
---@return table? socket
---@return string? err
function M.tcp_connect(host, port, timeout, ctx) end

---@param host string
---@param port integer|string
---@param handler fun(socket: table)
---@param _ any not used
---@param ctx? websocket.ssl.Context
---@return websocket.Listener? listener
---@return string? err
function M.tcp_server(host, port, handler, _, ctx) end

---@param sock table
---@param _ any not used
---@return table? socket
function M.wrap_accepted_socket(sock, _) end

---@param server table
---@param ctx? websocket.ssl.Context
---@return table? socket
---@return string? err
function M.accept(server, ctx) end

return M
