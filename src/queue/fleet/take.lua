-- Takes calls of one operation from the fleet's bucket, on Redis' clock. What is not free yet is reserved: the caller comes
-- back with a ticket when it is due, so that waiting costs no polling, nothing is lost between two calls, and daemons
-- take turns. All times are microseconds. No shebang and a first write that does not grow (PEXPIRE): it runs at maxmemory.
-- KEYS: budget (hash), day (list of the day's calls, newest first).
-- ARGV: interval, capacity, limit of the day (0: none), how long the caller knows it to be closed, why, how long one may be
-- closed at most, calls wanted, calls of the ticket, when it was due, then the due times of calls that come back unused.
-- Returns: {ticket is good, calls free now, calls reserved, due time, wait until then}, {closed for, why, full in, used in the
-- last minute}, lowered limits {second, minute, day, for how long}.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, capacity, daily = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local wanted, ticket, ticket_due = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local tolerance, DAY, KEEP_MS = interval * capacity, 86400000000, 172800000
redis.call('PEXPIRE', KEYS[1], KEEP_MS)
local found = redis.call('HMGET', KEYS[1], 'full', 'since', 'closed', 'why', 'low', 'second', 'minute', 'day',
  'u0', 'u1', 'u2', 'u3', 'u4', 'u5', 'u6', 'u7', 'u8', 'u9', 'u10', 'u11')
-- When the bucket will be full again, and since when it has not been.
local full, since = tonumber(found[1]) or 0, tonumber(found[2]) or 0
-- Only a clock that was set back makes it this late.
if full > now + tolerance + 300000000 then full = now end

local closed, why = tonumber(found[3]) or 0, found[4] or ''
-- As above.
if closed > now + tonumber(ARGV[6]) then closed = 0 end
local known = now + tonumber(ARGV[4])
if known > now and known > closed then closed, why = known, ARGV[5] end
local is_closed = closed > now

-- Calls by five seconds: each field is the number of its five seconds, times 2^20, plus calls.
local calls_in, touched, this_slot = {}, {}, math.floor(now / 5000000)
for i = 0, 11 do
  local packed = tonumber(found[9 + i]) or 0
  calls_in[math.floor(packed / 1048576)] = packed % 1048576
end
-- What is due later counts now: a count for people may be a few seconds early.
local function count(at, calls)
  local slot = math.min(this_slot, math.floor(at / 5000000))
  if slot <= this_slot - 12 then return end
  calls_in[slot] = math.max(0, (calls_in[slot] or 0) + calls)
  touched[slot] = true
end

local function give_back(calls, due)
  -- Once the bucket was full again, there is nothing to give back; and where it holds one call, only the last one
  -- can come back, or two calls would be due together.
  if due >= since and (capacity > 1 or full <= due + tolerance + 1) then full = full - calls * interval end
  if daily > 0 then redis.call('LREM', KEYS[2], 1, string.format('%.0f', due)) end
  count(due, -calls)
end
for i = 10, #ARGV do give_back(1, tonumber(ARGV[i])) end

local good, free, reserved, due = 0, 0, 0, now
if ticket > 0 then
  if is_closed then give_back(ticket, ticket_due) else good = 1 end
end
if wanted > 0 and not is_closed then
  if daily > 0 then
    local oldest = tonumber(redis.call('LINDEX', KEYS[2], daily - wanted) or '')
    if oldest and oldest + DAY > now then closed, why, is_closed = oldest + DAY, 'day', true end
  end
  if not is_closed then
    if full < now then full, since = now, now end
    full = full + wanted * interval
    due = math.ceil(math.max(now, full - tolerance))
    if due <= now then free = wanted else reserved = wanted end
    count(due, wanted)
    if daily > 0 then
      for _ = 1, wanted do redis.call('LPUSH', KEYS[2], string.format('%.0f', due)) end
      redis.call('LTRIM', KEYS[2], 0, daily - 1)
      redis.call('PEXPIRE', KEYS[2], KEEP_MS)
    end
  end
end
local used = 0
for slot = this_slot - 11, this_slot do used = used + (calls_in[slot] or 0) end
local fields = { 'full', string.format('%.0f', full), 'since', string.format('%.0f', since) }
for slot in pairs(touched) do
  fields[#fields + 1] = 'u' .. slot % 12
  fields[#fields + 1] = string.format('%.0f', slot * 1048576 + calls_in[slot])
end
-- What the day keeps closed is in its own list.
if closed > now and why ~= 'day' then
  for _, field in ipairs({ 'closed', string.format('%.0f', closed), 'why', why }) do fields[#fields + 1] = field end
end
redis.call('HSET', KEYS[1], unpack(fields))
redis.call('PEXPIRE', KEYS[1], KEEP_MS)
local low_for = math.max(0, (tonumber(found[5]) or 0) - now)
local low = low_for > 0
return { { good, free, reserved, due, due - now },
  { is_closed and closed - now or 0, is_closed and why or '', math.max(0, full - now), used },
  { low and tonumber(found[6]) or 0, low and tonumber(found[7]) or 0, low and tonumber(found[8]) or 0, low_for } }
