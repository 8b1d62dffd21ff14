-- Stores messages and publishes them, in one step. Nothing is changed unless it answers three values.
-- KEYS: stream, meta, a key's or none. ARGV: replication id, the one before it, whether it is
-- certain, a new epoch, most messages, their time, meta's time, key's time, channel, message...
local call, pack, concat = redis.call, struct.pack, table.concat
local meta = call('hmget', KEYS[2], 'e', 'r')
local epoch, id = meta[1], meta[2]
if epoch and id ~= ARGV[1] then
    if id == ARGV[2] then
        call('hset', KEYS[2], 'r', ARGV[1])
    elseif ARGV[3] == '1' then
        epoch = nil
    else
        return { id }
    end
end
if epoch and KEYS[3] then
    local before = call('get', KEYS[3])
    if before and before:sub(1, 8) == epoch then
        return { epoch, tonumber(before:sub(9)), 1 }
    end
end
if not epoch then
    epoch = ARGV[4]
    call('del', KEYS[1], KEYS[2])
    call('hset', KEYS[2], 'e', epoch, 'r', ARGV[1])
end
local count = #ARGV - 9
local top = call('hincrby', KEYS[2], 's', count)
local now = call('time')
local time = pack('<I8', now[1] * 1000 + math.floor(now[2] / 1000))
-- Exact trimming of long streams costs as much as all the rest.
local how = tonumber(ARGV[5]) > 100 and '~' or '='
for i = 1, count do
    local offset = top - count + i
    local record = time .. ARGV[9 + i]
    call('xadd', KEYS[1], 'MAXLEN', how, ARGV[5], ('%.0f-0'):format(offset), 'd', record)
    call(PUBLISH, ARGV[9], concat({ epoch, pack('<I8', offset), record }))
end
call('pexpire', KEYS[1], ARGV[6])
call('pexpire', KEYS[2], ARGV[7])
if KEYS[3] then
    call('set', KEYS[3], epoch .. ('%.0f'):format(top), 'px', ARGV[8])
end
return { epoch, top, 0 }
