-- The schedules that were defined or removed since a version, in the order of these changes. ARGV: notification, the
-- version, the maximum number. Answers the version to ask from next time (the latest, or that of the last answered
-- schedule if there are more), whether there are more, and the schedules. A removed one has only its name.
local latest, since, most = tonumber(call('GET', P .. 'schedule_version') or '0'), tonumber(ARGV[2]), tonumber(ARGV[3])
if latest <= since then
  return { latest, 0 }
end
local changed = call('ZRANGEBYSCORE', P .. 'schedule_changes', '(' .. ARGV[2], '+inf', 'WITHSCORES', 'LIMIT', 0, most + 1)
local more = #changed > 2 * most
local answer = { more and changed[2 * most] or latest, more and 1 or 0 }
for i = 1, math.min(#changed, 2 * most), 2 do
  local name = changed[i]
  if call('HEXISTS', P .. 'schedule:' .. name, 'definition') == 1 then
    append_schedule(answer, name)
  else
    local n = #answer
    answer[n + 1] = name
    for field = 1, 10 do
      answer[n + 1 + field] = false
    end
  end
end
return answer
