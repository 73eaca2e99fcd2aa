-- Reads dead jobs from one id to another, until there are enough jobs or bytes: a count alone bounds no bytes, for one
-- job may have 5 MB. KEYS: dead. ARGV: from, to, jobs at most, bytes at most.
local found, from, jobs, bytes = {}, ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
while #found < jobs and bytes > 0 do
  local step = math.min(10, jobs - #found)
  local entries = redis.call('XRANGE', KEYS[1], from, ARGV[2], 'COUNT', step)
  for _, entry in ipairs(entries) do
    found[#found + 1] = entry
    for _, text in ipairs(entry[2]) do bytes = bytes - #text end
  end
  if #entries < step then break end
  from = '(' .. entries[step][1]
end
return found
