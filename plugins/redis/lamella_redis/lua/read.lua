-- Values by key. ARGV: a tag that they must have, preceded by '+', or '' for any; bytes after which
-- to stop; then keys, or none for all that have the tag, if those are few.
-- {now, how many of the keys were seen, keys if none were given, found}; found is for each value its
-- key, data, the instant of its put, tags. {-1} if there are too many that have the tag.

local FEW = 500

local wanted, most = ARGV[1], tonumber(ARGV[2])
local tag = wanted ~= '' and string.sub(wanted, 2) or nil
local keys, found, given, size, seen = {}, {}, #ARGV > 2, 0, 0
if given then
  for number = 3, #ARGV do keys[#keys + 1] = ARGV[number] end
else
  local set = set_of(tag)
  if redis.call('ZCARD', set) > FEW then return { -1 } end
  keys = redis.call('ZRANGE', set, 0, -1)
end
for number, key in ipairs(keys) do
  if size > most then break end
  seen = number
  local entry = entry_of(key, 'd')
  if entry and not lives(key, entry) then
    forget(key)
  elseif entry and (not tag or has(entry, tag)) then
    found[#found + 1] = { key, entry.data, entry.at, entry.tags }
    size = size + #entry.data
  elseif tag then
    redis.call('ZREM', set_of(tag), key)
  end
end
return { whole(now), seen, given and {} or keys, found }
