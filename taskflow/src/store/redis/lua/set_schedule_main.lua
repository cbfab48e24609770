-- Changes a schedule. ARGV: news, schedule, then 'pause', or 'resume', or 'define', what it is and up to which tick it has
-- none, or 'remove'. Answers whether it was known.
local schedule, change = P .. 'schedule:' .. ARGV[2], ARGV[3]
local was_known = call('EXISTS', schedule)
if change == 'remove' then
  was_known = call('HEXISTS', schedule, 'definition')
  if was_known == 1 then
    call('DEL', schedule)
    call('ZREM', P .. 'schedules', ARGV[2])
  end
else
  call('ZADD', P .. 'schedules', '0', ARGV[2])
  if change == 'pause' then
    call('HSET', schedule, 'paused', 1)
  elseif change == 'resume' then
    -- It is known from now on, if only for this.
    call('HSET', schedule, 'known', 1)
    call('HDEL', schedule, 'paused')
  else
    local latest = call('HGET', schedule, 'tick')
    local from = latest and tonumber(latest) > tonumber(ARGV[5]) and latest or ARGV[5]
    call('HSET', schedule, 'definition', ARGV[4], 'tick', from)
    call('HDEL', schedule, 'outcome')
  end
end
commit()
return was_known
