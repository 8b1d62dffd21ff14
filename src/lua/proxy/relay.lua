-- websocket.proxy(): a client is let in once an upstream has let us in, and messages go both ways
-- natively. This shim orders the handshakes and runs the callbacks; which messages there are and who may
-- send is the natives' business.

local natives, vm = ...

local dial = vm.module("resty.websocket.connect").dial
local leaving = vm.module("resty.websocket.leaving")
local options = vm.module("resty.websocket.options")
local refusal = vm.module("resty.websocket.refusal")
local with_traceback = vm.module("resty.websocket.traceback")
local await = vm.module("resty.websocket.wait").call
local READ_SIZE = vm.module("resty.websocket.carry").READ_SIZE

local close_fault = vm.natives.message.close_fault
local escaped = vm.natives.vm.escaped
local native_take = natives.take
local native_put = natives.put
local ceil = math.ceil
local concat = table.concat
local error = error
local ipairs = ipairs
local pairs = pairs
local pcall = pcall
local select = select
local tostring = tostring
local type = type
local xpcall = xpcall
local ngx = ngx
local ERR = ngx.ERR
local kill = ngx.thread.kill
local spawn = ngx.thread.spawn

-- Of a ping, in bytes (RFC 6455 5.5).
local MAX_PING = 125
local CALLBACKS = { "on_open", "on_message", "on_ping", "on_close" }
-- Options of connect() that hold for the client as well, unless `client` has its own.
local SHARED = { "max_message_size", "max_frame_size", "send_timeout" }


local function fail(name, what, value)
    error('bad "' .. name .. '" option: ' .. what .. " expected, got " .. type(value), 0)
end


-- The options: ours, connect()'s for the upstream, accept()'s for the client, both as those take them.
local function sort_out(opts)
    if type(opts) ~= "table" then
        error('bad "opts" argument: table expected, got ' .. type(opts), 0)
    end
    local own, rest = {}, {}
    for name, value in pairs(opts) do
        rest[name] = value
    end
    for _, name in ipairs(CALLBACKS) do
        local value = rest[name]
        if value ~= nil and type(value) ~= "function" then
            fail(name, "function", value)
        end
        own[name], rest[name] = value, nil
    end
    if rest.upstream ~= nil and type(rest.upstream) ~= "string" then
        fail("upstream", "string", rest.upstream)
    end
    own.block, rest.upstream = rest.upstream, nil
    if type(rest.url) ~= "string" and not (rest.url == nil and own.block) then
        fail("url", "string", rest.url)
    end
    own.url, rest.url = rest.url, nil
    if rest.protocols == nil or rest.protocols == "pass" then
        own.pass_protocols, rest.protocols = true, nil
    end
    if rest.pass_headers ~= nil and rest.pass_headers ~= "all" then
        own.names = rest.pass_headers == "none" and {} or rest.pass_headers
        local odd, one = options.is_odd(own.names)
        if odd then
            fail("pass_headers", "array of strings", one)
        end
    end
    rest.pass_headers = nil
    if rest.headers == "pass" then
        rest.headers = nil
    end
    if rest.idle_timeout ~= nil
       and not (type(rest.idle_timeout) == "number" and rest.idle_timeout >= 0)
    then
        fail("idle_timeout", "milliseconds", rest.idle_timeout)
    end
    -- Less than a millisecond is no 0, which is no limit.
    own.idle_timeout, rest.idle_timeout = rest.idle_timeout and ceil(rest.idle_timeout), nil

    if rest.client ~= nil and type(rest.client) ~= "table" then
        fail("client", "table", rest.client)
    end
    local client = {}
    for name, value in pairs(rest.client or {}) do
        client[name] = value
    end
    if client.protocols ~= nil then
        error('bad "client.protocols" option: the upstream chooses', 0)
    end
    rest.client = nil
    for _, name in ipairs(SHARED) do
        if client[name] == nil then
            client[name] = rest[name]
        end
    end
    own.client = options.check(client, options.ACCEPT)
    own.upstream = options.check(rest, options.CONNECT)
    return own
end


-- What the client said of itself, for the upstream.
local function add_headers(own)
    local lines = natives.hops(own.names)
    for _, line in ipairs(own.upstream.headers or {}) do
        lines[#lines + 1] = line
    end
    own.upstream.headers = lines
    if own.pass_protocols then
        local offered = ngx.req.get_headers()["Sec-WebSocket-Protocol"]
        if offered then
            own.upstream.protocols = { type(offered) == "table" and concat(offered, ", ") or offered }
        end
    end
end


-- What a client is answered where its upstream cannot be asked.
local function fitting_status(err)
    if err == leaving.LEFT then
        return 499
    end
    return err:find("timeout", 1, true) and 504 or 502
end


-- The peer whose turn it is | nil, err
local function choose(own, peers)
    local host, port = natives.choose(peers)
    if host then
        return { host = host, port = port }
    end
    natives.note_peer(own.block)
    natives.end_try(502)
    return nil, port
end


-- Says in the log which upstream has sent what is no answer. Of what it did not send at all the cosocket has
-- said why, but of an end.
local function note_bad_answer(err, peer, url)
    if err:find("^failed websocket handshake") or err:find(": closed$") then
        ngx.log(ERR, "websocket upstream sent a bad answer: ", escaped(err), ', upstream: "', peer, '", url: "', url, '"')
    end
end


-- Asks the upstream, or one peer of its block after the other, as nginx's `proxy_next_upstream` has it: an
-- answer in HTTP is one.
local function ask(own, peers, lookout)
    local asked, is_connected, fault
    local told = {
        asks = function (at)
            asked = natives.note_peer(at.port and at.host .. ":" .. at.port or at.host)
        end,
        connected = function (sock)
            asked, is_connected = natives.note_peer(sock) or asked, true
        end,
        refused = function (sock, head)
            local found
            found, fault = refusal.read(sock, head)
            if found then
                leaving.stay(lookout)
                own.refusal = found.status
                refusal.answer(found)
            end
        end,
    }
    local upstream, failed
    repeat
        local begun, at, err = natives.begin_try(failed ~= nil)
        if not begun then
            return nil, "no memory"
        end
        if peers then
            at, err = choose(own, peers)
            if not at then
                return nil, failed or err
            end
        end
        is_connected, fault = false, nil
        upstream, failed = dial(own.url, own.upstream, told, at)
        failed = fault or failed
        natives.end_try(upstream and 101 or own.refusal or fitting_status(failed))
        if upstream or own.refusal then
            return upstream, failed
        elseif is_connected then
            note_bad_answer(failed, asked, own.url)
        end
    until not (peers and natives.let_go(peers, true))
    return nil, failed
end


local function let_go(peers)
    if peers then
        natives.let_go(peers)
    end
end


-- Has a light thread wait in the cosocket for bytes, and gives the connection what that held before: no
-- more, however much has come. From then on its events may be the natives'. Returns nothing where the
-- stream has ended already.
local function park_reader(upstream)
    local feed = vm.natives.carried.feed
    while true do
        natives.hold_reading(upstream.sock)
        local bytes, ended
        local thread = spawn(function ()
            bytes = upstream.sock:receiveany(READ_SIZE)
            ended = not bytes
        end)
        if bytes then
            feed(upstream.session, bytes)
        elseif ended then
            return nil
        else
            return thread
        end
    end
end


-- Code and reason of a close that a callback wants.
local function check_close(name, code, reason)
    reason = reason == nil and "" or reason
    if type(code) ~= "number" or type(reason) ~= "string" or close_fault(code, reason) then
        error(name .. ": bad value returned (a close code that may be sent, and a text of at most 123 bytes, expected)", 0)
    end
    return code, reason
end


local function decide(self, from, data, typ, ...)
    if select("#", ...) == 0 or (...) == nil then
        return native_put(self.pair, from, data, typ == "text", true)
    end
    local changed, second, reason = ...
    if changed == false then
        if second ~= nil then
            natives.close_both(self.pair, check_close("on_message", second, reason))
        end
        return
    end
    local kind = second or typ
    if type(changed) ~= "string" or kind ~= "text" and kind ~= "binary" then
        error("on_message: bad value returned (data and type, false, or nothing expected)", 0)
    end
    local known = changed == data and kind == typ
    local ok, err = native_put(self.pair, from, changed, kind == "text", known)
    if not ok and err == "invalid utf-8" then
        error("on_message: invalid utf-8 returned as text", 0)
    end
end


local function tell(self, from, reason, code)
    local on_close = self.own.on_close
    if on_close then
        local changed, words = on_close(from, code, reason)
        if changed ~= nil then
            code, reason = check_close("on_close", changed, words)
        end
    end
    natives.tell(self.pair, from, code, reason)
end


-- A ping goes nowhere, unless the callback returns one for the other side.
local function ping(self, from, data)
    local changed = self.own.on_ping(from, data)
    if changed == nil then
        return
    end
    if type(changed) ~= "string" or #changed > MAX_PING then
        error("on_ping: bad value returned (nothing, or a text of at most 125 bytes, expected)", 0)
    end
    natives.ping(self.pair, from, changed)
end


-- Until both sides have ended.
local function relay(self)
    local own, pair = self.own, self.pair
    local on_message = own.on_message
    if own.on_open then
        own.on_open(self.client, self.upstream)
    end
    while true do
        local from, data, typ, code = await(native_take, pair)
        if not from then
            return
        elseif typ == "close" then
            tell(self, from, data, code)
        elseif typ == "ping" then
            ping(self, from, data)
        elseif on_message then
            decide(self, from, data, typ, on_message(from, data, typ))
        else
            native_put(pair, from, data, typ == "text", true)
        end
    end
end


local function drain(pair)
    repeat
        local from = await(native_take, pair)
    until not from
end


local function run(self)
    local done, err = xpcall(relay, with_traceback, self)
    if not done then
        ngx.log(ERR, "websocket.proxy: a callback failed: ", tostring(err))
        natives.close_both(self.pair, 1011, "")
        drain(self.pair)
        return nil, "a callback failed"
    end
    return true
end


local function info_of(pair)
    local code, reason, upstream_code, upstream_reason = natives.ends(pair)
    return {
        client = { code = code, reason = reason },
        upstream = { code = upstream_code, reason = upstream_reason },
    }
end


return function (accept, judge)
    return function (opts)
        local sorted, own = pcall(sort_out, opts)
        if not sorted then
            error(tostring(own):gsub("^[^ ]-:%d+: ", ""), 2)
        end

        if ngx.headers_sent then
            return nil, "response header already sent", 500
        end
        local ok, err, status = judge(own.client)
        if not ok then
            return nil, err, status
        end

        local peers
        if own.block then
            peers, err = natives.peers(own.block)
            if not peers then
                if not err then
                    error('bad "upstream" option: no upstream block "' .. own.block .. '"', 2)
                end
                return nil, err, 502
            end
            -- The name of a block has no port to be told.
            local host = own.block
            if own.url then
                host = own.url:match("^%a+://([^/?:]+)[/?]")
            else
                own.url, own.upstream.target = "ws://" .. own.block, ngx.var.request_uri
            end
            own.upstream.host = own.upstream.host or host
        end
        add_headers(own)
        local upstream
        upstream, err = leaving.ask_for(function (lookout)
            return ask(own, peers, lookout)
        end)
        if not upstream then
            if own.refusal then
                return nil, "upstream refused", own.refusal
            end
            return nil, err, fitting_status(err)
        end

        own.client.protocols = upstream.protocol and { upstream.protocol }
        local client
        client, err, status = accept(own.client)
        if not client then
            upstream:shutdown()
            let_go(peers)
            return nil, err, status
        end

        local thread = park_reader(upstream)
        local looks = own.on_message ~= nil or own.on_close ~= nil
        local pair = natives.join(client.session, upstream.session, thread and upstream.sock, looks,
                                  own.client.send_timeout, own.idle_timeout, own.on_ping ~= nil)
        ok, err = run({ own = own, pair = pair, client = client, upstream = upstream })
        if thread then
            kill(thread)
        end
        let_go(peers)
        return ok, err, info_of(pair)
    end
end
