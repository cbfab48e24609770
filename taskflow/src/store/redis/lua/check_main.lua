-- Whether the counts agree with the data: answers '1' if they do. This finds what was lost by an eviction or removed
-- by other programs.
local counted = {}
local counts = call('HGETALL', P .. 'counts')
for i = 1, #counts, 2 do
  local kind, number = sub(counts[i], 1, 1), tonumber(counts[i + 1])
  if not number then
    return '0'
  end
  counted[kind] = (counted[kind] or 0) + number
end
local due, later = 0, 0
for _, ready_list in ipairs(call('SMEMBERS', P .. 'due')) do
  due = due + call('ZCARD', P .. 'due:' .. ready_list)
end
for _, ready_list in ipairs(call('ZRANGE', P .. 'later', 0, -1)) do
  later = later + call('ZCARD', P .. 'later:' .. ready_list)
end
local blocked = 0
for _, queue in ipairs(call('HKEYS', P .. 'blocked')) do
  blocked = blocked + call('ZCARD', P .. 'blocked:' .. queue)
end
local all = 0
for at = 1, #LETTERS do
  all = all + (counted[sub(LETTERS, at, at)] or 0)
end
local agrees = due == (counted.D or 0) and later == (counted.L or 0)
  and blocked == (counted.A or 0)
  -- There must be no more concurrency groups with a running task than running tasks: a stale one would never start
  -- another.
  and call('HLEN', P .. 'concurrency_groups') <= (counted.R or 0)
  and call('ZCARD', P .. 'leases') == (counted.R or 0) + (counted.H or 0) and call('HLEN', P .. 'task') == all
return agrees and '1' or '0'
