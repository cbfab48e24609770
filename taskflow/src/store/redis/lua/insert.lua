-- Keeps new tasks.

-- Every task begins with this fence, and a claim's is greater: a run or hold under it began with the insert.
local FIRST_FENCE = 1
-- What begins so runs from the start, if it may: 1 is "if nothing is due", 2 in any case.
local RUNS_AT_ONCE = { [1] = true, [2] = true }

-- ARGV from `at` on: instance, lease, number of lanes, lanes, number of tasks, ids, then for each group its number of
-- tasks, whether it may have to be undone, and for each task a specification, a body, and its keys if it has any.
-- Answers with one text: for each task 'p', 'l' or 'h' (fence 1), 'd' or 'r' with an id; a refused group is 'f' and
-- the place in it of the task that was refused.
local function insert_tasks(at)
  local instance, lease = ARGV[at], ARGV[at + 1]
  at = at + 2

  local lane_of = {}
  for i = 1, tonumber(ARGV[at]) do
    lane_of[i] = ARGV[at + i]
  end
  at = at + #lane_of + 1

  local total = tonumber(ARGV[at])
  local first_id = at + 1
  at = first_id + total
  local there = {}
  for from = first_id, at - 1, 4000 do
    local to = math.min(from + 3999, at - 1)
    for i, blob in ipairs(call('HMGET', P .. 'state', unpack(ARGV, from, to))) do
      if blob then
        there[ARGV[from + i - 1]] = blob
      end
    end
  end

  promote()
  local seq = total > 0 and call('INCRBY', P .. 'seq', total) - total or 0
  local until_ = string.format('%.0f', later_by(tonumber(lease)))

  -- What is known of a queue, with what this script changed.
  local queues = {}
  local function numbers(queue)
    local known = queues[queue]
    if not known then
      local stored = call('HMGET', P .. 'counts', 'D' .. queue, 'W' .. queue, 'P' .. queue)
      known = {
        due = (tonumber(stored[1] or 0)) + (changes['D' .. queue] or 0),
        waiting = (tonumber(stored[2] or 0)) + (changes['W' .. queue] or 0),
        paused = stored[3] and true or false,
      }
      queues[queue] = known
    end
    return known
  end

  -- How to undo what was done of a group that may be refused; nil for other groups.
  local undo

  -- Gives a waiting task what another add with its run key wants. A hold stays: whoever has it ends it.
  local function replace(id, lane, priority, tries, run_at, scheduled, body)
    local t = load(id)
    if undo then
      insert(undo, { id = id, blob = call('HGET', P .. 'state', id), body = call('HGET', P .. 'body', id) })
    end
    leave(t)
    t[LANE], t[PRIORITY], t[TRIES], t[MAX], t[RUN_AT], t[SCHEDULED] = lane, priority, tries, tries, run_at, scheduled or 0
    t[FLAGS] = scheduled and bor(t[FLAGS], HAS_SCHEDULED) or band(t[FLAGS], bnot(HAS_SCHEDULED))
    if t[STAGE] ~= HELD then
      t[STAGE] = run_at > now and LATER or DUE
    end
    gather('HSET', 'body', id, body)
    enter(t)
    flush()
    queues = {}
  end

  local function revert()
    for i = #undo, 1, -1 do
      local step = undo[i]
      local t = load(step.id)
      if step.blob then
        leave(t)
        gather('HSET', 'body', step.id, step.body)
        local before = unpack_task(step.id, step.blob)
        before.lease = t.lease
        enter(before)
      else
        forget(t)
        there[step.id] = nil
      end
    end
    flush()
    queues = {}
  end

  -- What a task that is there already was answered when this instance inserted it, if that still holds.
  local function answer_again(blob)
    local stage, _, _, _, _, _, fence, _, holder = unpack_bytes(HEAD, blob)
    if fence ~= FIRST_FENCE or holder ~= instance then
      return 'p'
    end
    return stage == RUNNING and 'l' or stage == HELD and 'h' or 'p'
  end

  -- The answer for one task, or nil if its queue is full.
  local function insert_one(id, start, when, value, priority, tries, flags, source, lane, max_size, body, key, run_key)
    if there[id] then
      return answer_again(there[id])
    end
    local queue, name = lane_parts(lane)
    if key then
      local holder = call('HGET', P .. 'keys', key)
      if holder then
        return 'd' .. holder
      end
    end
    local run_at, scheduled = now, nil
    if when ~= 0 then
      run_at = when == 1 and later_by(value) or value
      scheduled = run_at
    end
    if run_key then
      local waiting = call('HGET', P .. 'run:' .. run_key, name)
      if waiting then
        replace(waiting, lane, priority, tries, run_at, scheduled, body)
        return 'r' .. waiting
      end
    end
    local of_queue = numbers(queue)
    if max_size > 0 and of_queue.waiting >= max_size - 1 then
      return nil
    end

    -- Start: 0 waits, 1 runs if nothing is due, 2 runs, 3 is held.
    local stage, attempt, holder, started, answer = DUE, 0, NOBODY, 0, 'p'
    if start == 3 then
      stage, holder, answer = HELD, instance, 'h'
    elseif run_at > now then
      stage = LATER
    elseif RUNS_AT_ONCE[start] and not of_queue.paused and (start == 2 or of_queue.due == 0) then
      stage, attempt, holder, started, answer = RUNNING, 1, instance, now, 'l'
    end
    seq = seq + 1
    if scheduled then
      flags = bor(flags, HAS_SCHEDULED)
    end
    local blob = pack(FORMAT, stage, 0, 0, flags, 0, 0, FIRST_FENCE, attempt, holder, started, run_at, tries, tries,
      now, seq, scheduled or 0, 0, 0, priority, source) .. lane
    gather('HSET', 'state', id, blob)
    gather('HSET', 'body', id, body)
    gather('ZADD', 'ids', 0, id)
    there[id] = blob
    count(LETTER[stage] .. queue, 1)
    if stage == DUE then
      if of_queue[lane] == nil then
        of_queue[lane] = true
        call('SADD', P .. 'due', lane)
      end
      of_queue.due = of_queue.due + 1
      gather('ZADD', 'due:' .. lane, -priority, pack('>I8', seq) .. id)
    elseif stage == LATER then
      gather('ZADD', 'later:' .. lane, run_at, pack('>I8', seq) .. id)
      call('ZADD', P .. 'later', 'LT', run_at, lane)
    else
      gather('ZADD', 'leases', until_, id)
      if stage == RUNNING then
        count('i' .. instance, 1)
      end
    end
    if key then
      call('HSET', P .. 'keys', key, id)
      call('HSET', P .. 'key', id, key)
    end
    if stage ~= RUNNING then
      count('W' .. queue, 1)
      of_queue.waiting = of_queue.waiting + 1
    end
    if run_key then
      call('HSET', P .. 'run_key', id, run_key)
      if stage ~= RUNNING then
        call('HSET', P .. 'run:' .. run_key, name, id)
      end
    end
    if undo then
      insert(undo, { id = id })
    end
    return answer
  end

  local answers, next_id = {}, first_id
  local last = #ARGV
  while at <= last do
    local tasks = tonumber(ARGV[at])
    undo = ARGV[at + 1] == '1' and {} or nil
    at = at + 2
    local before, refused = #answers, nil
    for i = 0, tasks - 1 do
      local start, when, value, priority, tries, flags, source, lane, max_size =
        unpack_bytes('<BBi8i2I4BBI4I4', ARGV[at])
      local body, key, run_key = ARGV[at + 1], nil, nil
      at = at + 2
      if flags ~= 0 then
        if has(flags, HAS_KEY) then
          key = ARGV[at]
          at = at + 1
        end
        if has(flags, HAS_RUN_KEY) then
          run_key = ARGV[at]
          at = at + 1
        end
      end
      if not refused then
        local answer = insert_one(ARGV[next_id], start, when, value, priority, tries, flags, source, lane_of[lane],
          max_size, body, key, run_key)
        if answer then
          answers[#answers + 1] = answer
        else
          refused = i
          if undo then
            revert()
          end
          for n = #answers, before + 1, -1 do
            answers[n] = nil
          end
          answers[before + 1] = 'f' .. pack('<I4', i)
        end
      end
      next_id = next_id + 1
    end
  end
  return table.concat(answers)
end
