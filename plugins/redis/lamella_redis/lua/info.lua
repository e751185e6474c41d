-- What is known of values without reading them. ARGV: a tag that they must have, preceded by '+', or
-- '' for any; keys. {now, found}; found is for each value that can be had its key, bytes of its data,
-- the instant of its put, the instant of its end or '', tags.

local wanted = ARGV[1]
local tag = wanted ~= '' and string.sub(wanted, 2) or nil
local found = {}
for number = 2, #ARGV do
  local key = ARGV[number]
  local entry = entry_of(key)
  if entry and (not tag or has(entry, tag)) and lives(key, entry) then
    local size = redis.call('HSTRLEN', place_of(key), 'd')
    found[#found + 1] = { key, size, entry.at, entry.ends, entry.tags }
  end
end
return { whole(now), found }
