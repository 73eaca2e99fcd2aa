-- Moves jobs that were not delivered: to the delayed set or to the dead letters. A job that another consumer holds is
-- skipped. Redis rolls nothing back: a job is added where it goes before it is taken from where it was, and a target that
-- refuses ends the script before anything moved. No shebang and a first write that needs no memory (ZREM): so Redis runs
-- it to its end at maxmemory.
-- KEYS: stream, delayed, dead, marks. ARGV: group, consumer, base of the account's keys, then 12 fields a job.
-- Returns for each job whether it moved.
local time, moved = redis.call('TIME'), {}
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREM', KEYS[2], '')
for i = 4, #ARGV, 12 do
  local id, job, sid, n, lane, claim, move, delay, code, status, detail, pointer = unpack(ARGV, i, i + 11)
  local is_ours = #redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1, ARGV[2]) > 0
  if is_ours then
    if move == 'later' then
      redis.call('ZADD', KEYS[2], now + delay, id .. '.' .. lane .. ':' .. n .. ':' .. lane .. ':' .. claim .. ':' .. sid .. ':' .. job)
    else
      redis.call('XADD', KEYS[3], '*', 'job', job, 'sid', sid, 'n', n, 'lane', lane, 'code', code, 'status', status, 'detail', detail, 'pointer', pointer)
      if claim ~= '' then redis.call('DEL', ARGV[3] .. ':claim:' .. claim) end
    end
    redis.call('XACK', KEYS[1], ARGV[1], id)
    redis.call('XDEL', KEYS[1], id)
    redis.call('HDEL', KEYS[4], KEYS[1] .. '|' .. id)
  end
  moved[#moved + 1] = is_ours and 1 or 0
end
return moved
