-- Ends the leases of those runs of dead instances that may be repeated. ARGV: notification, then for each instance
-- its id and the liveness value it last showed. Checks again: an instance that has shown another value meanwhile, or
-- is subscribed, lives. Answers the ids of the dead instances.
local run, dead, is_dead = run_id(), {}, {}
for at = 2, #ARGV, 2 do
  local instance, sign = ARGV[at], ARGV[at + 1]
  if run and sub(sign, 1, #run) == run and call('HGET', P .. 'liveness', instance) == sign then
    local counts = listeners({ instance })
    if counts and counts[1] == 0 then
      dead[#dead + 1], is_dead[instance] = instance, true
    end
  end
end
if #dead == 0 then
  return dead
end

-- The policy is the first part of a body, with its length before it.
local function may_run_again(id, t)
  if t[ATTEMPT] < t[MAX] then
    return true
  end
  local body = t.body ~= '' and t.body or call('HGET', P .. 'body', id) or ''
  local policy = #body >= 4 and sub(body, 5, 4 + unpack_bytes('<I4', body)) or ''
  return find(policy, '"requeue_on_interrupt":true', 1, true) ~= nil
end

local ids = call('ZRANGE', P .. 'leases', 0, -1)
for i, blob in ipairs(read_many('HMGET', 'state', ids)) do
  if blob and #blob >= REST_AT - 1 and byte(blob) == RUNNING and is_dead[sub(blob, HOLDER_AT, HOLDER_END)] then
    local t = load(ids[i])
    if t and may_run_again(ids[i], t) then
      call('ZADD', P .. 'leases', 'XX', text(now), ids[i])
    end
  end
end
for _, instance in ipairs(dead) do
  call('HDEL', P .. 'liveness', instance)
end
return dead
