-- Looks through delayed jobs, the latest first, for those that hold a text or come from a stream id. Nothing is written,
-- no payload is parsed.
-- KEYS: delayed. ARGV: how many of the latest to pass over, text, stream id ('' = none), members at most, bytes at most.
-- Returns how many were looked at, whether that was the end, and {member, due} of those that fit.
local rank, seen, bytes, found = tonumber(ARGV[1]), 0, 0, {}
while seen < tonumber(ARGV[4]) and bytes < tonumber(ARGV[5]) do
  local pair = redis.call('ZREVRANGE', KEYS[1], rank + seen, rank + seen, 'WITHSCORES')
  if not pair[1] then return { seen, 1, found } end
  seen, bytes = seen + 1, bytes + #pair[1]
  local sid, job = pair[1]:match('^[^:]*:%d*:[^:]*:[^:]*:([^:]*):(.*)$')
  if (sid and sid ~= '' and sid == ARGV[3]) or (job or pair[1]):find(ARGV[2], 1, true) then
    found[#found + 1] = { pair[1], pair[2] }
  end
end
return { seen, 0, found }
