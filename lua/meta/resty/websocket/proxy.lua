---@meta resty.websocket.proxy
-- Annotations for LuaLS: types of resty.websocket.proxy, drop-in for lua-resty-websocket-proxy. Compared
-- with the real table by t/operations/annotations.t.

---@alias resty.websocket.proxy.Role "client"|"upstream"

---@class resty.websocket.proxy.Options
---@field on_frame? fun(proxy: resty.websocket.proxy.Object, role: resty.websocket.proxy.Role, typ: string, payload: string, last: boolean, code?: integer): string?, integer?
---@field aggregate_fragments? boolean joins fragments before `on_frame` sees them
---@field recv_timeout? number milliseconds
---@field client_max_frame_size? integer bytes
---@field client_max_fragments? integer
---@field upstream_max_frame_size? integer bytes
---@field upstream_max_fragments? integer
---@field debug? boolean

---@class resty.websocket.proxy
---@field _VERSION string
local M = {}

---@class resty.websocket.proxy.Object: resty.websocket.proxy
---@field client resty.websocket.client
---@field server? resty.websocket.server
---@field client_state integer
---@field upstream_state integer
---@field upstream_uri? string

---@param opts? resty.websocket.proxy.Options
---@return resty.websocket.proxy.Object? proxy
---@return string? err
function M.new(opts) end

---A debug line, where `debug` is set.
---@param ... any
function M:dd(...) end

---@param uri string
---@param opts? resty.websocket.client.ConnectOptions
---@return boolean? ok
---@return string? err
---@return string? response
function M:connect_upstream(uri, opts) end

---@return boolean? ok
---@return string? err
function M:connect_client() end

---Upstream and client.
---@param uri string
---@param upstream_opts? resty.websocket.client.ConnectOptions
---@return boolean? ok
---@return string? err
function M:connect(uri, upstream_opts) end

---Carries frames until either side has ended.
---@return boolean? done
---@return string? err
function M:execute() end

return M
