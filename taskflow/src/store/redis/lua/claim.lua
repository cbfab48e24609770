-- Gives due tasks to an instance.

-- When the first of these names and queues that is not due will be, in microseconds from now; -1: there is none.
-- Where a thousand lanes of others come first, when that is: to be asked again.
local function next_due(is_known, slot_of, is_full)
  local first = call('ZRANGE', P .. 'later', 0, 999, 'WITHSCORES')
  for i = 1, #first, 2 do
    local queue, name = lane_parts(first[i])
    local slot = slot_of[queue]
    if (slot and not is_full(slot) and is_known[name]) or i == 1999 then
      return math.max(tonumber(first[i + 1]) - now, 0)
    end
  end
  return -1
end

-- The names from ARGV[at] on, as a set and a list, and where they end.
local function read_names(at)
  local n, is_known, list = tonumber(ARGV[at]), {}, {}
  for i = at + 1, at + n do
    local name = ARGV[i]
    if not is_known[name] then
      is_known[name] = true
      list[#list + 1] = name
    end
  end
  return is_known, list, at + n + 1
end

-- The lanes that may have work for who knows these names and has room in these queues.
local function lanes_with_work(is_known, names, slot_of, queues)
  local due = {}
  if #names * #queues <= call('SCARD', P .. 'due') then
    for _, queue in ipairs(queues) do
      for _, name in ipairs(names) do
        due[#due + 1] = #queue .. ':' .. queue .. name
      end
    end
  else
    for _, lane in ipairs(call('SMEMBERS', P .. 'due')) do
      local queue, name = lane_parts(lane)
      if slot_of[queue] and is_known[name] then
        due[#due + 1] = lane
      end
    end
  end
  return due
end

-- Takes the first tasks of one lane.
local function take_from_one(lane, wanted)
  local popped, picked = call('ZPOPMIN', P .. 'due:' .. lane, wanted), {}
  for i = 1, #popped, 2 do
    picked[#picked + 1] = sub(popped[i], 9)
  end
  if #picked < wanted then
    call('SREM', P .. 'due', lane)
  end
  return picked
end

-- Takes the first tasks of several lanes together.
local function take_from_many(work, free, slot_of, limit)
  local heads = {}
  for _, lane in ipairs(work) do
    local wanted = math.min(free[slot_of[lane_parts(lane)]], limit)
    local found = call('ZRANGE', P .. 'due:' .. lane, 0, wanted - 1, 'WITHSCORES')
    if #found == 0 then
      call('SREM', P .. 'due', lane)
    end
    for i = 1, #found, 2 do
      heads[#heads + 1] = {
        score = tonumber(found[i + 1]), seq = unpack_bytes('>I8', found[i]), member = found[i], lane = lane,
      }
    end
  end
  -- Not by comparing members: Lua compares text by the server's locale.
  table.sort(heads, function(a, b)
    if a.score ~= b.score then
      return a.score < b.score
    end
    return a.seq < b.seq
  end)
  local picked, taken = {}, {}
  for _, head in ipairs(heads) do
    local slot = slot_of[lane_parts(head.lane)]
    if #picked < limit and free[slot] > 0 then
      free[slot] = free[slot] - 1
      picked[#picked + 1] = sub(head.member, 9)
      taken[head.lane] = taken[head.lane] or {}
      table.insert(taken[head.lane], head.member)
    end
  end
  for lane, members in pairs(taken) do
    call_many('ZREM', 'due:' .. lane, members)
  end
  return picked
end

-- ARGV from `at` on: instance, lease, limit, which claim of which handle this is, number of names, names, number of queues, queues with their free slots.
-- Puts into `answer` when to come back, and for each task its id and its state with the body.
local function claim(at, answer)
  local instance, limit = ARGV[at], tonumber(ARGV[at + 2])
  local until_ = text(later_by(tonumber(ARGV[at + 1])))
  local is_known, names
  local this = ARGV[at + 3]
  is_known, names, at = read_names(at + 4)
  local slot_of, free, queues, with_room = {}, {}, {}, {}
  for i = 1, tonumber(ARGV[at]) do
    local queue, room = ARGV[at + 2 * i - 1], tonumber(ARGV[at + 2 * i])
    if slot_of[queue] == nil then
      slot_of[queue] = i
      free[i] = room
      queues[#queues + 1] = queue
    end
  end
  promote()

  local picked = {}
  if limit > 0 and call('SISMEMBER', P .. 'void', this) == 0 then
    for _, queue in ipairs(queues) do
      if free[slot_of[queue]] > 0 then
        with_room[#with_room + 1] = queue
      end
    end
    local paused, work = {}, {}
    for _, lane in ipairs(lanes_with_work(is_known, names, slot_of, with_room)) do
      local queue = lane_parts(lane)
      if paused[queue] == nil then
        paused[queue] = call('HEXISTS', P .. 'counts', 'P' .. queue) == 1
      end
      if free[slot_of[queue]] > 0 and not paused[queue] then
        work[#work + 1] = lane
      end
    end
    if #work == 1 then
      local slot = slot_of[lane_parts(work[1])]
      picked = take_from_one(work[1], math.min(free[slot], limit))
      free[slot] = free[slot] - #picked
    elseif #work > 1 then
      picked = take_from_many(work, free, slot_of, limit)
    end
  end

  local due_in = -1
  if #picked < limit then
    due_in = next_due(is_known, slot_of, function(slot) return free[slot] == 0 end)
  end
  local n = #answer
  answer[n + 1] = text(due_in)
  if #picked == 0 then
    return
  end
  local blobs = read_many('HMGET', 'state', picked)
  local states, leases, of_lane, first_of_lane = {}, {}, {}, {}
  for i, id in ipairs(picked) do
    local blob = blobs[i]
    local flags, lost, fence, attempt = unpack_bytes(CLAIM_READS, blob)
    local lane, body_at = unpack_bytes('<I2c0', blob, LANE_AT)
    if band(flags, HAS_PROGRESS) ~= 0 then
      call('HDEL', P .. 'progress', id)
      flags = flags - HAS_PROGRESS
    end
    of_lane[lane] = (of_lane[lane] or 0) + 1
    if attempt == 0 then
      first_of_lane[lane] = (first_of_lane[lane] or 0) + 1
      if band(flags, HAS_RUN_KEY) ~= 0 then
        local _, name = lane_parts(lane)
        call('HDEL', P .. 'run:' .. call('HGET', P .. 'run_key', id), name)
      end
    end
    blob = pack(HEAD, RUNNING, 0, 0, flags, lost, 0, fence + 1, attempt + 1, instance, now) .. sub(blob, REST_AT)
    states[2 * i - 1], states[2 * i] = id, blob
    leases[2 * i - 1], leases[2 * i] = until_, id
    if body_at > #blob then
      blob = blob .. call('HGET', P .. 'body', id)
    end
    answer[n + 2 * i], answer[n + 2 * i + 1] = id, blob
  end
  for lane, number in pairs(of_lane) do
    local queue = lane_parts(lane)
    count('D' .. queue, -number)
    count('R' .. queue, number)
    count('W' .. queue, -(first_of_lane[lane] or 0))
  end
  call_many('HSET', 'state', states)
  call_many('ZADD', 'leases', leases)
  -- In case the answer is lost: see unclaim_main.lua.
  call('SET', P .. 'claim:' .. instance, this .. pack('<i8', now) .. table.concat(picked))
  count('i' .. instance, #picked)
end
