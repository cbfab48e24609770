-- Writes the result of claim_plain.lua, except the states.
if taken > 0 then
  call('ZREMRANGEBYRANK', P .. 'due:' .. work, 0, taken - 1)
  call('ZADD', P .. 'leases', unpack(new_leases))
  -- In case the answer is lost: see unclaim_main.lua.
  call('SET', P .. 'claim:' .. instance, this .. pack('<i8', now) .. taken_ids)
  count('D' .. queue, -taken)
  count('R' .. queue, taken)
  count('W' .. queue, -first)
  count('i' .. instance, taken)
end
if taken < wanted and not needs_slot then
  call('SREM', P .. 'due', work)
end
