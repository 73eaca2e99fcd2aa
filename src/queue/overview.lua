-- Counts a queue at one moment: read one by one, a job that moves in between would be seen twice or not at all.
-- KEYS: delayed, dead, urgent, live, backfill. ARGV: group. Returns delayed, dead, then {length, pending, oldest id} of each lane.
local found = { redis.call('ZCARD', KEYS[1]), redis.call('XLEN', KEYS[2]) }
for lane = 3, 5 do
  local pending, oldest = 0, ''
  local length = redis.call('XLEN', KEYS[lane])
  if length > 0 then
    for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[lane])) do
      local facts = {}
      for i = 1, #group, 2 do facts[group[i]] = group[i + 1] end
      if facts['name'] == ARGV[1] then pending = facts['pending'] end
    end
    oldest = redis.call('XRANGE', KEYS[lane], '-', '+', 'COUNT', 1)[1][1]
  end
  found[#found + 1] = { length, pending, oldest }
end
return found
