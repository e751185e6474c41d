-- What every operation on vectors begins with: the store's clock, and where they are.
--
-- A vector is a hash: `n`, its partition; `p`, that as a word, by which a search is narrowed; `v`, its
-- coordinates. It is indexed by the server's search, under the length that stands in its name, and
-- ends with its key. A partition is a sorted set of LENGTH:KEY by the instants at which they end. A
-- server short of memory may have evicted either; the vector is what counts.
--
-- Instants are microseconds, whole and within 2^53. KEYS[1] is what all keys begin with; ARGV[1] the
-- partition, ARGV[2] its word.

local DEAD = 100 -- vectors that are gone which one operation takes out of a partition

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local partition, word = ARGV[1], ARGV[2]
local set = KEYS[1] .. 'of:' .. partition

local function whole(number)
  return string.format('%.0f', number)
end

local function length_of(member)
  return string.sub(member, 1, string.find(member, ':', 1, true) - 1)
end

local function place_of(member)
  local colon = string.find(member, ':', 1, true)
  return KEYS[1] .. string.sub(member, 1, colon) .. word .. string.sub(member, colon)
end

-- The length of the vectors that are there, '0' if there is none. All have the same.
local function length()
  for _ = 1, DEAD do
    local last = redis.call('ZREVRANGE', set, 0, 0, 'WITHSCORES')
    if not last[1] then return '0' end
    if last[2] ~= 'inf' and tonumber(last[2]) <= now then -- then all have ended
      redis.call('UNLINK', set)
      return '0'
    end
    if redis.call('EXISTS', place_of(last[1])) == 1 then return length_of(last[1]) end
    redis.call('ZREM', set, last[1])
  end
  return '0'
end

-- Forget a vector; whether it was there.
local function forget(member)
  redis.call('ZREM', set, member)
  return redis.call('UNLINK', place_of(member)) == 1
end
