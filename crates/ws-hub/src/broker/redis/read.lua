-- A piece of a history: what follows on a position, or the newest messages.
-- KEYS: stream, meta. ARGV: replication id, the one before it, whether it is certain, epoch and
-- offset of the position, most messages, bytes of a piece, of its largest message. Answers nothing where there is none; the
-- id that is there where it is another; epoch and top; and where there is news the offset before the
-- first message, the messages, and whether more follow.
local meta = redis.call('hmget', KEYS[2], 'e', 'r', 's')
local epoch, id, top = meta[1], meta[2], tonumber(meta[3])
if not epoch then
    return {}
end
local known = tonumber(ARGV[5])
if epoch == ARGV[4] and known > top then
    id = nil
end
if id ~= ARGV[1] then
    if id and id == ARGV[2] then
        redis.call('hset', KEYS[2], 'r', ARGV[1])
    elseif not id or ARGV[3] == '1' then
        redis.call('del', KEYS[1], KEYS[2])
        return {}
    else
        return { id }
    end
end
local from = math.max(top - tonumber(ARGV[6]), 0)
if epoch == ARGV[4] then
    from = math.max(from, known)
end
if from == top then
    return { epoch, top }
end
local list, size, at = {}, 0, from
local most, largest = tonumber(ARGV[7]), tonumber(ARGV[8])
repeat
    local part = redis.call('xrange', KEYS[1], ('%.0f'):format(at + 1), '+', 'COUNT', 32)
    for _, entry in ipairs(part) do
        local offset, record = tonumber(entry[1]:match('^%d+')), entry[2][2]
        if offset ~= at + 1 then
            list, from = {}, offset - 1
        end
        at = offset
        if #record > largest then
            -- Who reads cannot take it: what can be had begins behind it.
            list, from = {}, offset
        else
            list[#list + 1] = record
            size = size + #record
        end
        -- Not only behind all of a part, which is larger than who reads takes at once.
        if size > most then
            break
        end
    end
until #part < 32 or size > most
if #list == 0 then
    return { epoch, top, top, list, 0 }
end
return { epoch, top, from, list, at < top and 1 or 0 }
