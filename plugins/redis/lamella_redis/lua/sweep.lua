-- Forget those of some vectors whose partition begins with a prefix. ARGV[3] on: the prefix; their
-- names. How many there were.

local prefix, count = ARGV[3], 0
for number = 4, #ARGV do
  local named = redis.call('HGET', ARGV[number], 'n')
  if named and string.sub(named, 1, #prefix) == prefix then
    count = count + redis.call('UNLINK', ARGV[number])
  end
end
return count
