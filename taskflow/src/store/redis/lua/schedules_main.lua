-- What is known of all schedules, by name: of each its name, and for tick, outcome, start, task, paused and definition
-- what there is.
local answer = {}
for _, name in ipairs(call('ZRANGE', P .. 'schedules', 0, -1)) do
  answer[#answer + 1] = name
  local known =
    call('HMGET', P .. 'schedule:' .. name, 'tick', 'outcome', 'start', 'task', 'paused', 'definition')
  for _, value in ipairs(known) do
    answer[#answer + 1] = value
  end
end
return answer
