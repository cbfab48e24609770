-- Ends holds. ARGV: news, then for each its id, its fence, '1' for a cancel, the reason. Answers with one text, a byte
-- for each: '1' if it was held, or if that was ended in this way before.
local answers = {}
for at = 2, #ARGV, 4 do
  local t = load(ARGV[at])
  local ours = t and t[FENCE] == tonumber(ARGV[at + 1])
  local held = ours and t[STAGE] == HELD
  if held then
    leave(t)
    if ARGV[at + 2] == '1' then
      end_task(t, CANCELLED, 0, ARGV[at + 3])
    else
      wait(t, t[RUN_AT])
    end
    enter(t)
  end
  local was_released = not held and ours and (ARGV[at + 2] == '1' and t[STAGE] == CANCELLED or ARGV[at + 2] ~= '1' and t[STAGE] < HELD)
  answers[#answers + 1] = (held or was_released) and '1' or '0'
end
commit()
return table.concat(answers)
