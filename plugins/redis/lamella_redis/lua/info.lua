-- What is known of values without reading them. ARGV: a tag that they must have, preceded by '+', or
-- '' for any; keys. {now, found}; found is for each value that can be had its key, bytes of its data,
-- the instant of its put, the instant of its end or '', tags.

local wanted = ARGV[1]
local tag = wanted ~= '' and string.sub(wanted, 2) or nil
local found = {}
for number = 2, #ARGV do
  local key = ARGV[number]
  local place = place_of(key)
  local kept = redis.call('HMGET', place, 'a', 'u', 't')
  local tags = tags_of(kept[3])
  local has = not tag
  for _, each in ipairs(tags) do has = has or each == tag end
  if lives(kept[1], kept[2]) and has then
    found[#found + 1] = { key, redis.call('HSTRLEN', place, 'd'), kept[1], kept[2], tags }
  end
end
return { whole(now), found }
