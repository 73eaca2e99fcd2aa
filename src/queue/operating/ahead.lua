-- Counts entries between two places of a stream. Entries are read one by one, so that large ones are never in memory
-- together. KEYS: stream. ARGV: from, to, entries at most, bytes at most. Returns the count and the last id, '' at the end.
local from, seen, bytes, last = ARGV[1], 0, 0, ''
while seen < tonumber(ARGV[3]) and bytes < tonumber(ARGV[4]) do
  local entry = redis.call('XRANGE', KEYS[1], from, ARGV[2], 'COUNT', 1)[1]
  if not entry then return { seen, '' } end
  seen, last = seen + 1, entry[1]
  from = '(' .. last
  for i = 2, #entry[2], 2 do bytes = bytes + #entry[2][i] end
end
return { seen, last }
