-- Fails tasks that this program cannot read completely. ARGV: notification, then for each its id, its fence if only
-- that run may be ended (empty: in any case), what was wrong, '1' if its ready list could not be read, and the
-- readable part of its body if the body was damaged (empty: it was not). Answers '1' if the tasks had no other
-- damage; otherwise a repair is needed, if only to count anew.
local sound = true
for at = 2, #ARGV, 5 do
  local id, fence, why = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local task, state = call('HGET', P .. 'task', id), call('HGET', P .. 'state', id)
  local flawed = not task and 'what is kept of it is gone' or flaw(id, state, task)
  if flawed then
    if task or state then
      fail_damaged(id, state, task, nil, flawed)
    end
    sound = false
  else
    local t = unpack_task(id, join(state, task))
    if fence == '' or (t[FENCE] == tonumber(fence) and t[STAGE] == RUNNING) then
      leave(t)
      if ARGV[at + 3] == '1' then
        t[READY_LIST], t[GROUP_KEY] = '7:unknownunknown', ''
      end
      if ARGV[at + 4] ~= '' then
        set_body(t, ARGV[at + 4])
      end
      end_task(t, FAILED, 0, 'damaged in the store: ' .. why)
      enter(t)
    end
  end
end
commit()
return sound and '1' or '0'
