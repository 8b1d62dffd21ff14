-- The client roles: goes through the cases of one fuzzing server, as that server's protocol asks.
-- /getCaseCount answers with the number of cases, /runCase?case=N is to be echoed until it ends,
-- and /updateReports says that there is no more to come. run(style) is the handler of the location
-- /walk: argument "url" is the fuzzing server; the response tells how many cases were walked.

local frame_echo = require "frame_echo"
local message_echo = require "message_echo"

local TIMEOUT = 100 * 1000    -- the longest wait of a case is 100 s
local AGENT = "nginx"

-- The fuzzing server's certificate is made for "localhost", and ngx_lua knows no hosts file.
local VERIFY = { ssl_verify = true, server_name = "localhost" }

local styles = {}

styles.frame = {
    open = function(url)
        local wb, err = require("resty.websocket.client"):new {
            max_payload_len = frame_echo.MESSAGE_LIMIT,
            timeout = TIMEOUT,
        }
        if not wb then
            return nil, err
        end
        local ok
        ok, err = wb:connect(url, VERIFY)
        return ok and wb, err
    end,

    echo = frame_echo.echo,

    read = function(wb)
        local data, _, err = wb:recv_frame()
        return data, err
    end,

    -- The server ends TCP first (RFC 6455 7.1.1); what it still sends until then is of no use.
    finish = function(wb)
        wb:set_timeout(2000)
        while not wb.fatal and wb:recv_frame() do end
        wb.sock:close()    -- wb:close() would leave it open after a fatal error
    end,
}

styles.message = {
    open = function(url)
        return require("resty.websocket").connect(url, {
            compression = true,
            max_message_size = "64m",
            timeout = TIMEOUT,
            ssl_verify = VERIFY.ssl_verify,
            server_name = VERIFY.server_name,
        })
    end,

    echo = message_echo.echo,
    read = function(ws) return ws:recv() end,
    finish = function(ws) ws:close() end,
}

local _M = {}


function _M.run(name)
    local style = styles[name]
    local server = ngx.var.arg_url

    local function visit(path, serve)
        local connection, err = style.open(server .. path)
        if not connection then
            ngx.log(ngx.ERR, path, ": ", err)
            return nil, err
        end
        local result
        result, err = serve(connection)
        style.finish(connection)
        return result, err
    end

    local count, err = visit("/getCaseCount", style.read)
    count = tonumber(count)
    if not count then
        ngx.log(ngx.ERR, "no case count: ", err)
        return ngx.exit(502)
    end

    for case = 1, count do
        visit("/runCase?case=" .. case .. "&agent=" .. AGENT, style.echo)
    end
    visit("/updateReports?agent=" .. AGENT, style.echo)
    ngx.say(count)
end


return _M
