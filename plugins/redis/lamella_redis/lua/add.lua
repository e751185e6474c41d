-- Keep a vector. ARGV[3] on: key, length, coordinates, microseconds to keep it or ''. '' when it is
-- kept, or the length of those that are there, if that is another one.

local key, size, data, life = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local there = length()
if there ~= '0' and there ~= size then return there end
local member = size .. ':' .. key
if life ~= '' and tonumber(life) <= 0 then
  forget(member)
  return ''
end
local place, ends = place_of(member), '+inf'
-- First, as a server that is full refuses it, and then nothing has changed.
redis.call('HSET', place, 'n', partition, 'p', word, 'v', data)
if life == '' then
  redis.call('PERSIST', place)
else
  ends = whole(math.min(now + tonumber(life), 9007199254740992))
  redis.call('PEXPIRE', place, whole(math.min(math.ceil(tonumber(life) / 1000), 1e13)))
end
local dead = redis.call('ZRANGEBYSCORE', set, '-inf', whole(now), 'LIMIT', 0, DEAD)
if #dead > 0 then redis.call('ZREM', set, unpack(dead)) end
redis.call('ZADD', set, ends, member)
local last = redis.call('ZREVRANGE', set, 0, 0, 'WITHSCORES')[2]
if last == 'inf' then
  redis.call('PERSIST', set)
else
  redis.call('PEXPIRE', set, whole(math.min(math.ceil((last - now) / 1000) + 1000, 1e13)))
end
return ''
