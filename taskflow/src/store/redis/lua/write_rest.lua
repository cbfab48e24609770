-- Writes states and counts, and publishes.
if #states > 0 then
  call('HSET', P .. 'state', unpack(states))
end
for field, n in pairs(changes) do
  if n ~= 0 then
    -- A damaged count is found by the periodic check.
    redis.pcall('HINCRBY', P .. 'counts', field, n)
  end
end
if NOTIFICATION ~= '' then
  redis.pcall('PUBLISH', P .. 'notifications', NOTIFICATION)
end
