-- Appends the state of a schedule: its name, and the values of tick, outcome, start, task, paused, definition,
-- declared, declared_since, skipped and last_skipped, nil for a missing one.
local function append_schedule(answer, name)
  local n = #answer + 1
  answer[n] = name
  local known = call('HMGET', P .. 'schedule:' .. name, 'tick', 'outcome', 'start', 'task', 'paused', 'definition',
    'declared', 'declared_since', 'skipped', 'last_skipped')
  for i = 1, 10 do
    answer[n + i] = known[i]
  end
end
