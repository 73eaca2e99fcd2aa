-- Counts a queue at one moment: read one by one, a job that moves in between would be seen twice or not at all.
-- KEYS: delayed, dead, rate, urgent, live, backfill. ARGV: group. Returns delayed, dead, jobs that left the queue within
-- a minute and the milliseconds they took, then {length, pending, oldest first stream id} of each lane.
local time = redis.call('TIME')
local now, left, since = time[1] * 1000 + math.floor(time[2] / 1000), 0, nil
local buckets = redis.call('HGETALL', KEYS[3])
for i = 1, #buckets, 2 do
  local begin = tonumber(buckets[i]) * 10000
  if begin > now - 70000 then
    left = left + tonumber(buckets[i + 1])
    since = math.min(since or begin, begin)
  end
end
local found = { redis.call('ZCARD', KEYS[1]), redis.call('XLEN', KEYS[2]), left, now - (since or now) }
for lane = 4, 6 do
  local pending, oldest = 0, ''
  local length = redis.call('XLEN', KEYS[lane])
  if length > 0 then
    for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[lane])) do
      local facts = {}
      for i = 1, #group, 2 do facts[group[i]] = group[i + 1] end
      if facts['name'] == ARGV[1] then pending = facts['pending'] end
    end
    local entry = redis.call('XRANGE', KEYS[lane], '-', '+', 'COUNT', 1)[1]
    oldest = entry[1]
    for i = 1, #entry[2], 2 do
      if entry[2][i] == 'sid' then oldest = entry[2][i + 1] end
    end
  end
  found[#found + 1] = { length, pending, oldest }
end
return found
