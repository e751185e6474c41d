-- Keep a value. ARGV: key, data, microseconds to keep it or '', tags.

local key, data, life = ARGV[1], ARGV[2], ARGV[3]
if life ~= '' and tonumber(life) <= 0 then
  forget(key)
  return 0
end
local place, ends = place_of(key), ''
if life ~= '' then ends = whole(math.min(now + tonumber(life), 9007199254740992)) end
local before, tags = tags_of(redis.call('HGET', place, 't')), {}
for number = 4, #ARGV do tags[#tags + 1] = ARGV[number] end
-- First, as a server that is full refuses it, and then nothing has changed.
redis.call('HSET', place, 'd', data, 'a', whole(now), 'u', ends,
  't', #tags > 0 and cjson.encode(tags) or '')
if ends == '' then
  redis.call('PERSIST', place)
else
  redis.call('PEXPIRE', place, whole(math.min(math.ceil(tonumber(life) / 1000) + 1000, 1e13)))
end
for _, tag in ipairs(before) do redis.call('ZREM', set_of(tag), key) end
for _, tag in ipairs(tags) do
  local set = set_of(tag)
  local dead = redis.call('ZRANGEBYSCORE', set, '-inf', whole(now), 'LIMIT', 0, DEAD)
  if #dead > 0 then redis.call('ZREM', set, unpack(dead)) end
  redis.call('ZADD', set, ends == '' and '+inf' or ends, key)
  outlive(set)
end
return 1
