-- Moves on lost runs and holds. ARGV: news, then for each its id, a specification, an error. The specification: fence,
-- whether a stop was asked for when it was decided about; then 0 for a hold that ends, 1 for a task that waits, 2 for
-- one that ends, 3 for one that has expired; the stage it ends in, the delay it waits, whether the attempt counts.
-- Answers with one text, a byte for each: '1' if it was moved on here, '0' if it is not lost or another was faster.
local answers = {}
for at = 2, #ARGV, 3 do
  local t = load(ARGV[at])
  local fence, stop, kind, stage, delay, counts = unpack_bytes('<I8BBBi8B', ARGV[at + 1])
  local lost = t and t[FENCE] == fence and t[STOP] == stop
  if lost and kind == 3 then
    lost = t[STAGE] < HELD and t[EXPIRES] <= now
  elseif lost then
    lost = t[STAGE] == (kind == 0 and HELD or RUNNING) and tonumber(call('ZSCORE', P .. 'leases', t.id)) <= now
  end
  if lost then
    leave(t)
    if kind == 0 then
      wait(t, t[RUN_AT])
    elseif kind == 3 then
      end_task(t, CANCELLED, 0, ARGV[at + 2])
    else
      -- So that a late finish is not taken for a repeated one.
      t[LOST], t[FENCE] = t[LOST] + 1, t[FENCE] + 1
      remember(t, WAS_LOST, 'worker lost')
      if kind == 1 then
        if counts == 0 then
          t[ATTEMPT] = math.max(t[ATTEMPT] - 1, 0)
        end
        attach(t, HAS_ERROR, 'error', 'worker lost')
        wait(t, later_by(delay))
      else
        end_task(t, stage, 0, ARGV[at + 2])
      end
    end
    enter(t)
  end
  answers[#answers + 1] = lost and '1' or '0'
end
commit()
return table.concat(answers)
