-- Handles a tick exactly once. ARGV: notification, schedule, tick, '1' for a tick at the start of a program, for such
-- a tick the latest one before (empty: none), the definition that the schedule must have (empty: any), how far ahead
-- a tick may be, the timing that must be the declared one (empty: any), how many ticks are left out with this one,
-- the id of the task and the task, if there is one. Answers '!' and by how much the tick is ahead, if that is too far;
-- nothing if this tick, or a later one that is not too far ahead, was handled before, if the latest tick at a start is
-- another than the given one, or if the definition is another; 'S' if another timing is declared; 'P' if the schedule
-- is paused; otherwise the answer of `insert_tasks`.
local schedule, tick, is_start = P .. 'schedule:' .. ARGV[2], ARGV[3], ARGV[4] == '1'
local last = call('HGET', schedule, is_start and 'start' or 'tick')
local latest = now + tonumber(ARGV[7])
if not is_start and tonumber(tick) > latest then
  return '!' .. text(tonumber(tick) - now)
end
if ARGV[6] ~= '' and call('HGET', schedule, 'definition') ~= ARGV[6] then
  return false
end
if ARGV[6] ~= '' or ARGV[8] ~= '' then
  local declared = call('HGET', schedule, 'declared') or ''
  if declared ~= ARGV[8] then
    return 'S'
  end
end
if is_start then
  if (last or '') ~= ARGV[5] then
    return false
  end
elseif last and tonumber(last) >= tonumber(tick) and tonumber(last) <= latest then
  return false
end
call('ZADD', P .. 'schedules', '0', ARGV[2])
call('HSET', schedule, is_start and 'start' or 'tick', tick)
if ARGV[9] ~= '0' then
  call('HINCRBY', schedule, 'skipped', ARGV[9])
  call('HSET', schedule, 'last_skipped', tick)
end
local answer, outcome = '', 'skipped'
if ARGV[10] and not is_start and call('HEXISTS', schedule, 'paused') == 1 then
  answer, outcome = 'P', 'paused'
elseif ARGV[10] then
  answer = insert_tasks(11)
  local kind = sub(answer, 1, 1)
  if kind == 'f' then
    outcome = 'refused'
  else
    local is_new = kind ~= 'd' and kind ~= 'r'
    outcome = is_new and 'added' or 'duplicate'
    call('HSET', schedule, 'task', is_new and ARGV[10] or sub(answer, 2, 17))
  end
end
-- If the first tick adds no task, the schedule only begins there: nothing was left out.
if not is_start then
  if last or ARGV[10] then
    call('HSET', schedule, 'outcome', outcome)
  end
end
commit()
return answer
