-- Forget a vector. ARGV[3] on: its key; lengths that it may have, if the partition does not say. 1 if
-- it was there, 0 if not.

local there = length()
if there ~= '0' then return forget(there .. ':' .. ARGV[3]) and 1 or 0 end
for number = 4, #ARGV do
  if forget(ARGV[number] .. ':' .. ARGV[3]) then return 1 end
end
return 0
