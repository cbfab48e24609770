-- Changes a schedule. ARGV: notification, schedule, then 'pause'; or 'resume'; or 'define', the definition and the
-- instant after which its ticks begin; or 'remove' and how many removals to remember; or 'declare', the timing, since
-- when, and since when the timing was declared that it may replace (0: none); or 'undeclare' and since when it was
-- declared. Answers whether the schedule was known; for 'remove', whether it had a definition.
local schedule, change = P .. 'schedule:' .. ARGV[2], ARGV[3]
local was_known = call('EXISTS', schedule)

local function note_change()
  local version = call('INCR', P .. 'schedule_version')
  call('ZADD', P .. 'schedule_changes', version, ARGV[2])
  return version
end

-- Makes ticks begin after this instant, or after the latest handled tick if that is later.
local function begin_after(instant)
  local latest = call('HGET', schedule, 'tick')
  if not latest or tonumber(latest) < tonumber(instant) then
    call('HSET', schedule, 'tick', instant)
  end
  call('HDEL', schedule, 'outcome')
end

local function declare(timing, since, instead_of)
  local known = call('HMGET', schedule, 'declared', 'declared_since', 'definition', 'tick')
  if known[1] == timing then
    if tonumber(known[2]) < tonumber(since) then
      call('HSET', schedule, 'declared_since', since)
    end
    return
  end
  if known[1] and tonumber(since) < tonumber(known[2]) and known[2] ~= instead_of then
    return
  end
  if known[1] or known[3] then
    begin_after(text(now))
  elseif not known[4] then
    call('HSET', schedule, 'tick', text(now))
  end
  call('HSET', schedule, 'declared', timing, 'declared_since', since)
end

if change == 'remove' then
  was_known = call('HDEL', schedule, 'definition')
  if was_known == 1 then
    if call('HEXISTS', schedule, 'declared') == 0 then
      call('DEL', schedule)
      call('ZREM', P .. 'schedules', ARGV[2])
    end
    call('ZADD', P .. 'schedule_removals', note_change(), ARGV[2])
    local forgotten = -1 - tonumber(ARGV[4])
    for _, name in ipairs(call('ZRANGE', P .. 'schedule_removals', 0, forgotten)) do
      call('ZREM', P .. 'schedule_changes', name)
    end
    call('ZREMRANGEBYRANK', P .. 'schedule_removals', 0, forgotten)
  end
elseif change == 'undeclare' then
  if call('HGET', schedule, 'declared_since') == ARGV[4] then
    call('HDEL', schedule, 'declared', 'declared_since')
    begin_after(text(now))
  end
else
  call('ZADD', P .. 'schedules', '0', ARGV[2])
  if change == 'pause' then
    call('HSET', schedule, 'paused', 1)
  elseif change == 'resume' then
    -- The schedule is known from now on, even if nothing else is stored.
    call('HSET', schedule, 'known', 1)
    call('HDEL', schedule, 'paused')
  elseif change == 'declare' then
    declare(ARGV[4], ARGV[5], ARGV[6])
  else
    begin_after(ARGV[5])
    call('HSET', schedule, 'definition', ARGV[4])
    call('ZREM', P .. 'schedule_removals', ARGV[2])
    note_change()
  end
end
commit()
return was_known
