-- Forget values. ARGV: the instant until which they were put, or '' for whenever; a tag that they
-- must have, preceded by '+', or '' for any; keys. How many could be had.

local upto, wanted = tonumber(ARGV[1]), ARGV[2]
local tag = wanted ~= '' and string.sub(wanted, 2) or nil
local count = 0
for number = 3, #ARGV do
  if forget(ARGV[number], upto, tag) then count = count + 1 end
end
return count
