-- The processes that are there: id, what is known, when it first joined, when it was seen, how many tasks it runs.
local answer = {}
for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'there', text(now), '+inf')) do
  answer[#answer + 1] = id
  answer[#answer + 1] = call('HGET', P .. 'instance', id)
  answer[#answer + 1] = call('ZSCORE', P .. 'started', id)
  answer[#answer + 1] = call('ZSCORE', P .. 'seen', id)
  answer[#answer + 1] = call('HGET', P .. 'counts', 'i' .. id) or '0'
end
return answer
