-- Looks through a stream from its newest entry on for entries that hold a text or come from a stream id. Entries are read
-- one by one, so that large ones are never in memory together. Nothing is written, no payload is parsed.
-- KEYS: stream. ARGV: from where on, text, stream id ('' = none), entries at most, bytes at most.
-- Returns how many were looked at, the last one ('' at the end), and those that fit.
local to, last, seen, bytes, found = ARGV[1], '', 0, 0, {}
while seen < tonumber(ARGV[4]) and bytes < tonumber(ARGV[5]) do
  local entry = redis.call('XREVRANGE', KEYS[1], to, '-', 'COUNT', 1)[1]
  if not entry then return { seen, '', found } end
  seen, last = seen + 1, entry[1]
  to = '(' .. last
  local fits = last == ARGV[3]
  for i = 1, #entry[2], 2 do
    local name, value = entry[2][i], entry[2][i + 1]
    if name == 'job' then
      bytes = bytes + #value
      fits = fits or value:find(ARGV[2], 1, true)
    elseif name == 'sid' then
      fits = fits or value == ARGV[3]
    end
  end
  if fits then found[#found + 1] = entry end
end
return { seen, last, found }
