-- The queues that are paused or have a stored configuration: for each its name, the configuration (or empty), and
-- whether it is paused.
local asked, answer = call('HGETALL', P .. 'asked'), {}
for i = 1, #asked, 2 do
  local n = #answer
  answer[n + 1], answer[n + 2] = asked[i], asked[i + 1]
  answer[n + 3] = call('HEXISTS', P .. 'counts', 'P' .. asked[i])
end
return answer
