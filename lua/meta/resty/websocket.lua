---@meta resty.websocket
-- Annotations for LuaLS (lua-language-server): types of resty.websocket, never loaded by nginx. In
-- .luarc.json: "workspace.library": ["…/lua/meta"]. t/operations/annotations.t compares with the real tables.

---Whole messages for servers and clients, and push to any connection.
---@class resty.websocket
---@field _VERSION string
local M = {}

---@alias resty.websocket.type "text"|"binary"
---@alias resty.websocket.size integer|string bytes, or nginx's way of writing them: `"64k"`
---@alias resty.websocket.state "open"|"closing"|"closed"

---Settings of permessage-deflate (RFC 7692).
---@class resty.websocket.Compression
---@field level? integer 1 to 9, 6 by default
---@field threshold? integer bytes; smaller messages go as they are, those below 256 by default
---@field server_no_context_takeover? boolean
---@field client_no_context_takeover? boolean
---@field server_max_window_bits? integer 8 to 15
---@field client_max_window_bits? integer 8 to 15

---@class resty.websocket.CommonOptions
---@field max_message_size? resty.websocket.size over it the connection is closed with 1009
---@field max_frame_size? resty.websocket.size the same for one frame
---@field timeout? integer milliseconds that `recv` waits; 0 is no limit
---@field send_timeout? integer milliseconds that a send above the high-water mark waits; 0 is no limit
---@field ping_interval? integer idle milliseconds after which the module pings; 0 is off
---@field ping_timeout? integer milliseconds after a ping, then a silent peer is given up; 0 is never
---@field compression? boolean|resty.websocket.Compression

---@class resty.websocket.AcceptOptions : resty.websocket.CommonOptions
---@field protocols? string|string[] subprotocols in the server's order
---@field origins? string|string[] allowed Origin values, exact or `"*.example.com"`
---@field require_origin? boolean refuses a request without Origin
---@field headers? table<string, string|number|string[]> extra response headers

---Callbacks come one after the other for each connection, and may wait.
---@class resty.websocket.ServeOptions : resty.websocket.AcceptOptions
---@field on_open? fun(ws: resty.websocket.ServedConnection)
---@field on_message? fun(ws: resty.websocket.ServedConnection, data: string|resty.websocket.RawMessage, typ: resty.websocket.type)
---@field raw? boolean on_message gets a RawMessage in place of a string
---@field on_drain? fun(ws: resty.websocket.ServedConnection) there is room for output again
---@field on_close? fun(ws: resty.websocket.ServedConnection, code: integer, reason: string)

---A message where it lies, until its callback returns or waits; an error afterwards. Taken where strings are sent.
---@class resty.websocket.RawMessage
---@operator len: integer
local RawMessage = {}

---@return string
function RawMessage:tostring() end

---@return integer
function RawMessage:len() end

---@param i? integer
---@param j? integer
---@return integer ...
function RawMessage:byte(i, j) end

---@class resty.websocket.ConnectOptions : resty.websocket.CommonOptions
---@field protocols? string|string[]
---@field origin? string
---@field headers? table<integer|string, string|number|string[]> further header lines, `"Name: value"`, and headers by name
---@field host? string
---@field server_name? string the name for SNI and verification
---@field pool? string
---@field pool_size? integer
---@field backlog? integer
---@field ssl_verify? boolean default: true
---@field client_cert? userdata from `ngx.ssl.parse_pem_cert`
---@field client_priv_key? userdata from `ngx.ssl.parse_pem_priv_key`

---@class resty.websocket.PublishOptions
---@field type? resty.websocket.type
---@field except? string id of a connection that is left out
---@field scope? "worker"|"node"|"cluster" of topics without a history
---@field idempotency_key? string up to 64 bytes: who uses it again publishes nothing; of topics with a history
---@field confirm? boolean waits for the broker

---@class resty.websocket.SubscribeOptions
---@field since? string|integer a cursor, `"last"`, or how many of the newest messages
---@field format? "raw"|"json"
---@field info? string what others are told of it by `presence`: UTF-8 of at most 1024 bytes
---@field on_gap? fun(topic: string, reason: string) called by `recv` when messages of a history are lost
---@field timeout? integer milliseconds

---Where a subscriber stands.
---@class resty.websocket.State
---@field cursor? string everything after this position follows
---@field recovered boolean whether what was missed follows, all of it
---@field count integer how many messages of before follow
---@field reason? "epoch"|"trimmed"|"too many"|"unavailable"|"cursor"

---@class resty.websocket.HistoryOptions
---@field since? string|integer
---@field limit? integer default: 100; 0 asks for the cursor alone
---@field reverse? boolean newest first

---@class resty.websocket.HistoryMessage
---@field data string
---@field type resty.websocket.type
---@field offset integer
---@field cursor string
---@field time integer milliseconds since 1970

---Upgrades the current request. On failure `return ngx.exit(status)`.
---@param opts? resty.websocket.AcceptOptions
---@return resty.websocket.Connection? ws
---@return string? err
---@return integer? status 400, 403, 426, 500, or 499 where the client is gone
function M.accept(opts) end

---@class resty.websocket.ProxyOptions: resty.websocket.ConnectOptions
---@field url? string without one `upstream` says where
---@field upstream? string name of an upstream block
---@field client? resty.websocket.AcceptOptions
---@field protocols? "pass"|string[]
---@field pass_headers? "all"|"none"|string[]
---@field idle_timeout? number milliseconds
---@field on_open? fun(client: resty.websocket.Connection, upstream: resty.websocket.ClientConnection)
---@field on_message? fun(from: "client"|"upstream", data: string, typ: "text"|"binary"): string|false|nil, string|integer|nil, string?
---@field on_ping? fun(from: "client"|"upstream", data: string): string?
---@field on_close? fun(from: "client"|"upstream", code?: integer, reason: string): integer?, string?

---@class resty.websocket.ProxyInfo
---@field client { code?: integer, reason?: string }
---@field upstream { code?: integer, reason?: string }

---A client's messages to an upstream and back. See docs/proxy.md.
---@param opts resty.websocket.ProxyOptions
---@return boolean? ok
---@return string? err
---@return resty.websocket.ProxyInfo|integer|nil info
function M.proxy(opts) end

---Upgrades the current request as `accept` does, returns at once, and has callbacks called. In content_by_lua only.
---@param opts resty.websocket.ServeOptions
---@return true? ok
---@return string? err
---@return integer? status
function M.serve(opts) end

---Connects to a server, on a cosocket. The response is verified.
---@param url string `ws://host[:port][path]`, `wss://…`, `ws://unix:SOCKET:[path]`
---@param opts? resty.websocket.ConnectOptions
---@return resty.websocket.ClientConnection? ws
---@return string? err
---@return string? response status line and headers
function M.connect(url, opts) end

---Sends to all subscribers of a topic (or of several, each connection once), in all workers.
---@param topic string|string[] 1 to 255 bytes
---@param data string|resty.websocket.RawMessage
---@param opts? resty.websocket.PublishOptions
---@return integer? subscribers of the topic, in all workers
---@return integer|string|nil sequence the message's number, or the error
---@return string? cursor of a topic with a history
function M.publish(topic, data, opts) end

---What a topic remembers, oldest first.
---@param topic string
---@param opts? resty.websocket.HistoryOptions
---@return resty.websocket.HistoryMessage[]? messages
---@return string cursor after the newest of them, or the error
function M.history(topic, opts) end

---Drops what a topic remembers.
---@param topic string
---@return boolean? was whether that was anything
---@return string? err
function M.forget(topic) end

---Closes the subscribers of a topic, in all workers.
---@param topic string
---@param code? integer
---@param reason? string
---@return integer? subscribers
---@return string? err
function M.close_topic(topic, code, reason) end

---Who subscribes a topic.
---@class resty.websocket.Member
---@field member string the same in all topics of a connection; grants nothing
---@field info? string
---@field node string its machine

---Who subscribes a topic with `presence`, on all machines. It waits.
---@param topic string
---@return resty.websocket.Member[]? members
---@return integer|string nodes_answered those that have told all; or the error
---@return integer? nodes_known
function M.presence(topic) end

---The subscribers of a topic, on all machines. It waits where there are others.
---@param topic string
---@return integer? count
---@return integer|string nodes_answered or the error
---@return integer? nodes_known
function M.cluster_count(topic) end

---Sends to one connection, whichever worker owns it.
---@param id string `ws.id`
---@param data string|resty.websocket.RawMessage
---@param typ? resty.websocket.type
---@return true? ok
---@return string? err
function M.send(id, data, typ) end

---Closes one connection, whichever worker owns it.
---@param id string
---@param code? integer
---@param reason? string
---@return true? ok
---@return string? err
function M.close(id, code, reason) end

---Connections of all workers, or the subscribers of a topic.
---@param topic? string
---@return integer? count
---@return string? err
function M.count(topic) end

---Every number of the manual's section Metrics, and `open` and `accepted`.
---@return table<string, number|table<string, number>>
function M.info() end

---The rules of messages, for a handler that reads frames: asked with what each `recv_frame` returned.
---@param max_message_size? integer
---@return fun(data: string?, typ: string?, err: any): true?, string?, integer?
function M.frame_checker(max_message_size) end

---What both sides have in common.
---@class resty.websocket.CommonConnection
---@field protocol? string the subprotocol chosen
---@field extensions? string
---@field role "server"|"client"
local Common = {}

---Queues a message; waits only above the high-water mark.
---@param data string|resty.websocket.RawMessage
---@param typ? resty.websocket.type
---@return integer? bytes
---@return string? err
function Common:send(data, typ) end

---@param data? string|resty.websocket.RawMessage at most 125 bytes
---@return integer? bytes
---@return string? err
function Common:ping(data) end

---@param data? string|resty.websocket.RawMessage at most 125 bytes
---@return integer? bytes
---@return string? err
function Common:pong(data) end

---A message in fragments, never compressed.
---@param typ? resty.websocket.type
---@return resty.websocket.Writer? writer
---@return string? err
function Common:send_stream(typ) end

---`for data, typ in ws:messages() do`, until the connection ends.
---@return fun(ws: resty.websocket.CommonConnection): string?, string?
---@return resty.websocket.CommonConnection
function Common:messages() end

---Nothing while the connection is open.
---@return integer? code
---@return string? reason
---@return boolean? clean
function Common:close_info() end

---@return resty.websocket.state
function Common:state() end

---Bytes that the kernel has not taken yet.
---@return integer
function Common:buffered() end

---A whole message. `nil, "timeout"`: nothing is lost, call again.
---@param timeout? integer milliseconds
---@return string? data
---@return resty.websocket.type|string type_or_err
---@return integer? code
---@return string? reason
function Common:recv(timeout) end

---The close handshake.
---@param code? integer default: 1000
---@param reason? string
---@param timeout? integer milliseconds, default: 3000
---@return true? ok
---@return string? err
function Common:close(code, reason, timeout) end

---Drops the connection at once.
function Common:shutdown() end

---A server's connection, made by `accept`.
---@class resty.websocket.Connection : resty.websocket.CommonConnection
---@field id string for `publish`, `send` and `close` from elsewhere
---@field request_id string
local Connection = {}

---@param topic string 1 to 255 bytes
---@param opts? resty.websocket.SubscribeOptions
---@return true? ok
---@return resty.websocket.State|string state or the error
function Connection:subscribe(topic, opts) end

---Ends one subscription, or all.
---@param topic? string
---@return integer? ended
---@return string? err
function Connection:unsubscribe(topic) end

---@return string[]? topics
---@return string? err
function Connection:topics() end

---A server's connection, made by `serve`: valid in any request or timer of its worker until it has ended. `recv` and `messages` are errors.
---@class resty.websocket.ServedConnection : resty.websocket.Connection
---@field data any the program's own

---A client's connection, made by `connect`.
---@class resty.websocket.ClientConnection : resty.websocket.CommonConnection
---@field sock tcpsock the cosocket
local ClientConnection = {}

---A message that is sent in fragments.
---@class resty.websocket.Writer
local Writer = {}

---@param chunk string|resty.websocket.RawMessage
---@return integer? bytes
---@return string? err
function Writer:write(chunk) end

---@return integer? bytes
---@return string? err
function Writer:finish() end

return M
