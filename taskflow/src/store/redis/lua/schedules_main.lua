-- The states of schedules, by name. ARGV: notification, the name after which to begin (empty: at the first), the
-- maximum number.
local answer = {}
local first = ARGV[2] == '' and '-' or '(' .. ARGV[2]
for _, name in ipairs(call('ZRANGEBYLEX', P .. 'schedules', first, '+', 'LIMIT', 0, tonumber(ARGV[3]))) do
  append_schedule(answer, name)
end
return answer
