-- Stores or removes the configuration of a queue. ARGV: notification, queue, the configuration (empty: none), and, if
-- only a certain configuration may be replaced, that one. Answers 1, or 0 if another is stored.
if ARGV[4] and (call('HGET', P .. 'asked', ARGV[2]) or '') ~= ARGV[4] then
  return 0
end
if ARGV[3] ~= '' or call('HEXISTS', P .. 'counts', 'P' .. ARGV[2]) == 1 then
  call('HSET', P .. 'asked', ARGV[2], ARGV[3])
else
  call('HDEL', P .. 'asked', ARGV[2])
end
commit()
return 1
