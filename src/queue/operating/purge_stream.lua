-- Deletes entries that no consumer holds, from one end of a stream, and releases their claims. Entries are read one by
-- one, so that large ones are never in memory together; the first write frees memory.
-- KEYS: stream. ARGV: group, base of the account's keys, from, to, jobs at most, bytes at most, then how internal
-- payloads begin. Returns deleted, held, internal and the last id looked at, '' at the end.
local ids, claims, held, internal, bytes = {}, {}, 0, 0, 0
local from, last = ARGV[3], ''
for _ = 1, tonumber(ARGV[5]) do
  local entry = redis.call('XRANGE', KEYS[1], from, ARGV[4], 'COUNT', 1)[1]
  if not entry then last = '' break end
  last = entry[1]
  from = '(' .. last
  local job, claim = '', ''
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'job' then job = entry[2][i + 1] elseif entry[2][i] == 'claim' then claim = entry[2][i + 1] end
  end
  local is_internal = false
  for i = 7, #ARGV do is_internal = is_internal or job:sub(1, #ARGV[i]) == ARGV[i] end
  -- Without a group nobody holds anything: the reply is an error then, which has no entries.
  if #redis.pcall('XPENDING', KEYS[1], ARGV[1], last, last, 1) > 0 then
    held = held + 1
  elseif is_internal then
    internal = internal + 1
  else
    ids[#ids + 1] = last
    if claim ~= '' then claims[#claims + 1] = ARGV[2] .. ':claim:' .. claim end
  end
  bytes = bytes + #job
  if bytes > tonumber(ARGV[6]) then break end
end
if #ids > 0 then redis.call('XDEL', KEYS[1], unpack(ids)) end
if #claims > 0 then redis.call('DEL', unpack(claims)) end
return { #ids, held, internal, last }
