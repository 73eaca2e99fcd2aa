-- Closes an operation for the whole fleet, or lowers its limits for a while, or both; never opens, never raises.
-- No shebang and a first write that does not grow (PEXPIRE): it runs at maxmemory.
-- KEYS: budget (hash), version of what the fleet shares. ARGV: closed for (microseconds), why, limits (second, minute, day;
-- 0: keep), how long one may be closed at most (microseconds): what is longer is from a clock that was set back; and how
-- long limits stay lowered.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
redis.call('PEXPIRE', KEYS[1], 172800000)
local found = redis.call('HMGET', KEYS[1], 'closed', 'low', 'second', 'minute', 'day')
local until_, before = now + tonumber(ARGV[1]), tonumber(found[1]) or 0
if before > now + tonumber(ARGV[6]) then before = 0 end
local changed = false
if until_ > now and until_ > before then
  redis.call('HSET', KEYS[1], 'closed', string.format('%.0f', until_), 'why', ARGV[2])
  changed = true
end
if tonumber(ARGV[4]) > 0 then
  local valid = (tonumber(found[2]) or 0) > now
  for i, field in ipairs({ 'second', 'minute', 'day' }) do
    local before, new = valid and tonumber(found[2 + i]) or 0, tonumber(ARGV[2 + i])
    if before > 0 and (new == 0 or before < new) then new = before end
    redis.call('HSET', KEYS[1], field, new)
  end
  redis.call('HSET', KEYS[1], 'low', string.format('%.0f', now + tonumber(ARGV[7])))
  changed = true
end
redis.call('PEXPIRE', KEYS[1], 172800000)
if changed then redis.call('INCR', KEYS[2]) end
return changed and 1 or 0
