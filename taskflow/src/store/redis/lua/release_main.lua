-- Ends holds. ARGV: news, then for each its id, its fence, '1' for a cancel, the reason. Answers with one text, a byte
-- for each: '1' if it was held.
local answers = {}
for at = 2, #ARGV, 4 do
  local t = load(ARGV[at])
  local held = t and t[STAGE] == HELD and t[FENCE] == tonumber(ARGV[at + 1])
  if held then
    leave(t)
    if ARGV[at + 2] == '1' then
      end_task(t, CANCELLED, 0, ARGV[at + 3])
    else
      wait(t, t[RUN_AT])
    end
    enter(t)
  end
  answers[#answers + 1] = held and '1' or '0'
end
commit()
return table.concat(answers)
