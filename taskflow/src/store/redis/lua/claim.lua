-- Gives due tasks to an instance.

-- When the first of these names and queues that is not due will be, in microseconds from now; -1: there is none.
-- Where a thousand lanes of others come first, when that is: to be asked again.
local function next_due(is_known, slot_of, is_full)
  local first = call('ZRANGE', P .. 'later', 0, 999, 'WITHSCORES')
  for i = 1, #first, 2 do
    local queue, name = lane_parts(first[i])
    local slot = slot_of[queue]
    if (slot and not is_full(slot) and is_known[name]) or i == 1999 then
      return math.min(math.max(tonumber(first[i + 1]) - now, 0), FOR_EVER)
    end
  end
  return -1
end

-- The names in a text, as a set and a list.
local function read_names(packed)
  local is_known, list = {}, {}
  for name in string.gmatch(packed, '\255([^\254]*)\254') do
    if not is_known[name] then
      is_known[name] = true
      list[#list + 1] = name
    end
  end
  return is_known, list
end

-- The lanes that may have work for who knows these names and has room in these queues.
local function lanes_with_work(is_known, names, slot_of, queues)
  local due, n = {}, #names * #queues
  if n > 1 and n > call('SCARD', P .. 'due') then
    for _, lane in ipairs(call('SMEMBERS', P .. 'due')) do
      local queue, name = lane_parts(lane)
      if slot_of[queue] and is_known[name] then
        due[#due + 1] = lane
      end
    end
    return due
  end
  for _, queue in ipairs(queues) do
    for _, name in ipairs(names) do
      due[#due + 1] = #queue .. ':' .. queue .. name
    end
  end
  return due
end

-- Takes the first tasks of one lane. Notes in `taken` what it takes out of it.
local function take_from_one(lane, wanted, taken)
  local key, picked = P .. 'due:' .. lane, {}
  local found = call('ZRANGE', key, 0, wanted - 1, 'WITHSCORES')
  local n, places = #found / 2, taken[lane] or {}
  local m = #places
  if n > 0 then
    call('ZREMRANGEBYRANK', key, 0, n - 1)
  end
  if n < wanted then
    call('SREM', P .. 'due', lane)
  end
  for i = 1, n do
    picked[i] = sub(found[2 * i - 1], 9)
    places[m + 2 * i - 1], places[m + 2 * i] = found[2 * i], found[2 * i - 1]
  end
  taken[lane] = places
  return picked
end

-- Takes the first tasks of several lanes together.
local function take_from_many(work, free, slot_of, limit, taken)
  local heads = {}
  for _, lane in ipairs(work) do
    local wanted, found = math.min(free[slot_of[lane_parts(lane)]], limit), {}
    if wanted > 0 then
      found = call('ZRANGE', P .. 'due:' .. lane, 0, wanted - 1, 'WITHSCORES')
      if #found == 0 then
        call('SREM', P .. 'due', lane)
      end
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
  local picked, members_of, lane_of = {}, {}, {}
  for _, head in ipairs(heads) do
    local slot = slot_of[lane_parts(head.lane)]
    if #picked < limit and free[slot] > 0 then
      free[slot] = free[slot] - 1
      picked[#picked + 1] = sub(head.member, 9)
      lane_of[#picked] = head.lane
      local places = taken[head.lane] or {}
      places[#places + 1], places[#places + 2] = head.score, head.member
      taken[head.lane] = places
      members_of[head.lane] = members_of[head.lane] or {}
      table.insert(members_of[head.lane], head.member)
    end
  end
  for lane, members in pairs(members_of) do
    call_many('ZREM', 'due:' .. lane, members)
  end
  return picked, lane_of
end

-- What is known of these queues: which are paused, and whether tasks of any were put aside. Answers also whether this claim
-- was given up.
local function look_at(queues, this)
  local fields, n, paused, any_aside = { 'V' .. this }, #queues, {}, false
  for i, queue in ipairs(queues) do
    fields[i + 1], fields[n + i + 1] = 'P' .. queue, 'A' .. queue
  end
  local known = read_many('HMGET', 'counts', fields)
  for i, queue in ipairs(queues) do
    paused[queue] = known[i + 1] and true
    any_aside = any_aside or (tonumber(known[n + i + 1] or 0) + (changes['A' .. queue] or 0)) > 0
  end
  return paused, any_aside, known[1]
end

-- Makes tasks due again that were taken and not started.
local function put_back(ids, tasks, from, free, slot_of)
  local due_of = {}
  for i = from, #ids do
    local task = tasks[i]
    local priority, lane = unpack_bytes('<i2', task, PRIORITY_IN), unpack_bytes('<I2c0', task, LANE_IN)
    local due = due_of[lane] or {}
    due_of[lane] = due
    due[#due + 1], due[#due + 2] = -priority, sub(task, 1, 8) .. ids[i]
    local slot = slot_of[lane_parts(lane)]
    free[slot] = free[slot] + 1
  end
  for lane, due in pairs(due_of) do
    call_many('ZADD', 'due:' .. lane, due)
    call('SADD', P .. 'due', lane)
  end
end

-- Undoes a claim that failed: what it took is due again, where it was, and runs in no crowd. Nothing is lost by one task that
-- is damaged: the repair finds all where they were. What was passed over stays where it was put.
local function undo(taken, passed, picked, crowds_of_picked)
  for _, crowd in ipairs(crowds_of_picked) do
    run_in(crowd, -1)
  end
  for lane, places in pairs(taken) do
    local due = {}
    for i = 1, #places, 2 do
      if not passed[sub(places[i + 1], 9)] then
        due[#due + 1], due[#due + 2] = places[i], places[i + 1]
      end
    end
    if #due > 0 then
      call_many('ZADD', 'due:' .. lane, due)
      call('SADD', P .. 'due', lane)
    end
  end
  -- Not where `leases` is what failed.
  pcall(call_many, 'ZREM', 'leases', picked)
end

-- ARGV from `at` on: instance, lease, limit, which claim of which handle this is, how many of the limit find a free slot,
-- number of names, names in one text, each between '\255' and '\254', number of queues, queues in the same way, each with its
-- room behind it, and a 'p' if its tasks may be prefetched, limits as in limits.lua.
-- Puts into `answer` when to come back (-2: when a slot is free), the ids of tasks in one text, the begins of their states in one text, then each one's
-- `task` with the body.
local function claim(at, answer)
  local instance, limit = ARGV[at], tonumber(ARGV[at + 2])
  local until_ = text(later_by(tonumber(ARGV[at + 1])))
  local is_known, names
  local this, slots = ARGV[at + 3], tonumber(ARGV[at + 4])
  is_known, names = read_names(ARGV[at + 6])
  local slot_of, free, queues, prefetches, i = {}, {}, {}, {}, 0
  for queue, room, prefetch in string.gmatch(ARGV[at + 8], '\255([^\254]*)\254(%d+)(p?)') do
    i = i + 1
    queues[i], prefetches[queue] = queue, prefetch == 'p'
    slot_of[queue] = slot_of[queue] or i
    free[i] = slot_of[queue] == i and tonumber(room) or 0
  end
  local limit_of, rates = read_limits(at + 9, queues, free)
  local any_later = promote()
  local paused, any_aside, given_up = look_at(queues, this)
  local released = any_aside and release_asides(slot_of, limit_of) or {}

  local work = {}
  local function find_work()
    local with_room = {}
    for i, queue in ipairs(queues) do
      if free[i] > 0 and not paused[queue] then
        with_room[#with_room + 1] = queue
      end
    end
    work = {}
    for _, lane in ipairs(lanes_with_work(is_known, names, slot_of, with_room)) do
      local queue = lane_parts(lane)
      if free[slot_of[queue]] > 0 and not paused[queue] then
        work[#work + 1] = lane
      end
    end
  end
  if limit > 0 and not given_up then
    find_work()
  end

  local picked, passed, frees_others, needs_slot, n = {}, 0, false, false, #answer + 1
  local states, heads, leases, expiring, of_lane, first_of_lane = {}, {}, {}, {}, {}, {}
  -- A task that is passed over may make room for one that comes before others of its round: where its queue has less room than
  -- the claim (`narrow`), or where it has expired and the next of its crowd is due. What is left of the round is put back then.
  local narrow, is_cut_short, cuts, cut_lane = {}, false, 0, nil
  -- For `undo`.
  local taken, passed_ids, crowds_of_picked = {}, {}, {}
  local is_picked = {}

  local function may_start(lane, crowd)
    local most = limit_of[lane_parts(lane)]
    return not most or running_in(crowd) < most
  end

  local function pass_over(id, blob, lane, crowd, has_expired)
    local queue = lane_parts(lane)
    if has_expired then
      lapse(id, blob, lane, crowd)
      frees_others = frees_others or crowd ~= ''
    else
      put_aside(id, blob, lane, crowd, limit_of[queue])
    end
    passed, passed_ids[id] = passed + 1, true
    free[slot_of[queue]] = free[slot_of[queue]] + 1
    if frees_others or narrow[slot_of[queue]] then
      is_cut_short, cut_lane = true, lane
    end
  end

  -- Passes over the first tasks of a lane that may not be started now, however many they are, until one may.
  local function skim(lane)
    local slot, size = slot_of[lane_parts(lane)], 1
    repeat
      local ids = take_from_one(lane, size, taken)
      free[slot] = free[slot] - #ids
      local old, tasks = read_many('HMGET', 'state', ids), read_many('HMGET', 'task', ids)
      for i, task in ipairs(tasks) do
        local id, state = ids[i], old[i]
        local _, expires, of, crowd = unpack_bytes(CLAIM_WORDS, task, PREFETCH_IN)
        if of ~= lane or (state and byte(state) ~= DUE) or is_picked[id] then
          error(NOT_DUE)
        end
        if expires > now and (crowd == '' or may_start(lane, crowd)) then
          return put_back(ids, tasks, i, free, slot_of)
        end
        pass_over(id, join(state, task), lane, crowd, expires <= now)
      end
      local is_over = #ids < size
      size = 2 * size
    until is_over or passed >= PASSED_OVER
  end

  local function may_prefetch(state, task, which, lane)
    local _, lost, _, attempt = unpack_bytes(CLAIM_READS, state)
    local before_last = which % 2 == 1 and attempt + 1 < unpack_bytes('<I4', task, MAX_IN)
    return prefetches[lane_parts(lane)] and lost == 0 and (which == ALL_ATTEMPTS or before_last)
  end

  -- What the state of a task becomes that starts, up to REST_AT.
  local function head_of(id, state, lane, crowd, expires)
    local flags, lost, fence, attempt = unpack_bytes(CLAIM_READS, state)
    if fence >= LAST_FENCE then
      error(NOT_DUE)
    end
    if crowd ~= '' then
      run_in(crowd, 1)
      crowds_of_picked[#crowds_of_picked + 1] = crowd
    end
    if expires < NEVER then
      expiring[#expiring + 1] = id
    end
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
    return pack(HEAD, RUNNING, 0, 0, flags, lost, 0, fence + 1, attempt + 1, instance, now)
  end

  -- Most tasks are like the one before: new, in the same lane, in no crowd, and they do not expire.
  local like

  -- Starts tasks that were taken. Answers whether one was passed over, since it may not be started now.
  local function start(ids, lane_of)
    local k, passed_before, is_cut = #picked, passed, false
    local old, tasks = read_many('HMGET', 'state', ids), read_many('HMGET', 'task', ids)
    for i, task in ipairs(tasks) do
      local id, state = ids[i], old[i]
      local kind = like
      -- It is in its lane twice.
      if is_picked[id] then
        error(NOT_DUE)
      end
      if kind and not state and find(task, kind.words, PREFETCH_IN, true) == PREFETCH_IN
        and kind.lane == (lane_of[i] or kind.lane) then
        is_cut = is_cut_short
        needs_slot = not is_cut and k >= slots and not kind.may_prefetch
        if not is_cut and not needs_slot then
          local lane = kind.lane
          of_lane[lane], first_of_lane[lane] = of_lane[lane] + 1, first_of_lane[lane] + 1
        end
      else
        local which, expires, lane, crowd, body_at = unpack_bytes(CLAIM_WORDS, task, PREFETCH_IN)
        if lane ~= (lane_of[i] or work[1]) or (state and byte(state) ~= DUE) then
          error(NOT_DUE)
        end
        if expires > now and (crowd == '' or may_start(lane, crowd)) then
          local may_wait = may_prefetch(state or NEW, task, which, lane)
          is_cut = is_cut_short
          needs_slot = not is_cut and k >= slots and not may_wait
          if not is_cut and not needs_slot then
            local head = head_of(id, state or NEW, lane, crowd, expires)
            kind = {
              head = head, lane = lane, body_at = body_at, words = sub(task, PREFETCH_IN, body_at - 1),
              may_prefetch = may_wait, state = head .. sub(task, LANE_IN, body_at - 1),
            }
            like = not state and expires == NEVER and crowd == '' and kind or like
          end
        else
          kind = nil
          pass_over(id, join(state, task), lane, crowd, expires <= now)
        end
      end
      if is_cut or needs_slot then
        put_back(ids, tasks, i, free, slot_of)
        break
      elseif kind then
        k = k + 1
        is_picked[id] = true
        picked[k], heads[k], states[2 * k - 1], states[2 * k] = id, kind.head, id, kind.state
        leases[2 * k - 1], leases[2 * k] = until_, id
        if kind.body_at > #task then
          task = task .. call('HGET', P .. 'body', id)
        end
        answer[n + 2 + k] = task
      end
    end
    return passed > passed_before
  end

  local function take()
    local again
    repeat
      local room, ids, lane_of = limit - #picked, {}, {}
      if frees_others then
        find_work()
      end
      narrow, is_cut_short, frees_others, cut_lane = {}, false, false, nil
      if room > 0 and #work == 1 then
        local slot = slot_of[lane_parts(work[1])]
        ids = take_from_one(work[1], math.min(free[slot], room), taken)
        free[slot] = free[slot] - #ids
      elseif room > 0 and #work > 1 then
        for _, lane in ipairs(work) do
          local slot = slot_of[lane_parts(lane)]
          narrow[slot] = free[slot] < room
        end
        ids, lane_of = take_from_many(work, free, slot_of, room, taken)
      end
      again = start(ids, lane_of)
      if cut_lane then
        cuts = cuts + 1
        skim(cut_lane)
      end
    until not again or needs_slot or passed >= PASSED_OVER or cuts >= CUTS

    local due_in = count_starts(rates, free)
    if needs_slot then
      due_in = -2
    elseif #picked < limit then
      local function is_full(slot)
        return free[slot] == 0
      end
      for queue in pairs(released) do
        again = again or free[slot_of[queue]] > 0
      end
      local next_in = again and 0 or any_later and next_due(is_known, slot_of, is_full) or -1
      if next_in >= 0 and (due_in < 0 or next_in < due_in) then
        due_in = next_in
      end
    end
    local ids = table.concat(picked)
    answer[n], answer[n + 1], answer[n + 2] = text(math.min(due_in, FOR_EVER)), ids, table.concat(heads)
    if ids == '' then
      return
    end
    call_many('ZADD', 'leases', leases)
    call_many('ZREM', 'expiring', expiring)
    -- In case the answer is lost: see unclaim_main.lua.
    call('SET', P .. 'claim:' .. instance, this .. pack('<i8', now) .. ids)
    call_many('HSET', 'state', states)
    for lane, number in pairs(of_lane) do
      local queue = lane_parts(lane)
      count('D' .. queue, -number)
      count('R' .. queue, number)
      count('W' .. queue, -(first_of_lane[lane] or 0))
    end
    count('i' .. instance, #picked)
  end

  local is_sound, why = pcall(take)
  if not is_sound then
    undo(taken, passed_ids, picked, crowds_of_picked)
    error(why)
  end
end
