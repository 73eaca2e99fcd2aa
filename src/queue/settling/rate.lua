-- Counts jobs that left a queue in the bucket of these ten seconds; the first write frees memory.
-- KEYS: the queue's buckets. ARGV: jobs.
local bucket = math.floor(redis.call('TIME')[1] / 10)
redis.call('HDEL', KEYS[1], '')
for _, old in ipairs(redis.call('HKEYS', KEYS[1])) do
  if tonumber(old) < bucket - 6 then redis.call('HDEL', KEYS[1], old) end
end
redis.call('HINCRBY', KEYS[1], bucket, ARGV[1])
redis.call('EXPIRE', KEYS[1], 90)
