-- Writes the result of finish_success_fast.lua, except the states.
if k > 0 then
  call('ZREM', P .. 'leases', unpack(leases))
  if #results > 0 then
    call('HSET', P .. 'result', unpack(results))
  end
  if #errors > 0 then
    call('HDEL', P .. 'error', unpack(errors))
  end
  if #stopped > 0 then
    call('SREM', P .. 'stopping', unpack(stopped))
  end
  local second = string.format('%.0f', math.floor(now / 1000000))
  if call('RPUSH', P .. 'ended_in:' .. second, table.concat(leases)) == 1 then
    call('ZADD', P .. 'ended', second, second)
  end
  for queue, n in pairs(ends) do
    if redis.pcall('HINCRBY', P .. 'ends:' .. second, queue, n) == n then
      call('EXPIRE', P .. 'ends:' .. second, 90)
    end
  end
end
