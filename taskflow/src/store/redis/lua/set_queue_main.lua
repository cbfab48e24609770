-- Stores or removes the configuration of a queue. ARGV: notification, queue, the configuration; empty: none.
if ARGV[3] ~= '' or call('HEXISTS', P .. 'counts', 'P' .. ARGV[2]) == 1 then
  call('HSET', P .. 'asked', ARGV[2], ARGV[3])
else
  call('HDEL', P .. 'asked', ARGV[2])
end
commit()
