-- Writes dead letters of jobs that were settled before, those only that were not written yet: each number is a bit, set
-- after all letters of that number are written, for Redis rolls nothing back. No shebang and a first write that needs no
-- memory (XDEL of nothing): so Redis runs it to its end at maxmemory.
-- KEYS: dead, bits of this burial, then the claim that each job lets go. ARGV: seconds to keep the bits, attempt,
-- then 8 fields a job. Returns the places, from 0, of the jobs that were buried now.
redis.call('XDEL', KEYS[1], '0-1')
local buried = {}
for i = 3, #ARGV, 8 do
  local number, job, sid, lane, code, status, detail, pointer = unpack(ARGV, i, i + 7)
  local place = (i - 3) / 8
  if redis.call('GETBIT', KEYS[2], number) == 0 then
    redis.call('XADD', KEYS[1], '*', 'job', job, 'sid', sid, 'n', ARGV[2], 'lane', lane, 'code', code, 'status', status, 'detail', detail, 'pointer', pointer)
    redis.call('DEL', KEYS[3 + place])
    buried[#buried + 1] = place
    if ARGV[i + 8] ~= number then redis.call('SETBIT', KEYS[2], number, 1) end
  end
end
redis.call('EXPIRE', KEYS[2], ARGV[1])
return buried
