-- Keep values. ARGV: microseconds to keep them or '', how many tags, the tags, then keys and data by
-- turns. All of them get all the tags.

local life, count = ARGV[1], tonumber(ARGV[2])
local first, tags, keys = 3 + count, {}, {}
for number = 3, first - 1 do tags[#tags + 1] = ARGV[number] end
for number = first, #ARGV, 2 do keys[#keys + 1] = ARGV[number] end
if life ~= '' and tonumber(life) <= 0 then
  for _, key in ipairs(keys) do forget(key) end
  return 0
end
local ends, text = '', #tags > 0 and cjson.encode(tags) or ''
if life ~= '' then ends = whole(math.min(now + tonumber(life), 9007199254740992)) end
for number, key in ipairs(keys) do
  local place = place_of(key)
  local before = entry_of(key)
  if not before and redis.call('EXISTS', place) == 1 then redis.call('UNLINK', place) end
  -- First, as a server that is full refuses it as long as nothing has changed.
  redis.call('HSET', place, 'd', ARGV[first + 2 * number - 1], 'a', whole(now), 'u', ends, 't', text)
  if ends == '' then
    redis.call('PERSIST', place)
  else
    redis.call('PEXPIRE', place, whole(math.min(math.ceil(tonumber(life) / 1000) + 1000, 1e13)))
  end
  for _, tag in ipairs(before and before.tags or {}) do redis.call('ZREM', set_of(tag), key) end
end
for _, tag in ipairs(tags) do
  local set, members = set_of(tag), {}
  local dead = redis.call('ZRANGEBYSCORE', set, '-inf', whole(now), 'LIMIT', 0, DEAD)
  if #dead > 0 then redis.call('ZREM', set, unpack(dead)) end
  for _, key in ipairs(keys) do
    members[#members + 1] = ends == '' and '+inf' or ends
    members[#members + 1] = key
  end
  redis.call('ZADD', set, unpack(members))
  -- What the server has evicted leaves its tag, though nobody asks for the tag: of those that have it
  -- some are looked at, wherever the clock points, two for each that comes.
  local from = now % redis.call('ZCARD', set)
  local some = redis.call('ZRANGE', set, whole(from), whole(from + 2 * #keys - 1))
  for _, key in ipairs(some) do
    if redis.call('EXISTS', place_of(key)) == 0 then redis.call('ZREM', set, key) end
  end
  outlive(set)
end
return #keys
