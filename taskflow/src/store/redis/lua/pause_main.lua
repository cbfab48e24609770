-- ARGV: news, queue, '1' to pause it, '0' to resume it.
if ARGV[3] == '1' then
  call('HSET', P .. 'counts', 'P' .. ARGV[2], 1)
else
  call('HDEL', P .. 'counts', 'P' .. ARGV[2])
end
commit()
