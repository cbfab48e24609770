-- Appends what is known of a schedule: its name, and for tick, outcome, start, task, paused, definition, declared,
-- declared_since, skipped and last_skipped what there is.
local function append_schedule(answer, name)
  local n = #answer + 1
  answer[n] = name
  local known = call('HMGET', P .. 'schedule:' .. name, 'tick', 'outcome', 'start', 'task', 'paused', 'definition',
    'declared', 'declared_since', 'skipped', 'last_skipped')
  for i = 1, 10 do
    answer[n + i] = known[i]
  end
end
