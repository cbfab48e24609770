-- Takes back a claim whose answer was lost: no process knows its runs, so none of them has begun. If the claim
-- arrives only later, it takes nothing. This does what the rules say about a run that is given back before it began.
-- It is a script of its own because the record of the claim and its tasks must be handled together. ARGV:
-- notification, instance, the token of the claim.
call('HSET', P .. 'counts', 'V' .. ARGV[3], text(now))
local last = call('GET', P .. 'claim:' .. ARGV[2])
if last and #last >= #ARGV[3] + 8 and sub(last, 1, #ARGV[3]) == ARGV[3] then
  local at = #ARGV[3] + 1
  -- A damaged record takes nothing back: the leases end.
  local claimed_at = unpack_bytes('<i8', last, at)
  for from = at + 8, #last, 16 do
    local t = load(sub(last, from, from + 15))
    if t and t[STAGE] == RUNNING and t[HOLDER] == ARGV[2] and t[STARTED] == claimed_at then
      local stop = t[STOP] == 1
      leave(t)
      t[ATTEMPT] = t[ATTEMPT] - 1
      if stop then
        end_task(t, CANCELLED, 0, 'cancelled')
      else
        wait(t, t[RUN_AT])
      end
      enter(t)
    end
  end
  call('DEL', P .. 'claim:' .. ARGV[2])
end
commit()
