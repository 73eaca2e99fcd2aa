-- Deletes delayed jobs, the latest first, and releases their claims; the first write frees memory.
-- KEYS: delayed. ARGV: base of the account's keys, lane ('' = all), how many of the latest to pass over, jobs at most,
-- bytes at most, then how internal payloads begin. Returns deleted, internal, of another lane.
local rank, deleted, internal, other, bytes = tonumber(ARGV[3]), 0, 0, 0, 0
for _ = 1, tonumber(ARGV[4]) do
  local member = redis.call('ZREVRANGE', KEYS[1], rank, rank)[1]
  if not member then break end
  local lane, claim, job = member:match('^[^:]*:%d*:([^:]*):([^:]*):[^:]*:(.*)$')
  local is_internal = false
  for i = 6, #ARGV do is_internal = is_internal or (job or member):sub(1, #ARGV[i]) == ARGV[i] end
  if ARGV[2] ~= '' and ARGV[2] ~= (lane or 'live'):match('^%a*') then
    other, rank = other + 1, rank + 1
  elseif is_internal then
    internal, rank = internal + 1, rank + 1
  else
    redis.call('ZREM', KEYS[1], member)
    if claim and claim ~= '' then redis.call('DEL', ARGV[1] .. ':claim:' .. claim) end
    deleted = deleted + 1
  end
  bytes = bytes + #member
  if bytes > tonumber(ARGV[5]) then break end
end
return { deleted, internal, other }
