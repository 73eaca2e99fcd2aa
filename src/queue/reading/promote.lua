-- Moves delayed jobs that are due to the stream of their lane. Every queue has a share of the call, in jobs and in bytes, so
-- that a mountain in one holds up no other; a queue whose keys refuse is left alone. A job is added before it is
-- removed, for Redis rolls nothing back; the first write needs no memory.
-- A replay writes its mark behind the lane's name (`live+1.1700000000000`): it travels on with the job.
-- KEYS: the paused queues, then delayed, urgent, live and backfill of each queue. ARGV: jobs and bytes of a queue at most.
-- Returns in how many milliseconds the next is due (-1: none waits), the paused queues, and what refused.
local time, next_due, refused = redis.call('TIME'), -1, ''
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 2, #KEYS, 4 do
  local streams = { urgent = KEYS[i + 1], live = KEYS[i + 2], backfill = KEYS[i + 3] }
  local jobs, bytes = tonumber(ARGV[1]), tonumber(ARGV[2])
  local first = redis.pcall('ZRANGE', KEYS[i], 0, 0, 'WITHSCORES')
  refused = first.err or refused
  while first[2] and tonumber(first[2]) <= now and jobs > 0 and bytes > 0 do
    local member = first[1]
    local n, lane, claim, sid, job = member:match('^[^:]*:(%d*):([^:]*):([^:]*):([^:]*):(.*)$')
    local fields = { 'job', job or member, 'n', n or '0', 'lane', lane or 'live' }
    if sid and sid ~= '' then fields[#fields + 1] = 'sid'; fields[#fields + 1] = sid end
    if claim and claim ~= '' then fields[#fields + 1] = 'claim'; fields[#fields + 1] = claim end
    redis.call('ZREM', KEYS[i], '')
    local added = redis.pcall('XADD', streams[(lane or ''):match('^%a*')] or KEYS[i + 2], '*', unpack(fields))
    if type(added) == 'table' and added.err then
      refused, first = added.err, {}
    else
      redis.call('ZREM', KEYS[i], member)
      jobs, bytes = jobs - 1, bytes - #member
      first = redis.call('ZRANGE', KEYS[i], 0, 0, 'WITHSCORES')
    end
  end
  if first[2] then
    local wait = math.max(0, tonumber(first[2]) - now)
    if next_due < 0 or wait < next_due then next_due = wait end
  end
end
local paused = redis.pcall('HKEYS', KEYS[1])
if paused.err then refused, paused = paused.err, {} end
return { next_due, paused, refused }
