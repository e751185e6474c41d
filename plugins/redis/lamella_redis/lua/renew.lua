-- Let a lease live on. ARGV: id, -, ttl. {1} if it is still out, {0} if not.

local id, ttl = ARGV[1], tonumber(ARGV[3])
local lease = KEYS[1]
local known = redis.call('HMGET', lease, 'state', 'expires')
if not is_out(known[1], known[2]) then return { 0 } end
local expires = now + ttl
for place = 1, count do
  redis.call('ZADD', open(place).set, 'XX', whole(expires), part_of(id, place))
end
save()
redis.call('HSET', lease, 'expires', whole(expires))
outlive(lease, ttl)
return { 1 }
