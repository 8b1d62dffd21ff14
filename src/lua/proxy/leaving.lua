-- A client that leaves while an upstream is asked for it: nobody is asked for nobody. What asks runs in a
-- light thread of its own, which ends where the client does.

local natives, vm = ...

local await = vm.module("resty.websocket.wait").call

local left = natives.left
local error = error
local ngx = ngx
local kill = ngx.thread.kill
local spawn = ngx.thread.spawn
local wait = ngx.thread.wait

-- The error, and how the light thread that looks says so.
local LEFT = "client closed connection"


local function await_end(lookout)
    await(left, lookout)
    return LEFT
end


-- Returns what ask() does, at most three values, or nil and LEFT if the client leaves before. It gets
-- what it may call stay() with, from where on it is not to be ended.
local function ask_for(ask)
    local lookout = natives.look_out()
    if not lookout then
        return ask()
    end
    local asks = spawn(ask, lookout)
    local looks = spawn(await_end, lookout)
    local ok, first, second, third = wait(asks, looks)
    natives.look_away(lookout)
    if first == LEFT then
        kill(asks)
        return nil, LEFT
    end
    kill(looks)
    if not ok then
        error(first, 0)
    end
    return first, second, third
end


local function stay(lookout)
    if lookout then
        natives.look_away(lookout)
    end
end


return { ask_for = ask_for, stay = stay, LEFT = LEFT }
