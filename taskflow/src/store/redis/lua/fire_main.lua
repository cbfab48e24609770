-- Deals with a tick once. ARGV: news, schedule, tick, then the task if there is one. Answers nothing if it, or a later
-- one, was dealt with before.
local last = call('HGET', P .. 'ticks', ARGV[2])
if last and tonumber(last) >= tonumber(ARGV[3]) then
  return false
end
call('HSET', P .. 'ticks', ARGV[2], ARGV[3])
local answer = ARGV[4] and insert_tasks(4) or ''
commit()
return answer
