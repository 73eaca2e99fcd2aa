-- Replaces the job of a dead letter. An entry cannot be changed, so the letter gets a new one at the end; everything
-- else it says stays, and `died` remembers when it died. It is added before the old one goes, for Redis rolls nothing back;
-- the first write needs no memory (XDEL of nothing).
-- KEYS: dead. ARGV: entry, job. Returns the new entry, or '' when the old one is gone.
local entry = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not entry then return '' end
local fields, has_died, has_sid = { 'job', ARGV[2] }, false, false
for i = 1, #entry[2], 2 do
  local name = entry[2][i]
  if name ~= 'job' then
    fields[#fields + 1] = name
    fields[#fields + 1] = entry[2][i + 1]
  end
  has_died = has_died or name == 'died'
  has_sid = has_sid or name == 'sid'
end
if not has_died then
  fields[#fields + 1] = 'died'
  fields[#fields + 1] = ARGV[1]
end
if not has_sid then
  fields[#fields + 1] = 'sid'
  fields[#fields + 1] = ARGV[1]
end
redis.call('XDEL', KEYS[1], '0-1')
local edited = redis.call('XADD', KEYS[1], '*', unpack(fields))
redis.call('XDEL', KEYS[1], ARGV[1])
return edited
