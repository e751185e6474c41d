-- What could be reserved of one dimension. {level}.

local left = level(1)
save()
return { left }
