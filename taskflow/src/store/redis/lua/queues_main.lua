-- The statistics of the queues: the stored counts; the stored configurations; and for each queue how many tasks have
-- come due that no claim has moved to a ready list yet, when the oldest runnable task came due, and how many ended
-- within the last minute.
local overdue, since, ended = {}, {}, {}

local function has_waited_since(queue, at)
  since[queue] = math.min(since[queue] or FOR_EVER, at)
end

-- When a task came due: not before it was created.
local function came_due(member)
  local task = call('HGET', P .. 'task', sub(member, 9))
  return math.max(unpack_bytes('<i8i8', task, RUN_AT_IN))
end

for _, ready_list in ipairs(call('SMEMBERS', P .. 'due')) do
  local queue, below = ready_list_parts(ready_list), '-inf'
  -- The first task of each priority, up to 100 priorities: hardly any ready list has more.
  for _ = 1, 100 do
    local first = call('ZRANGE', P .. 'due:' .. ready_list, below, '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
    if not first[1] then
      break
    end
    has_waited_since(queue, came_due(first[1]))
    below = '(' .. first[2]
  end
end
for _, ready_list in ipairs(call('ZRANGEBYSCORE', P .. 'later', '-inf', text(now))) do
  local queue, later = ready_list_parts(ready_list), P .. 'later:' .. ready_list
  overdue[queue] = (overdue[queue] or 0) + call('ZCOUNT', later, '-inf', text(now))
  has_waited_since(queue, came_due(call('ZRANGE', later, 0, 0)[1]))
end
for _, queue in ipairs(call('HKEYS', P .. 'blocked')) do
  local first = call('ZRANGE', P .. 'since:' .. queue, 0, 0, 'WITHSCORES')
  if first[2] then
    has_waited_since(queue, tonumber(first[2]))
  end
end
local second = math.floor(now / 1000000)
for at = second - 59, second do
  local counted = call('HGETALL', P .. 'ends:' .. text(at))
  for i = 1, #counted, 2 do
    ended[counted[i]] = (ended[counted[i]] or 0) + (tonumber(counted[i + 1]) or 0)
  end
end

local function listed(numbers)
  local list = {}
  for queue, number in pairs(numbers) do
    list[#list + 1] = queue
    list[#list + 1] = text(math.max(math.min(number, FOR_EVER), 0))
  end
  return list
end
for queue, at in pairs(since) do
  since[queue] = math.max(now - at, 0)
end
return { call('HGETALL', P .. 'counts'), call('HGETALL', P .. 'asked'), listed(overdue), listed(since), listed(ended) }
