-- Runs once each command that the other scripts need (INFO and PUBSUB are optional: see run_id.lua), on a key of its
-- own if it takes a key, to find missing rights of the user. Answers with the first refusal, or with nothing.
local P = KEYS[1]
local key = P .. 'probe'

local function try(command, ...)
  local answer = redis.pcall(command, ...)
  local why = type(answer) == 'table' and answer.err
  if not why then
    return
  end
  if string.find(why, 'The user executing the script', 1, true) or string.find(why, 'NOPERM', 1, true)
    or string.find(why, 'ACL failure', 1, true) then
    return command .. ': ' .. why
  end
  error(answer)
end

local all = {
  { 'TIME' }, { 'UNLINK', key }, { 'HSET', key, 'a', '1' }, { 'HSETNX', key, 'b', '1' }, { 'HINCRBY', key, 'a', '1' },
  { 'HGET', key, 'a' }, { 'HMGET', key, 'a' }, { 'HGETALL', key }, { 'HKEYS', key }, { 'HVALS', key }, { 'HLEN', key },
  { 'HEXISTS', key, 'a' }, { 'HSCAN', key, '0' }, { 'HDEL', key, 'b' }, { 'EXPIRE', key, '60' }, { 'EXISTS', key },
  { 'RENAME', key, key }, { 'DEL', key }, { 'ZADD', key, '1', 'a' }, { 'ZSCORE', key, 'a' }, { 'ZCARD', key },
  { 'ZCOUNT', key, '0', '1' }, { 'ZRANGE', key, '0', '0' }, { 'ZRANGEBYSCORE', key, '0', '1' },
  { 'ZRANGEBYLEX', key, '-', '+' }, { 'ZREVRANGEBYLEX', key, '+', '-' }, { 'ZSCAN', key, '0' },
  { 'ZREM', key, 'b' }, { 'ZREMRANGEBYRANK', key, '1', '1' }, { 'ZPOPMIN', key }, { 'SADD', key, 'a' }, { 'SCARD', key },
  { 'SMEMBERS', key }, { 'SISMEMBER', key, 'a' }, { 'SSCAN', key, '0' }, { 'SREM', key, 'a' }, { 'RPUSH', key, 'a' },
  { 'LPUSH', key, 'a' }, { 'LRANGE', key, '0', '1' }, { 'LLEN', key }, { 'LPOP', key }, { 'UNLINK', key }, { 'SET', key, '1' },
  { 'INCRBY', key, '1' }, { 'INCR', key }, { 'GET', key }, { 'UNLINK', key }, { 'PUBLISH', P .. 'notifications', ARGV[1] },
}
for _, words in ipairs(all) do
  local refusal = try(unpack(words))
  if refusal then
    redis.pcall('UNLINK', key)
    return refusal
  end
end
return false
