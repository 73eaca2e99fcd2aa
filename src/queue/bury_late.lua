-- Writes dead letters of jobs that were settled before, those only that were not written yet: each number is a bit.
-- No shebang and a first write that frees memory (XDEL): so Redis runs it to its end at maxmemory.
-- KEYS: dead, bits of this burial, then the claim that each job lets go. ARGV: seconds to keep the bits, attempt,
-- then 8 fields a job. Returns the places, from 0, of the jobs that were buried now.
redis.call('XDEL', KEYS[1], '0-1')
local buried, is_new = {}, {}
for i = 3, #ARGV, 8 do
  local number, job, sid, lane, code, status, detail, pointer = unpack(ARGV, i, i + 7)
  local place = (i - 3) / 8
  if is_new[number] == nil then is_new[number] = redis.call('SETBIT', KEYS[2], number, 1) == 0 end
  if is_new[number] then
    redis.call('XADD', KEYS[1], '*', 'job', job, 'sid', sid, 'n', ARGV[2], 'lane', lane, 'code', code, 'status', status, 'detail', detail, 'pointer', pointer)
    redis.call('DEL', KEYS[3 + place])
    buried[#buried + 1] = place
  end
end
redis.call('EXPIRE', KEYS[2], ARGV[1])
return buried
