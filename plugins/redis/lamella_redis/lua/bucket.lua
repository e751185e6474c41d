-- What every decision begins with: the store's clock, and buckets.
--
-- A bucket is a hash and a sorted set. The hash has for each lease that is out `p<lease>#<place>`, its
-- amount and its gap; the sorted set has the leases by the instant at which they expire. `m` says
-- whether there is such a set.
--
-- Of a rate, the hash has `s`, the shares that are there; `t`, the tick as of which; `n`, how many gaps
-- it has had; for each gap `g<id>`, its shares, and `l<id>`, how many leases reach up to it. The set
-- has the gaps by minus their id, so the newest first. What gaps are for is told in lamella's
-- _memory_buckets.py; this is the same.
--
-- Of a total, to which nothing flows back, the hash has `o`, what is out, and `k`, the instant until
-- which that is known once no lease is out. How much there is of it is for each who asks to say.
--
-- All numbers are whole and within 2^53, so exact. KEYS are the lease, then hash and set of each
-- dimension; ARGV three words of the decision, then seven of each dimension: the amount, the capacity,
-- shares per token, shares that flow back in a tick (0 of a total), microseconds of a tick, whether it
-- is held, and for how many microseconds a total is known from its last use on.

local HEAD, EACH = 3, 7
local MOST = 9007199254740992 -- what may be out of a total
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
  if shares == 0 then return 0 end
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
  if bucket.out then
    bucket.out = bucket.out + amount
  elseif amount > 0 then
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
  if bucket.out then
    bucket.out = math.max(0, math.min(MOST, bucket.out - amount + used))
    return
  end
  if used > amount then lower(bucket, (used - amount) * bucket.unit) end
  local back = math.max(0, amount - used) * bucket.unit
  if gap > 0 then
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
    if bucket.shares < bucket.full then
      local flow = math.min((tick - bucket.tick) * bucket.flow, bucket.full - bucket.shares)
      bucket.shares = bucket.shares + flow
      fill(bucket, newest(bucket), flow)
    end
    bucket.tick = tick
  elseif (bucket.tick - tick) * bucket.span > STEP_BACK then
    bucket.tick = tick
  end
end

-- A new bucket, of which nothing is out.
local function fresh(place, hash)
  local bucket = { hash = hash, set = KEYS[2 * place + 1], flow = given(place, 4) }
  if bucket.flow == 0 then
    bucket.out, bucket.ends = 0, now
    return bucket
  end
  bucket.capacity, bucket.unit, bucket.span = given(place, 2), given(place, 3), given(place, 5)
  bucket.full = bucket.capacity * bucket.unit
  bucket.least = -4503599627370496 -- of debt
  bucket.shares, bucket.tick, bucket.gaps = bucket.full, math.floor(now / bucket.span), 0
  return bucket
end

local function has_leases(bucket)
  return tonumber(redis.call('ZREVRANGE', bucket.set, 0, 0, 'WITHSCORES')[2] or -1) > 0
end

-- The bucket of a dimension as of now, with what has expired given back.
local function open(place)
  local hash = KEYS[2 * place]
  local bucket = opened[hash]
  if bucket then return bucket end
  bucket = fresh(place, hash)
  local kept = redis.call('HMGET', hash, bucket.out and 'o' or 's', 'm', 't', 'n', 'k')
  -- A server short of memory may have evicted either half: half of a bucket is none.
  local whole_one = kept[2] ~= '1' or redis.call('ZREVRANGE', bucket.set, 0, 0)[1]
  if kept[1] and whole_one then
    if bucket.out then
      bucket.out, bucket.ends = tonumber(kept[1]), tonumber(kept[5])
    else
      local tick = bucket.tick
      bucket.shares, bucket.tick = tonumber(kept[1]), tonumber(kept[3])
      bucket.gaps = tonumber(kept[4])
      refill(bucket, tick)
    end
    local due = redis.call('ZRANGEBYSCORE', bucket.set, 0, whole(now), 'LIMIT', 0, 100)
    for _, part in ipairs(due) do finish(bucket, part, 0) end
    if bucket.out and now >= bucket.ends and not has_leases(bucket) then bucket.out = 0 end
  else
    redis.call('DEL', hash, bucket.set)
  end
  opened[hash] = bucket
  order[#order + 1] = bucket
  return bucket
end

-- What is left of a dimension.
local function level(place)
  local bucket = open(place)
  if bucket.out then return whole(given(place, 2) - bucket.out) end
  return whole(math.floor(bucket.shares / bucket.unit))
end

-- A total is used: it is known for so long from now on. A look, a renewal or an expiry is no use.
local function use(place)
  local bucket = open(place)
  if bucket.out then bucket.ends = now + given(place, 7) end
end

-- Write what has changed. A full bucket without leases is as good as none; others are kept until they
-- would be full, or forgotten.
local function save()
  for _, bucket in ipairs(order) do
    local last = redis.call('ZREVRANGE', bucket.set, 0, 0, 'WITHSCORES')
    local expires = tonumber(last[2] or -1)
    local lacking = bucket.out or bucket.full - bucket.shares
    if lacking <= 0 and expires <= 0 then
      redis.call('DEL', bucket.hash, bucket.set)
    else
      local stays = math.max(0, expires - now)
      local needed = bucket.out and bucket.ends - now
        or math.ceil(lacking / bucket.flow) * bucket.span
      stays = math.max(stays, needed)
      local milliseconds = whole(math.min(math.ceil(stays / 1000) + 1000, 1e13))
      local members = redis.call('PEXPIRE', bucket.set, milliseconds)
      if bucket.out then
        redis.call('HSET', bucket.hash, 'o', whole(bucket.out), 'k', whole(bucket.ends),
          'm', members)
      else
        redis.call('HSET', bucket.hash, 's', whole(bucket.shares), 't', whole(bucket.tick),
          'n', whole(bucket.gaps), 'm', members)
      end
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
