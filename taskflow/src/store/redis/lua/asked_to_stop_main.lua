-- The runs of an instance that were asked to stop. ARGV: notification, instance. Answers with ids and fences,
-- alternating.
local ids, runs = call('SMEMBERS', P .. 'stopping'), {}
for i, blob in ipairs(read_many('HMGET', 'state', ids)) do
  if blob and #blob >= REST_AT - 1 and #ids[i] == 16 then
    local _, _, _, _, _, _, fence, _, holder = unpack_bytes(HEAD, blob)
    if holder == ARGV[2] then
      runs[#runs + 1] = ids[i]
      runs[#runs + 1] = text(fence)
    end
  end
end
return runs
