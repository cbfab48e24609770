-- Registers an instance. ARGV: notification, instance, its description, how long it counts as alive, the schema that this
-- program knows, whether it may make a store. Answers 0; or the stored schema, if that is another; or -1, if there is
-- none and this program may not make a store.
local stored = call('HGET', P .. 'meta', 'schema')
if not stored and ARGV[6] ~= '1' then
  return -1
end
local schema = tonumber(stored or ARGV[5])
if schema ~= tonumber(ARGV[5]) then
  return schema
end
call('HSET', P .. 'meta', 'schema', ARGV[5])
call('HSET', P .. 'instance', ARGV[2], ARGV[3])
call('ZADD', P .. 'there', text(now + ARGV[4]), ARGV[2])
call('ZADD', P .. 'seen', text(now), ARGV[2])
call('ZADD', P .. 'started', 'NX', text(now), ARGV[2])
call('ZREM', P .. 'gone', ARGV[2])
call('HDEL', P .. 'liveness', ARGV[2])
return 0
