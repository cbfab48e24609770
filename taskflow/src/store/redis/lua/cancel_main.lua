-- Cancels what waits and asks what runs to stop. ARGV: news, reason, ids. Answers with one text, a byte for each:
-- 'c' cancelled, 'r' requested, 'e' ended before, 'n' not there.
local answers = {}
for at = 3, #ARGV do
  local t = load(ARGV[at])
  local answer = 'n'
  if t then
    if t[STAGE] <= HELD then
      leave(t)
      end_task(t, CANCELLED, 0, ARGV[2])
      enter(t)
      answer = 'c'
    elseif t[STAGE] == RUNNING then
      t[STOP] = 1
      save(t)
      call('SADD', P .. 'stopping', t.id)
      answer = 'r'
    else
      answer = 'e'
    end
  end
  answers[#answers + 1] = answer
end
commit()
return table.concat(answers)
