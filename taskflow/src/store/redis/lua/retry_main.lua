-- Reopens ended tasks. ARGV: news, ids. Answers for each 'y', 'n' if it is not there, 's' and the stage it is in if it
-- cannot be retried, 'k' and who holds its key.
local answers = {}
for at = 2, #ARGV do
  local t = load(ARGV[at])
  local answer
  if not t then
    answer = 'n'
  elseif t[STAGE] <= SUCCESS then
    answer = 's' .. t[STAGE]
  else
    local key = has(t[FLAGS], HAS_KEY) and call('HGET', P .. 'key', t.id)
    local holder = key and call('HGET', P .. 'keys', key)
    if holder then
      answer = 'k' .. holder
    else
      leave(t)
      if t[OUTCOME] ~= 0 then
        local error = has(t[FLAGS], HAS_ERROR) and call('HGET', P .. 'error', t.id) or nil
        remember(t, t[OUTCOME], error, t[FINISHED])
      end
      t[MAX] = math.min(t[ATTEMPT] + t[TRIES], 4294967295)
      t[LOST], t[SNOOZES] = 0, 0
      if t[EXPIRES] <= now then
        t[EXPIRES] = NEVER
      end
      attach(t, HAS_ERROR, 'error', nil)
      attach(t, HAS_PROGRESS, 'progress', nil)
      wait(t, now)
      enter(t)
      answer = 'y'
    end
  end
  answers[#answers + 1] = answer
end
commit()
return answers
