-- All dimensions or none. ARGV: id, dimensions as text, ttl.
-- {1, remaining}, {2} if the id was used for others, or {0, wait, place, remaining}: wait is
-- microseconds, -1 if time alone will not do.

local GIVEN_BACK, NEVER = 2 ^ 60, 2 ^ 61

local function remaining()
  local levels = {}
  for place = 1, count do levels[place] = level(place) end
  return table.concat(levels, ' ')
end

local function wait(place, need)
  local bucket, capacity = open(place), given(place, 2)
  if need > capacity then return NEVER end
  if bucket.out then return need > capacity - bucket.out and GIVEN_BACK or 0 end
  local lacking = need * bucket.unit - bucket.shares
  if lacking <= 0 then return 0 end
  return (bucket.tick + math.ceil(lacking / bucket.flow)) * bucket.span - now
end

local id, words, ttl = ARGV[1], ARGV[2], tonumber(ARGV[3])
local lease = KEYS[1]
local known = redis.call('HMGET', lease, 'state', 'words', 'answer', 'expires')
if known[1] and (known[1] ~= 'held' or is_out(known[1], known[4])) then
  if known[2] ~= words then return { 2 } end
  return { 1, known[3] }
end

local needs, longest, refused = {}, 0, 0
for place = 1, count do
  local bucket, amount = open(place), given(place, 1)
  local need = (needs[bucket.hash] or 0) + amount
  needs[bucket.hash] = need
  local waits = amount > 0 and wait(place, need) or 0
  if waits > longest then longest, refused = waits, place end
end

if refused > 0 then
  local left = remaining()
  for place = 1, count do use(place) end
  save()
  return { 0, longest < GIVEN_BACK and whole(longest) or '-1', refused, left }
end

local expires = now + ttl
for place = 1, count do
  take(open(place), id, place, expires)
  use(place)
end
local left = remaining()
save()
redis.call('HSET', lease, 'state', 'held', 'words', words, 'answer', left, 'expires',
  whole(expires))
outlive(lease, ttl)
return { 1, left }
