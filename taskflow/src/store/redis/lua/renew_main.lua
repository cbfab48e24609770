-- Renews leases. ARGV: notification, instance, lease, how long the instance counts as alive, number of runs, ids,
-- fences. Answers with one text, a byte for each run: '0' renewed, '1' renewed and asked to stop, 'x' lost.
local instance, until_ = ARGV[2], text(later_by(tonumber(ARGV[3])))
call('ZADD', P .. 'seen', 'XX', text(now), instance)
call('ZADD', P .. 'there', 'XX', text(now + ARGV[4]), instance)
local n, ids, answers, leases = tonumber(ARGV[5]), {}, {}, {}
for i = 1, n do
  ids[i] = ARGV[5 + i]
end
for i, blob in ipairs(read_many('HMGET', 'state', ids)) do
  local answer = 'x'
  if blob and #blob >= REST_AT - 1 then
    local stage, stop, _, _, _, _, fence, _, holder = unpack_bytes(HEAD, blob)
    if (stage == RUNNING or stage == HELD) and fence == tonumber(ARGV[5 + n + i]) and holder == instance then
      leases[#leases + 1] = until_
      leases[#leases + 1] = ids[i]
      answer = tostring(stop)
    end
  end
  answers[i] = answer
end
call_many('ZADD', 'leases', leases)
return table.concat(answers)
