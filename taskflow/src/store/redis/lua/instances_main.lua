-- The known instances: id, description, when it first joined, when it was last seen, how many tasks it runs.
local answer = {}
for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'there', text(now), '+inf')) do
  local started, seen = call('ZSCORE', P .. 'started', id), call('ZSCORE', P .. 'seen', id)
  -- An incomplete entry was written by another program and is not an instance.
  if #id == 16 and started and seen then
    answer[#answer + 1] = id
    answer[#answer + 1] = call('HGET', P .. 'instance', id)
    answer[#answer + 1] = started
    answer[#answer + 1] = seen
    answer[#answer + 1] = tostring(tonumber(call('HGET', P .. 'counts', 'i' .. id)) or 0)
  end
end
return answer
