-- Forget vectors of a partition. ARGV[3]: how many at most. {how many were there, how many are left}.

local count = 0
for _, member in ipairs(redis.call('ZRANGE', set, 0, ARGV[3] - 1)) do
  if forget(member) then count = count + 1 end
end
return { count, redis.call('ZCARD', set) }
