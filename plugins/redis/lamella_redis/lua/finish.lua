-- Settle or refund, once. ARGV: id, 'settled' or 'refunded', microseconds to remember it; the amounts
-- are what was used. {1} if that is how the lease has ended, {0} if not.

local id, ending, remember = ARGV[1], ARGV[2], tonumber(ARGV[3])
local lease = KEYS[1]
local known = redis.call('HMGET', lease, 'state', 'expires')
if not is_out(known[1], known[2]) then return { known[1] == ending and 1 or 0 } end
for place = 1, count do
  local held = given(place, 6) == 1
  finish(open(place), part_of(id, place), held and 0 or given(place, 1))
  use(place)
end
save()
redis.call('HSET', lease, 'state', ending)
outlive(lease, remember)
return { 1 }
