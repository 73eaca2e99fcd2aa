-- Moves dead jobs back to the stream of their lane, each in one piece: killed before or after, it is in exactly one of
-- the two. Whoever comes second finds the entry gone and moves nothing. A job is added before it is removed, for Redis
-- rolls nothing back. No shebang and a first write that needs no memory (XDEL of nothing): so Redis runs it to its end at
-- maxmemory. The payload is moved, never parsed.
-- KEYS: dead, urgent, live, backfill. ARGV: per job the entry, and what ends the mark behind its lane. Returns how many.
local time, moved = redis.call('TIME'), 0
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local streams = { urgent = KEYS[2], live = KEYS[3], backfill = KEYS[4] }
redis.call('XDEL', KEYS[1], '0-1')
for i = 1, #ARGV, 2 do
  local entry = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
  if entry then
    local it = {}
    for field = 1, #entry[2], 2 do it[entry[2][field]] = entry[2][field + 1] end
    local name = (it.lane or ''):match('^%a+') or 'live'
    local times = tonumber((it.lane or ''):match('%+(%d+)') or 0) + 1
    local lane = name .. '+' .. times .. '.' .. now .. ARGV[i + 1]
    redis.call('XADD', streams[name] or KEYS[3], '*', 'job', it.job or '', 'sid', it.sid or ARGV[i], 'n', 0, 'lane', lane)
    redis.call('XDEL', KEYS[1], ARGV[i])
    moved = moved + 1
  end
end
return moved
