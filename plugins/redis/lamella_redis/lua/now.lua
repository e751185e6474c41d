-- The store's clock.

return whole(now)
