-- Moves tasks that have come due into the ready lists.

-- Moves up to `limit` tasks of a ready list that have come due.
local function promote_ready_list(ready_list, limit)
  local later = P .. 'later:' .. ready_list
  local found = call('ZRANGEBYSCORE', later, '-inf', text(now), 'LIMIT', 0, limit)
  local ids = {}
  for i, member in ipairs(found) do
    ids[i] = sub(member, 9)
  end
  local states, due = {}, {}
  for i, blob in ipairs(read_tasks(ids)) do
    states[2 * i - 1], states[2 * i] = ids[i], state_of(DUE, blob)
    due[2 * i - 1], due[2 * i] = -unpack_bytes('<i2', blob, PRIORITY_AT), found[i]
  end
  call_many('ZADD', 'due:' .. ready_list, due)
  call_many('ZREM', 'later:' .. ready_list, found)
  call_many('HSET', 'state', states)
  local first = call('ZRANGE', later, 0, 0, 'WITHSCORES')
  if first[1] then
    call('ZADD', P .. 'later', first[2], ready_list)
  else
    call('ZREM', P .. 'later', ready_list)
  end
  if #found > 0 then
    call('SADD', P .. 'due', ready_list)
    local queue = ready_list_parts(ready_list)
    count('L' .. queue, -#found)
    count('D' .. queue, #found)
  end
  return #found
end

-- Moves tasks that have come due, at most a thousand; the next call goes on. Answers whether there was any such task,
-- or one that is not due yet.
local function promote()
  local first, left = call('ZRANGE', P .. 'later', 0, 0, 'WITHSCORES'), 1000
  if not first[1] then
    return false
  end
  if tonumber(first[2]) <= now then
    for _, ready_list in ipairs(call('ZRANGEBYSCORE', P .. 'later', '-inf', text(now), 'LIMIT', 0, 100)) do
      if left > 0 then
        left = left - promote_ready_list(ready_list, left)
      end
    end
  end
  return true
end
