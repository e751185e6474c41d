-- The length of a partition's vectors, '0' if it has none.

return length()
