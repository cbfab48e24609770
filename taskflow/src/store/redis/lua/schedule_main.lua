-- The state of one schedule. ARGV: notification, its name.
local answer = {}
if call('EXISTS', P .. 'schedule:' .. ARGV[2]) == 1 then
  append_schedule(answer, ARGV[2])
end
return answer
