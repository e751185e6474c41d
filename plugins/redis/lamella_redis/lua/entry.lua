-- What every operation on kept values begins with: the store's clock, and entries.
--
-- An entry is a hash: `d`, the data; `a`, the instant at which it was put; `u`, the instant at which
-- it ends, empty if it does not; `t`, its tags as a JSON list, empty if it has none. A tag is a
-- sorted set of the keys that have it, by the instants at which they end. An entry that is gone (it
-- has ended, or the server was short of memory) may still be in it; an entry that is there can be had
-- as long as all of its tags know of it.
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

-- Whether a tag is among those of an entry.
local function has(entry, tag)
  for _, each in ipairs(entry.tags) do
    if each == tag then return true end
  end
  return false
end

local function is_instant(text)
  return #text <= 16 and string.find(text, '^%d+$') ~= nil
end

-- The entry under a key, with more fields where they are named; nil if there is none. What others
-- have put there is none, unless it looks like one.
local function entry_of(key, ...)
  local kept = redis.pcall('HMGET', place_of(key), 'a', 'u', 't', ...)
  if kept.err then
    if string.find(kept.err, 'WRONGTYPE', 1, true) then return nil end
    return error(kept.err)
  end
  for place = 1, 3 + select('#', ...) do
    if not kept[place] then return nil end
  end
  local entry = { at = kept[1], ends = kept[2], tags = {}, data = kept[4] }
  if not is_instant(entry.at) or not (entry.ends == '' or is_instant(entry.ends)) then
    return nil
  end
  if kept[3] ~= '' then
    local right, tags = pcall(cjson.decode, kept[3])
    if not right or type(tags) ~= 'table' then return nil end
    for _, tag in ipairs(tags) do
      if type(tag) ~= 'string' then return nil end
    end
    entry.tags = tags
  end
  return entry
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

-- Whether an entry can be had now: it has not ended, and each of its tags knows of it. Otherwise
-- the server has evicted a tag, by which nobody could forget the entry any more.
local function lives(key, entry)
  if entry.ends ~= '' and tonumber(entry.ends) <= now then return false end
  for _, tag in ipairs(entry.tags) do
    if not redis.call('ZSCORE', set_of(tag), key) then return false end
  end
  return true
end

-- Forget what is under a key; whether it could be had. With `upto`, only what was put until then;
-- with `tag`, only what has it.
local function forget(key, upto, tag)
  local entry = entry_of(key)
  if entry and upto and tonumber(entry.at) > upto then return false end
  if tag and not (entry and has(entry, tag)) then
    redis.call('ZREM', set_of(tag), key)
    if entry then return false end
  end
  local there = entry and lives(key, entry)
  for _, each in ipairs(entry and entry.tags or {}) do redis.call('ZREM', set_of(each), key) end
  redis.call('UNLINK', place_of(key))
  return there
end
