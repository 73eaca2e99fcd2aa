-- Enqueues a chunk of jobs: takes the claims, then writes each job to its stream or its delayed set.
-- KEYS: per job the stream or sorted set, then the claim's key (the first again when there is no claim).
-- ARGV: per job the claim's hash ('' = none), the id, the claim's milliseconds, the due time ('' = now), the payload.
-- Returns per job: the stream id, 'delayed', '' for a duplicate, or '!' and an error. Payloads are never parsed.
local results = {}
for job = 1, #KEYS / 2 do
  local target, claim_key, arg = KEYS[2 * job - 1], KEYS[2 * job], 5 * (job - 1)
  local hash, id, lasts, due, payload = ARGV[arg + 1], ARGV[arg + 2], ARGV[arg + 3], ARGV[arg + 4], ARGV[arg + 5]
  if hash ~= '' and not redis.call('SET', claim_key, id, 'NX', 'PX', lasts) then
    results[job] = ''
  else
    local written
    if due ~= '' then
      written = redis.pcall('ZADD', target, due, payload)
    elseif hash ~= '' then
      written = redis.pcall('XADD', target, '*', 'job', payload, 'claim', hash)
    else
      written = redis.pcall('XADD', target, '*', 'job', payload)
    end
    if type(written) == 'table' and written.err then
      -- A claim without its job would swallow the repeat.
      if hash ~= '' then redis.call('DEL', claim_key) end
      results[job] = '!' .. written.err
    elseif due ~= '' then
      results[job] = 'delayed'
    else
      results[job] = written
    end
  end
end
return results
