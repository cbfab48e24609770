-- Commands of a script that is run again after it met damage, and of repairs. A key that holds another type than it
-- should is renamed to `damaged:<key>`; a count that is not a number is removed, and such a `seq` begins anew. Then the
-- command is repeated.
local function call(command, key, ...)
  if not key then
    return redis.call(command)
  end
  local answer = redis.pcall(command, key, ...)
  local why = type(answer) == 'table' and answer.err
  if not why then
    return answer
  end
  local prefix = KEYS[1]
  if string.find(why, 'WRONGTYPE', 1, true) then
    redis.log(redis.LOG_WARNING, 'taskflow: ' .. key .. ' held another type and was moved aside')
    redis.call('RENAME', key, prefix .. 'damaged:' .. string.sub(key, #prefix + 1))
  elseif string.find(why, 'not an integer', 1, true) or string.find(why, 'overflow', 1, true) then
    if command == 'HINCRBY' then
      redis.call('HDEL', key, (...))
    elseif key == prefix .. 'seq' then
      -- Greater than every number before.
      redis.call('SET', key, redis.call('TIME')[1] .. '000000')
    else
      error(answer)
    end
  else
    error(answer)
  end
  return redis.call(command, key, ...)
end
