-- What could be reserved of one dimension. ARGV: -, -, -, keep. {level}.

local left = level(open(1))
save(tonumber(ARGV[4]))
return { left }
