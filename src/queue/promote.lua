-- Moves delayed jobs that are due to the stream of their lane; the first write frees memory.
-- A replay writes its mark behind the lane's name (`live+1.1700000000000`): it travels on with the job.
-- KEYS: the paused queues, then delayed, urgent, live and backfill of each queue. ARGV: how many jobs at most.
-- Returns how many were moved, in how many milliseconds the next is due (-1: none waits), and the paused queues.
local time, left, next_due = redis.call('TIME'), tonumber(ARGV[1]), -1
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 2, #KEYS, 4 do
  local streams = { urgent = KEYS[i + 1], live = KEYS[i + 2], backfill = KEYS[i + 3] }
  local first = redis.call('ZRANGE', KEYS[i], 0, 0, 'WITHSCORES')
  if first[2] and tonumber(first[2]) <= now and left > 0 then
    local due = redis.call('ZRANGEBYSCORE', KEYS[i], '-inf', now, 'LIMIT', 0, left)
    for _, member in ipairs(due) do
      local n, lane, claim, sid, job = member:match('^[^:]*:(%d*):([^:]*):([^:]*):([^:]*):(.*)$')
      redis.call('ZREM', KEYS[i], member)
      local fields = { 'job', job or member, 'n', n or '0', 'lane', lane or 'live' }
      if sid and sid ~= '' then fields[#fields + 1] = 'sid'; fields[#fields + 1] = sid end
      if claim and claim ~= '' then fields[#fields + 1] = 'claim'; fields[#fields + 1] = claim end
      redis.call('XADD', streams[(lane or ''):match('^%a*')] or KEYS[i + 2], '*', unpack(fields))
    end
    left = left - #due
    first = redis.call('ZRANGE', KEYS[i], 0, 0, 'WITHSCORES')
  end
  if first[2] then
    local wait = math.max(0, tonumber(first[2]) - now)
    if next_due < 0 or wait < next_due then next_due = wait end
  end
end
return { tonumber(ARGV[1]) - left, next_due, redis.call('HKEYS', KEYS[1]) }
