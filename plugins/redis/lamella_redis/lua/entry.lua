-- What every operation on kept values begins with: the store's clock, and entries.
--
-- An entry is a hash: `d`, the data; `a`, the instant at which it was put; `u`, the instant at which
-- it ends, empty if it does not; `t`, its tags as a JSON list, empty if it has none. A tag is a
-- sorted set of the keys that have it, by the instants at which they end. An entry that is gone (it
-- has ended, or the server was short of memory) may still be in it; the entry is what counts.
--
-- Instants are microseconds, whole and within 2^53. KEYS[1] is `{namespace}:`, ARGV[1] the word that
-- comes first; all keys are made of it, so they are in one slot.

local DEAD = 100 -- entries that have ended which one operation takes out of a tag

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local prefix = KEYS[1]

local function whole(number)
  return string.format('%.0f', number)
end

local function place_of(key)
  return prefix .. 'blob:' .. key
end

local function set_of(tag)
  return prefix .. 'tag:' .. tag
end

local function tags_of(text)
  if not text or text == '' then return {} end
  return cjson.decode(text)
end

-- Let a tag live as long as the last of its entries.
local function outlive(set)
  local last = redis.call('ZREVRANGE', set, 0, 0, 'WITHSCORES')[2]
  if last == 'inf' then
    redis.call('PERSIST', set)
  elseif last then
    redis.call('PEXPIRE', set, whole(math.min(math.ceil((last - now) / 1000) + 1000, 1e13)))
  end
end

-- Whether the entry that these fields are of can be had now.
local function lives(at, ends)
  return at and (ends == '' or tonumber(ends) > now)
end

-- Forget an entry; whether it could be had. With `upto`, only one that was put until then; with
-- `tag`, only one that has it.
local function forget(key, upto, tag)
  local place = place_of(key)
  local kept = redis.call('HMGET', place, 'a', 'u', 't')
  local at, ends, tags = kept[1], kept[2], tags_of(kept[3])
  if not at then
    if tag then redis.call('ZREM', set_of(tag), key) end
    return false
  end
  if upto and tonumber(at) > upto then return false end
  if tag then
    local has = false
    for _, each in ipairs(tags) do has = has or each == tag end
    if not has then
      redis.call('ZREM', set_of(tag), key)
      return false
    end
  end
  for _, each in ipairs(tags) do redis.call('ZREM', set_of(each), key) end
  redis.call('UNLINK', place)
  return lives(at, ends)
end
