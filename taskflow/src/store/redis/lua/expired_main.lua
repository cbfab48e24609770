-- Finds runs and holds whose lease has ended, and pending tasks that have expired, up to ARGV[2] in all. Answers the
-- clock, then for each its id and its data up to the policy. The rules in Rust decide about them; apply_main.lua checks
-- them again and makes the changes.
local ids = call('ZRANGEBYSCORE', P .. 'leases', '-inf', text(now), 'LIMIT', 0, ARGV[2])
local most = tonumber(ARGV[2])
if #ids < most then
  for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'expiring', '-inf', text(now), 'LIMIT', 0, most - #ids)) do
    ids[#ids + 1] = id
  end
end
local blobs, answer = read_tasks(ids), { text(now) }
for i, id in ipairs(ids) do
  local blob = with_body(id, blobs[i])
  local _, _, body_at = unpack_bytes(WORDS, blob, READY_LIST_AT)
  -- The policy is the first part of a body, with its length before it. Arguments can be long, and are not needed
  -- here.
  answer[2 * i], answer[2 * i + 1] = id, sub(blob, 1, body_at + 3 + unpack_bytes('<I4', blob, body_at))
end
return answer
