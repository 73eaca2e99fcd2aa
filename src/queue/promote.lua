-- Moves delayed jobs that are due to the stream of their lane, at most 500 a call; the first write frees memory.
-- A replay writes its mark behind the lane's name (`live+1.1700000000000`): it travels on with the job.
-- KEYS: delayed, urgent, live, backfill.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local streams = { urgent = KEYS[2], live = KEYS[3], backfill = KEYS[4] }
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 500)
for _, member in ipairs(due) do
  local n, lane, claim, sid, job = member:match('^[^:]*:(%d*):([^:]*):([^:]*):([^:]*):(.*)$')
  redis.call('ZREM', KEYS[1], member)
  local fields = { 'job', job or member, 'n', n or '0', 'lane', lane or 'live' }
  if sid and sid ~= '' then fields[#fields + 1] = 'sid'; fields[#fields + 1] = sid end
  if claim and claim ~= '' then fields[#fields + 1] = 'claim'; fields[#fields + 1] = claim end
  redis.call('XADD', streams[(lane or ''):match('^%a*')] or KEYS[3], '*', unpack(fields))
end
return #due
