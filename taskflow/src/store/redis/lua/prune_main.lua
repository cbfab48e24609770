-- Deletes what ended long ago. ARGV: news, retention, how many at most. Answers how many.
local until_ = text(now - tonumber(ARGV[2]))
local ids = call('ZRANGEBYSCORE', P .. 'ended', '-inf', until_, 'LIMIT', 0, ARGV[3])
for _, id in ipairs(ids) do
  local t = load(id)
  if t then
    forget(t)
  else
    call('ZREM', P .. 'ended', id)
  end
end
-- What is left of processes that have been gone for as long.
for _, list in ipairs({ 'there', 'gone' }) do
  for _, instance in ipairs(call('ZRANGEBYSCORE', P .. list, '-inf', until_, 'LIMIT', 0, 100)) do
    call('ZREM', P .. list, instance)
    call('ZREM', P .. 'seen', instance)
    call('ZREM', P .. 'started', instance)
    call('HDEL', P .. 'instance', instance)
    call('DEL', P .. 'claim:' .. instance)
  end
end
commit()
-- Numbers that have come back to nothing need no place.
local numbers = call('HGETALL', P .. 'counts')
for i = 1, #numbers, 2 do
  if numbers[i + 1] == '0' then
    call('HDEL', P .. 'counts', numbers[i])
  end
end
return #ids
