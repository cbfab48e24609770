-- Cancels what waits for its first attempt with a run key. ARGV: news, run key. Answers with the ids.
local ids = call('HVALS', P .. 'run:' .. ARGV[2])
for _, id in ipairs(ids) do
  local t = load(id)
  leave(t)
  end_task(t, CANCELLED, 0, 'cancelled')
  enter(t)
end
commit()
return ids
