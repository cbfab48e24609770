-- What was not due and has come due.

-- Moves up to `limit` tasks of a lane that have come due.
local function promote_lane(lane, limit)
  local later = P .. 'later:' .. lane
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
  call_many('ZADD', 'due:' .. lane, due)
  call_many('ZREM', 'later:' .. lane, found)
  call_many('HSET', 'state', states)
  local first = call('ZRANGE', later, 0, 0, 'WITHSCORES')
  if first[1] then
    call('ZADD', P .. 'later', first[2], lane)
  else
    call('ZREM', P .. 'later', lane)
  end
  if #found > 0 then
    call('SADD', P .. 'due', lane)
    local queue = lane_parts(lane)
    count('L' .. queue, -#found)
    count('D' .. queue, #found)
  end
  return #found
end

-- Makes due what has come due: a thousand at most, the rest the next time. Answers whether anything was not due.
local function promote()
  local first, left = call('ZRANGE', P .. 'later', 0, 0, 'WITHSCORES'), 1000
  if not first[1] then
    return false
  end
  if tonumber(first[2]) <= now then
    for _, lane in ipairs(call('ZRANGEBYSCORE', P .. 'later', '-inf', text(now), 'LIMIT', 0, 100)) do
      if left > 0 then
        left = left - promote_lane(lane, left)
      end
    end
  end
  return true
end
