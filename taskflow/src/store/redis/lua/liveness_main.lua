-- The liveness values shown on this start of the server: instance, value, whether its subscription exists.
local all, run = call('HGETALL', P .. 'liveness'), run_id()
local instances, signs, answer = {}, {}, {}
for i = 1, #all, 2 do
  if run and #all[i] == 16 and sub(all[i + 1], 1, #run) == run then
    instances[#instances + 1], signs[#signs + 1] = all[i], all[i + 1]
  end
end
local counts = listeners(instances)
for i, instance in ipairs(counts and instances or {}) do
  answer[3 * i - 2], answer[3 * i - 1], answer[3 * i] = instance, signs[i], counts[i] > 0 and 1 or 0
end
return answer
