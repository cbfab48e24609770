-- Removes an instance: runs that it left behind are lost at once. ARGV: notification, instance.
call('ZREM', P .. 'there', ARGV[2])
call('ZREM', P .. 'seen', ARGV[2])
call('ZREM', P .. 'started', ARGV[2])
call('DEL', P .. 'claim:' .. ARGV[2])
call('HDEL', P .. 'liveness', ARGV[2])
call('ZADD', P .. 'gone', text(now), ARGV[2])
local ids = call('ZRANGE', P .. 'leases', 0, -1)
for i, blob in ipairs(read_many('HMGET', 'state', ids)) do
  if blob and sub(blob, HOLDER_AT, HOLDER_END) == ARGV[2] then
    call('ZADD', P .. 'leases', text(now), ids[i])
  end
end
commit()
