-- Reads everything a fleet shares, at one moment. Times are milliseconds from now.
-- KEYS: version, then the barriers, then the budgets. ARGV: number of barriers, how long a budget may be closed at most
-- (microseconds): what is longer is from a clock that was set back.
-- Returns: version; for each barrier how long it is shut at least (-1: open) and whether a probe is under way; for each
-- budget {closed for, why, full in (microseconds), used in the last minute} and lowered limits {second, minute, day, for how
-- long (microseconds)}.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local now_ms = math.floor(now / 1000)
local barriers, budgets = {}, {}
local last = 1 + tonumber(ARGV[1])
for i = 2, last do
  local found = redis.call('HMGET', KEYS[i], 'until', 'probe_until')
  local until_ = tonumber(found[1])
  if until_ and until_ > now_ms + 3600000 then until_ = now_ms end
  local probe_until = tonumber(found[2]) or 0
  local probing = probe_until > now_ms and probe_until <= now_ms + 60000
  barriers[#barriers + 1] = { until_ and math.max(0, until_ - now_ms) or -1, probing and 1 or 0 }
end
for i = last + 1, #KEYS do
  local found = redis.call('HMGET', KEYS[i], 'full', 'closed', 'why', 'low', 'second', 'minute', 'day',
    'u0', 'u1', 'u2', 'u3', 'u4', 'u5', 'u6', 'u7', 'u8', 'u9', 'u10', 'u11')
  local slot, used = math.floor(now / 5000000), 0
  for u = 8, 19 do
    local packed = tonumber(found[u]) or 0
    local its_slot = math.floor(packed / 1048576)
    if its_slot > slot - 12 and its_slot <= slot then used = used + packed % 1048576 end
  end
  local closed_for = math.max(0, (tonumber(found[2]) or 0) - now)
  if closed_for > tonumber(ARGV[2]) then closed_for = 0 end
  local closed = math.ceil(closed_for / 1000)
  local low_for = math.max(0, (tonumber(found[4]) or 0) - now)
  local low = low_for > 0
  budgets[#budgets + 1] = { { closed, closed > 0 and found[3] or '', math.max(0, (tonumber(found[1]) or 0) - now), used },
    { low and tonumber(found[5]) or 0, low and tonumber(found[6]) or 0, low and tonumber(found[7]) or 0, low_for } }
end
return { tonumber(redis.call('GET', KEYS[1]) or '0'), barriers, budgets }
