-- Cancels what waits for its first attempt with a run key. ARGV: news, run key. Answers with the ids.
local cancelled = {}
for _, id in ipairs(call('HVALS', P .. 'run:' .. ARGV[2])) do
  local t = load(id)
  -- Another program may have written it.
  if t and waits_for_first(t) then
    leave(t)
    end_task(t, CANCELLED, 0, 'cancelled')
    enter(t)
    cancelled[#cancelled + 1] = id
  end
end
commit()
return cancelled
