-- Drops a history, and tells everybody who follows it. KEYS: stream, meta. ARGV: channel.
local had = redis.call('del', KEYS[1], KEYS[2])
redis.call(PUBLISH, ARGV[1], ('\0'):rep(24))
return had
