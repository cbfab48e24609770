-- Looks at what a claim without limits may take. It is simple where the work is in one lane, nothing has come due, nothing was
-- put aside, and no task of it has a crowd, a run key or progress, or expires.
--
-- ARGV from `at` on, and the answer, as in claim.lua; a thousand tasks at most.
local instance, limit, this = ARGV[at], tonumber(ARGV[at + 2]), ARGV[at + 3]
local until_ = string.format('%.0f', math.min(now + ARGV[at + 1], FOR_EVER))
local is_known, free, fields, queues, work = {}, {}, { 'V' .. this }, {}, nil
local names = tonumber(ARGV[at + 4])
for i = at + 5, at + 4 + names do
  is_known[ARGV[i]] = true
end
at = at + 5 + names
for i = 1, tonumber(ARGV[at]) do
  local queue = ARGV[at + 2 * i - 1]
  if not free[queue] then
    queues[#queues + 1], free[queue] = queue, tonumber(ARGV[at + 2 * i])
    fields[#fields + 1], fields[#fields + 2] = 'A' .. queue, 'P' .. queue
  end
end
local numbers = call('HMGET', P .. 'counts', unpack(fields))
if numbers[1] then
  return false
end
for i, queue in ipairs(queues) do
  if (numbers[2 * i] or '0') ~= '0' then
    return false
  elseif numbers[2 * i + 1] then
    free[queue] = 0
  end
end
local later = call('ZRANGE', P .. 'later', 0, 0, 'WITHSCORES')
if later[1] and tonumber(later[2]) <= now then
  return false
end
if names * #queues == 1 then
  work = #queues[1] .. ':' .. queues[1] .. ARGV[at - 1]
elseif call('SCARD', P .. 'due') > 100 then
  return false
else
  for _, lane in ipairs(call('SMEMBERS', P .. 'due')) do
    local queue, name = lane_parts(lane)
    if is_known[name] and (free[queue] or 0) > 0 then
      if work then
        return false
      end
      work = lane
    end
  end
end

local queue = work and lane_parts(work)
local wanted = work and math.min(limit, free[queue]) or 0
local picked, taken = wanted > 0 and call('ZRANGE', P .. 'due:' .. work, 0, wanted - 1) or {}, 0
local answer, heads, new_leases, first = {}, {}, {}, 0
if #picked > 0 then
  taken = #picked
  for i = 1, taken do
    picked[i] = sub(picked[i], 9)
  end
  local old, like, m = call('HMGET', P .. 'state', unpack(picked)), nil, #states
  for i, task in ipairs(call('HMGET', P .. 'task', unpack(picked))) do
    local id, state, kind = picked[i], old[i], like
    if not kind or state or find(task, kind.words, EXPIRES_IN, true) ~= EXPIRES_IN then
      local expires, lane, crowd, body_at = split(CLAIM_WORDS, task, EXPIRES_IN)
      local flags, lost, fence, attempt = split(CLAIM_READS, state or NEW)
      if crowd ~= '' or expires < NEVER or bit.band(flags, NOT_SIMPLE) ~= 0 or lane ~= work
        or (state and byte(state) ~= DUE) or fence >= LAST_FENCE then
        return false
      end
      local head = pack(HEAD, RUNNING, 0, 0, flags, lost, 0, fence + 1, attempt + 1, instance, now)
      kind = {
        head = head, body_at = body_at, words = sub(task, EXPIRES_IN, body_at - 1), is_first = attempt == 0,
        state = head .. sub(task, LANE_IN, body_at - 1),
      }
      like = not state and kind or like
    end
    first = first + (kind.is_first and 1 or 0)
    heads[i], states[m + 2 * i - 1], states[m + 2 * i] = kind.head, id, kind.state
    new_leases[2 * i - 1], new_leases[2 * i] = until_, id
    answer[i + 3] = kind.body_at > #task and task .. call('HGET', P .. 'body', id) or task
  end
end

local due_in = -1
if taken < limit and later[1] then
  local queue_of_later, name = lane_parts(later[1])
  local room = (free[queue_of_later] or 0) - (queue_of_later == queue and taken or 0)
  if room <= 0 or not is_known[name] then
    return false
  end
  due_in = math.min(tonumber(later[2]) - now, FOR_EVER)
end
local taken_ids = table.concat(picked)
answer[1], answer[2], answer[3] = string.format('%.0f', due_in), taken_ids, table.concat(heads)
