-- Deletes consumers that hold nothing and have not been seen for a day. In one script, because deleting a consumer drops
-- what it holds for ever. KEYS: stream. ARGV: group, own name, idle milliseconds.
local deleted = 0
if redis.call('EXISTS', KEYS[1]) == 0 then return deleted end
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local facts = {}
  for i = 1, #consumer, 2 do facts[consumer[i]] = consumer[i + 1] end
  if facts['pending'] == 0 and facts['idle'] > tonumber(ARGV[3]) and facts['name'] ~= ARGV[2] then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], facts['name'])
    deleted = deleted + 1
  end
end
return deleted
