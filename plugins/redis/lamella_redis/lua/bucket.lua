-- What every decision begins with: the store's clock, and buckets.
--
-- A bucket is a hash and a sorted set. The hash has `s`, the shares that are there; `t`, the tick as
-- of which; `n`, how many gaps it has had; for each gap `g<id>`, its shares, and `l<id>`, how many
-- leases reach up to it; for each lease that is out `p<lease>#<place>`, its amount and its gap. The
-- sorted set has the gaps by minus their id, so the newest first, and the leases by the instant at
-- which they expire; `m` says whether there is such a set. What gaps are for is told in lamella's _memory_buckets.py; this is the same.
--
-- All numbers are whole and within 2^53, so exact. KEYS are the lease, then hash and set of each
-- dimension; ARGV five words of the decision, then six of each dimension: the amount, the capacity,
-- shares per token, shares that flow back in a tick, microseconds of a tick, and whether it is held.

local HEAD, EACH = 5, 6
local STEP_BACK = 1000000 -- microseconds; a clock that has been set back further is followed

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local count = (#KEYS - 1) / 2
local opened, order = {}, {}

local function whole(number)
  return string.format('%.0f', number)
end

local function given(place, word)
  return tonumber(ARGV[HEAD + EACH * (place - 1) + word])
end

-- Gaps ------------------------------------------------------------------------------------------

local function id_of(found)
  return found[1] and tonumber(string.sub(found[1], 2))
end

local function newest(bucket)
  return id_of(redis.call('ZRANGEBYSCORE', bucket.set, '-inf', '(0', 'LIMIT', 0, 1))
end

-- The gap itself or, if it has been filled, the next older one.
local function standing(bucket, gap)
  return id_of(redis.call('ZRANGEBYSCORE', bucket.set, -gap, '(0', 'LIMIT', 0, 1))
end

local function older(bucket, gap)
  return id_of(redis.call('ZRANGEBYSCORE', bucket.set, '(' .. whole(-gap), '(0', 'LIMIT', 0, 1))
end

local function newer(bucket, gap)
  return id_of(
    redis.call('ZREVRANGEBYSCORE', bucket.set, '(' .. whole(-gap), '-inf', 'LIMIT', 0, 1))
end

local function leases(bucket, gap)
  return tonumber(redis.call('HGET', bucket.hash, 'l' .. whole(gap)) or 0)
end

local function unlink(bucket, gap)
  local id = whole(gap)
  redis.call('ZREM', bucket.set, 'g' .. id)
  redis.call('HDEL', bucket.hash, 'g' .. id, 'l' .. id)
end

-- Fill a gap and then older ones; how many shares it took.
local function fill(bucket, gap, shares)
  local left = shares
  while left > 0 and gap do
    local there = tonumber(redis.call('HGET', bucket.hash, 'g' .. whole(gap)) or 0)
    if there > left then
      redis.call('HSET', bucket.hash, 'g' .. whole(gap), whole(there - left))
      left = 0
    else
      left = left - there
      local below, holders = older(bucket, gap), leases(bucket, gap)
      unlink(bucket, gap)
      if below and holders > 0 then
        redis.call('HINCRBY', bucket.hash, 'l' .. whole(below), whole(holders))
      end
      gap = below
    end
  end
  return shares - left
end

-- One lease fewer reaches up to the gap; gaps that no lease tells apart are joined.
local function release(bucket, gap)
  local found = standing(bucket, gap)
  if not found then return end
  local id = whole(found)
  if redis.call('HINCRBY', bucket.hash, 'l' .. id, -1) > 0 then return end
  local above = newer(bucket, found)
  if above then
    local shares = redis.call('HGET', bucket.hash, 'g' .. id)
    redis.call('HINCRBY', bucket.hash, 'g' .. whole(above), shares)
    unlink(bucket, found)
  end
end

-- Taking and giving back ------------------------------------------------------------------------

-- Take shares, even what is not there; the gap that it leaves, 0 if none.
local function lower(bucket, shares)
  shares = math.min(shares, bucket.shares - bucket.least)
  bucket.shares = bucket.shares - shares
  if bucket.flow == 0 or shares == 0 then return 0 end
  local top = newest(bucket)
  if top and leases(bucket, top) == 0 then
    redis.call('HINCRBY', bucket.hash, 'g' .. whole(top), whole(shares))
    return top
  end
  bucket.gaps = bucket.gaps + 1
  local id = whole(bucket.gaps)
  redis.call('HSET', bucket.hash, 'g' .. id, whole(shares), 'l' .. id, 0)
  redis.call('ZADD', bucket.set, -bucket.gaps, 'g' .. id)
  return bucket.gaps
end

local function part_of(id, place)
  return 'p' .. id .. '#' .. whole(place)
end

local function take(bucket, id, place, expires)
  local amount, gap = given(place, 1), 0
  if amount > 0 then
    gap = lower(bucket, amount * bucket.unit)
    if gap > 0 then redis.call('HINCRBY', bucket.hash, 'l' .. whole(gap), 1) end
  end
  local part = part_of(id, place)
  redis.call('HSET', bucket.hash, part, whole(amount) .. ' ' .. whole(gap))
  redis.call('ZADD', bucket.set, whole(expires), part)
end

-- End a lease: charge what was used, and give the rest back as far as it has not flowed back.
local function finish(bucket, part, used)
  local kept = redis.call('HGET', bucket.hash, part)
  redis.call('HDEL', bucket.hash, part)
  redis.call('ZREM', bucket.set, part)
  local amount, gap = 0, 0 -- the server has lost it: what was used is charged whole
  if kept then
    local first, second = string.match(kept, '^(%d+) (%d+)$')
    amount, gap = tonumber(first), tonumber(second)
  end
  if used > amount then lower(bucket, (used - amount) * bucket.unit) end
  local back = math.max(0, amount - used) * bucket.unit
  if bucket.flow == 0 then
    bucket.shares = math.min(bucket.full, bucket.shares + back)
  elseif gap > 0 then
    local from = standing(bucket, gap)
    if from then
      bucket.shares = bucket.shares + fill(bucket, from, back)
      release(bucket, gap)
    end
  end
end

-- Buckets ---------------------------------------------------------------------------------------

local function refill(bucket, tick)
  if tick > bucket.tick then
    if bucket.flow > 0 and bucket.shares < bucket.full then
      local flow = math.min((tick - bucket.tick) * bucket.flow, bucket.full - bucket.shares)
      bucket.shares = bucket.shares + flow
      fill(bucket, newest(bucket), flow)
    end
    bucket.tick = tick
  elseif (bucket.tick - tick) * bucket.span > STEP_BACK then
    bucket.tick = tick
  end
end

-- The bucket of a dimension as of now, with what has expired given back.
local function open(place)
  local hash = KEYS[2 * place]
  local bucket = opened[hash]
  if bucket then return bucket end
  bucket = { hash = hash, set = KEYS[2 * place + 1], capacity = given(place, 2) }
  bucket.unit, bucket.flow, bucket.span = given(place, 3), given(place, 4), given(place, 5)
  bucket.full = bucket.capacity * bucket.unit
  bucket.least = bucket.flow > 0 and -4503599627370496 or -9007199254740992 -- of debt
  local tick = math.floor(now / bucket.span)
  local kept = redis.call('HMGET', hash, 's', 't', 'n', 'm')
  -- A server short of memory may have evicted either half: half of a bucket is none.
  local whole_one = kept[4] ~= '1' or redis.call('ZREVRANGE', bucket.set, 0, 0)[1]
  if kept[1] and whole_one then
    bucket.shares, bucket.tick = tonumber(kept[1]), tonumber(kept[2])
    bucket.gaps = tonumber(kept[3])
    refill(bucket, tick)
    local due = redis.call('ZRANGEBYSCORE', bucket.set, 0, whole(now), 'LIMIT', 0, 100)
    for _, part in ipairs(due) do finish(bucket, part, 0) end
  else
    bucket.shares, bucket.tick, bucket.gaps = bucket.full, tick, 0
    redis.call('DEL', hash, bucket.set)
  end
  opened[hash] = bucket
  order[#order + 1] = bucket
  return bucket
end

local function level(bucket)
  return whole(math.floor(bucket.shares / bucket.unit))
end

-- Write what has changed. A full bucket without leases is as good as none; others are kept until
-- they would be full, and a total, to which nothing flows back, for `keep` microseconds.
local function save(keep)
  for _, bucket in ipairs(order) do
    local last = redis.call('ZREVRANGE', bucket.set, 0, 0, 'WITHSCORES')
    local expires = tonumber(last[2] or -1)
    if bucket.shares >= bucket.full and expires <= 0 then
      redis.call('DEL', bucket.hash, bucket.set)
    else
      local stays = math.max(0, expires - now)
      if bucket.shares < bucket.full and bucket.flow > 0 then
        local lacking = math.ceil((bucket.full - bucket.shares) / bucket.flow)
        stays = math.max(stays, lacking * bucket.span)
      elseif bucket.shares < bucket.full then
        stays = math.max(stays, keep)
      end
      local milliseconds = whole(math.min(math.ceil(stays / 1000) + 1000, 1e13))
      local members = redis.call('PEXPIRE', bucket.set, milliseconds)
      redis.call('HSET', bucket.hash, 's', whole(bucket.shares), 't', whole(bucket.tick),
        'n', whole(bucket.gaps), 'm', members)
      redis.call('PEXPIRE', bucket.hash, milliseconds)
    end
  end
end

-- Whether the lease is out; one that has expired is forgotten.
local function is_out(state, expires)
  return state == 'held' and tonumber(expires) > now
end

local function outlive(lease, ttl)
  redis.call('PEXPIRE', lease, whole(math.ceil(ttl / 1000) + 1000))
end
