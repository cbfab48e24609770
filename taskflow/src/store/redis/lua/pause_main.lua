-- ARGV: notification, queue, '1' to pause it, '0' to resume it.
if ARGV[3] == '1' then
  call('HSET', P .. 'counts', 'P' .. ARGV[2], 1)
  call('HSETNX', P .. 'asked', ARGV[2], '')
else
  call('HDEL', P .. 'counts', 'P' .. ARGV[2])
  if call('HGET', P .. 'asked', ARGV[2]) == '' then
    call('HDEL', P .. 'asked', ARGV[2])
  end
end
commit()
