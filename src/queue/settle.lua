-- Moves jobs that were not delivered: to the delayed set or to the dead letters. A job that another consumer holds is
-- skipped. No shebang and a first write that frees memory (XACK): so Redis runs it to its end at maxmemory.
-- KEYS: stream, delayed, dead. ARGV: group, consumer, base of the account's keys, then 12 fields a job.
local time, settled = redis.call('TIME'), 0
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 4, #ARGV, 12 do
  local id, job, sid, n, lane, claim, move, delay, code, status, detail, pointer = unpack(ARGV, i, i + 11)
  if #redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1, ARGV[2]) > 0 and redis.call('XACK', KEYS[1], ARGV[1], id) == 1 then
    redis.call('XDEL', KEYS[1], id)
    if move == 'later' then
      redis.call('ZADD', KEYS[2], now + delay, id .. '.' .. lane .. ':' .. n .. ':' .. lane .. ':' .. claim .. ':' .. sid .. ':' .. job)
    else
      redis.call('XADD', KEYS[3], '*', 'job', job, 'sid', sid, 'n', n, 'lane', lane, 'code', code, 'status', status, 'detail', detail, 'pointer', pointer)
      if claim ~= '' then redis.call('DEL', ARGV[3] .. ':claim:' .. claim) end
    end
    settled = settled + 1
  end
end
return settled
