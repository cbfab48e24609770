-- Checks what a claim without limits may take. The case is simple only if the work is in one ready list, nothing has come
-- due, nothing is blocked, and no task has a concurrency group, a run key, progress or an expiry.
--
-- ARGV from `at` on, and the answer, as in claim.lua; a thousand tasks at most.
local instance, limit, this, slots = ARGV[at], tonumber(ARGV[at + 2]), ARGV[at + 3], tonumber(ARGV[at + 4])
local until_ = string.format('%.0f', math.min(now + ARGV[at + 1], FOR_EVER))
local names, queues = ARGV[at + 6], ARGV[at + 8]
if call('HEXISTS', P .. 'counts', 'V' .. this) == 1 then
  return false
end

-- The free places of a queue: none if it is paused, or not part of this claim. It looks up only this queue, because a
-- claim may name thousands.
local rooms, prefetches = {}, {}
local function room_in(queue)
  local room = rooms[queue]
  if not room then
    local _, last = find(queues, '\255' .. queue .. '\254', 1, true)
    local number, prefetch = string.match(queues, '^(%d+)(p?)', (last or #queues) + 1)
    room, prefetches[queue] = tonumber(number or 0), prefetch == 'p'
    if room > 0 and call('HEXISTS', P .. 'counts', 'P' .. queue) == 1 then
      room = 0
    end
    rooms[queue] = room
  end
  return room
end

local function is_known(name)
  return find(names, '\255' .. name .. '\254', 1, true)
end

for _, queue in ipairs(call('HKEYS', P .. 'blocked')) do
  if find(queues, '\255' .. queue .. '\254', 1, true) then
    return false
  end
end
local later = call('ZRANGE', P .. 'later', 0, 0, 'WITHSCORES')
if later[1] and tonumber(later[2]) <= now then
  return false
end
local work
if ARGV[at + 5] == '1' and ARGV[at + 7] == '1' then
  local queue = string.match(queues, '^\255([^\254]*)')
  work = #queue .. ':' .. queue .. string.match(names, '^\255([^\254]*)')
elseif call('SCARD', P .. 'due') > 100 then
  return false
else
  for _, ready_list in ipairs(call('SMEMBERS', P .. 'due')) do
    local queue, name = ready_list_parts(ready_list)
    if is_known(name) and room_in(queue) > 0 then
      if work then
        return false
      end
      work = ready_list
    end
  end
end

local queue = work and ready_list_parts(work)
local wanted = work and math.min(limit, room_in(queue)) or 0
local picked, taken = wanted > 0 and call('ZRANGE', P .. 'due:' .. work, 0, wanted - 1) or {}, 0
local answer, heads, new_leases, first, needs_slot = {}, {}, {}, 0, false
if #picked > 0 then
  taken = #picked
  local is_picked = {}
  for i = 1, taken do
    local id = sub(picked[i], 9)
    -- A task that is in a ready list twice is damaged.
    if is_picked[id] then
      return false
    end
    picked[i], is_picked[id] = id, true
  end
  local old, like, m = call('HMGET', P .. 'state', unpack(picked)), nil, #states
  for i, task in ipairs(call('HMGET', P .. 'task', unpack(picked))) do
    local id, state, kind = picked[i], old[i], like
    if not kind or state or find(task, kind.words, PREFETCH_IN, true) ~= PREFETCH_IN then
      local which, expires, ready_list, concurrency_group, body_at = split(CLAIM_WORDS, task, PREFETCH_IN)
      local flags, lost, fence, attempt = split(CLAIM_READS, state or NEW)
      if concurrency_group ~= '' or expires < NEVER or bit.band(flags, NOT_SIMPLE) ~= 0 or ready_list ~= work
        or (state and byte(state) ~= DUE) or fence >= LAST_FENCE then
        return false
      end
      local head = pack(HEAD, RUNNING, 0, 0, flags, lost, 0, fence + 1, attempt + 1, instance, now)
      local before_last = which % 2 == 1 and attempt + 1 < split('<I4', task, MAX_IN)
      kind = {
        head = head, body_at = body_at, words = sub(task, PREFETCH_IN, body_at - 1), is_first = attempt == 0,
        state = head .. sub(task, READY_LIST_IN, body_at - 1),
        may_prefetch = prefetches[queue] and lost == 0 and (which == ALL_ATTEMPTS or before_last),
      }
      like = not state and kind or like
    end
    if i > slots and not kind.may_prefetch then
      needs_slot, taken = true, i - 1
      break
    end
    first = first + (kind.is_first and 1 or 0)
    heads[i], states[m + 2 * i - 1], states[m + 2 * i] = kind.head, id, kind.state
    new_leases[2 * i - 1], new_leases[2 * i] = until_, id
    answer[i + 3] = kind.body_at > #task and task .. call('HGET', P .. 'body', id) or task
  end
end

local due_in = needs_slot and -2 or -1
if taken < limit and later[1] and not needs_slot then
  local queue_of_later, name = ready_list_parts(later[1])
  local room = room_in(queue_of_later) - (queue_of_later == queue and taken or 0)
  if room <= 0 or not is_known(name) then
    return false
  end
  due_in = math.min(tonumber(later[2]) - now, FOR_EVER)
end
local taken_ids = table.concat(picked, '', 1, taken)
answer[1], answer[2], answer[3] = string.format('%.0f', due_in), taken_ids, table.concat(heads)
