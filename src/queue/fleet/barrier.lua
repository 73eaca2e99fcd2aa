-- One barrier that keeps calls from leaving: shut by the first who says so, probed by one daemon at a time, opened by its
-- success. The key exists while it is shut. Times are milliseconds. No shebang and a first write that does not grow
-- (PEXPIRE): it runs at maxmemory.
-- KEYS: barrier (hash), version of what the fleet shares. ARGV: verb, who, delay or lease.
-- Returns: whether the word changed something, and how long nobody but the answered may pass (-1: the barrier is open).
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local verb, who, delay = ARGV[1], ARGV[2], tonumber(ARGV[3])
local is_shut = redis.call('PEXPIRE', KEYS[1], 86400000) == 1
local found = redis.call('HMGET', KEYS[1], 'until', 'probe_by', 'probe_until')
local until_, probe_until = tonumber(found[1]) or 0, tonumber(found[3]) or 0
-- A clock that was set back must not keep it shut.
if until_ > now + 3600000 then until_ = now end
local probing = probe_until > now and probe_until <= now + 60000
local is_mine = found[2] == who or not probing

local function shut_for(ms)
  redis.call('HSET', KEYS[1], 'until', now + ms)
  redis.call('HDEL', KEYS[1], 'probe_by', 'probe_until')
  redis.call('PEXPIRE', KEYS[1], 86400000)
  redis.call('INCR', KEYS[2])
  return { 1, ms }
end

if verb == 'shut' then
  if is_shut then return { 0, math.max(0, until_ - now) } end
  redis.call('HSET', KEYS[1], 'since', now)
  return shut_for(delay)
end
if not is_shut then return { 0, -1 } end
if verb == 'ask' then
  if until_ > now then return { 0, until_ - now } end
  if not is_mine then return { 0, math.min(1000, probe_until - now) } end
  redis.call('HSET', KEYS[1], 'probe_by', who, 'probe_until', now + delay)
  return { 1, 0 }
end
if verb == 'hurry' then
  return shut_for(0)
end
if not is_mine then return { 0, math.max(0, until_ - now) } end
if verb == 'good' then
  redis.call('DEL', KEYS[1])
  redis.call('INCR', KEYS[2])
  return { 1, -1 }
end
if verb == 'bad' then return shut_for(delay) end
-- The probe was never made: the next who asks gets it.
redis.call('HDEL', KEYS[1], 'probe_by', 'probe_until')
return { 1, math.max(0, until_ - now) }
