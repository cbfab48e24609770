-- Inserts new tasks.
--
-- ARGV from `at` on: instance, lease; the number of classes, and for each its ready list, a specification and the end
-- of its states; the number of tasks, and for each its id and its body; then for each group the number of its tasks,
-- whether it may have to be undone, and for each task its class. Unless the class is plain, each task also has a
-- specification of its own, its keys and its concurrency group if it has any, and the error to store with it if it is
-- refused and a record was asked for. Tasks of one class have ready list, priority, maximum number of attempts, source,
-- start and prefetch in common. Those of a plain class are due, have no keys and no concurrency group, do not expire,
-- and their queue has no limit: most tasks are like that, and they cost little.
--
-- Answers with one text: for each task 'p', 'l' or 'h' (with the first fence), 'd' or 'r' with an id; a refused group
-- is 'f' and the position of the refused task in it.
local function insert_tasks(at)
  local instance, until_ = ARGV[at], text(later_by(tonumber(ARGV[at + 1])))
  local queues, classes = {}, {}
  at = at + 2
  promote()

  -- Reads the state of a queue, including the changes of this script.
  local function refresh(q)
    local name = q.name
    local stored = call('HMGET', P .. 'counts', 'D' .. name, 'W' .. name, 'P' .. name)
    q.due = (stored[1] or 0) + (changes['D' .. name] or 0)
    q.waiting = (stored[2] or 0) + (changes['W' .. name] or 0)
    q.paused = stored[3]
  end

  local running_head = pack(HEAD, RUNNING, 0, 0, 0, 0, 0, FIRST_FENCE, 1, instance, now)
  local times = pack('<i8i8', now, now)
  for i = 1, tonumber(ARGV[at]) do
    local ready_list = ARGV[at + 1]
    -- Start: 0 waits, 1 runs if nothing is due, 2 runs, 3 is held.
    local plain, start, priority, tries, source, prefetch = unpack_bytes('<BBi2I4BB', ARGV[at + 2])
    local queue = ready_list_parts(ready_list)
    local q = queues[queue]
    if not q then
      q = { name = queue }
      refresh(q)
      queues[queue] = q
    end
    classes[tostring(i)] = {
      ready_list = ready_list, queue = q, plain = plain == 1, start = start, priority = priority, score = tostring(-priority),
      tries = tries, source = source, prefetch = prefetch, tail = times .. ARGV[at + 3],
      words = sub(ARGV[at + 3], END_WORDS), due = {}, ran = 0,
    }
    at = at + 3
  end
  at = at + 1

  local total = tonumber(ARGV[at])
  if total == 0 then
    return ''
  end
  local first = at + 1
  at = first + 2 * total
  local ids = {}
  for i = 1, total do
    ids[i] = ARGV[first + 2 * i - 2]
  end
  -- Tasks that exist already: most often none. New ids are added to `ids` now; those that are not inserted in the end
  -- are removed again.
  local there
  local entries, is_new = {}, {}
  for i, blob in ipairs(read_tasks(ids)) do
    local id = ids[i]
    if blob or is_new[id] then
      there = there or {}
      there[id] = blob or nil
    else
      is_new[id] = true
      entries[#entries + 1], entries[#entries + 2] = '0', id
    end
  end
  call_many('ZADD', 'ids', entries)
  local seq = call('INCRBY', P .. 'seq', total) - total

  -- Plain tasks, to be written together.
  local states, new_tasks, n_tasks, leases, n_leases = {}, {}, 0, {}, 0

  local function count_plain()
    for _, c in pairs(classes) do
      local n, queue = #c.due / 2, c.queue.name
      count('D' .. queue, n - (c.counted or 0))
      count('W' .. queue, n - (c.counted or 0))
      count('R' .. queue, c.ran)
      count('i' .. instance, c.ran)
      c.counted, c.ran = n, 0
    end
  end

  local function refresh_all()
    for _, q in pairs(queues) do
      refresh(q)
    end
  end

  -- The steps that undo a group that may be refused; nil for other groups.
  local undo

  -- Gives a waiting task the values of another add with its run key. A hold stays: its owner ends it.
  local function replace(id, c, run_at, scheduled, body, expires, concurrency_group)
    count_plain()
    local t = load(id)
    if undo then
      undo[#undo + 1] = { id = id, blob = read_tasks({ id })[1], body = t.body == '' and call('HGET', P .. 'body', id) or t.body }
    end
    leave(t)
    t[READY_LIST], t[PRIORITY], t[TRIES], t[MAX], t[RUN_AT] = c.ready_list, c.priority, c.tries, c.tries, run_at
    t[SCHEDULED], t[PREFETCH], t[EXPIRES], t[GROUP_KEY] = scheduled or 0, c.prefetch, expires, concurrency_group
    t[FLAGS] = scheduled and bor(t[FLAGS], HAS_SCHEDULED) or band(t[FLAGS], bnot(HAS_SCHEDULED))
    if t[STAGE] ~= HELD then
      t[STAGE] = run_at > now and LATER or DUE
    end
    set_body(t, body)
    enter(t)
    refresh_all()
  end

  local function revert()
    count_plain()
    for i = #undo, 1, -1 do
      local step = undo[i]
      local t = load(step.id)
      if step.blob then
        leave(t)
        local before = unpack_task(step.id, step.blob)
        before.lease, before.body, before.left = t.lease, t.body, t.left
        if before[STAGE] == BLOCKED or before[STAGE] == LAPSED then
          -- The next claim that finds it blocks it or marks it as lapsed again.
          before[STAGE] = DUE
        end
        set_body(before, step.body)
        enter(before)
      else
        forget(t)
        if there then
          there[step.id] = nil
        end
      end
    end
    refresh_all()
  end

  -- The answer that an existing task got when this instance inserted it, if it still holds.
  local function answer_again(blob)
    local stage, _, _, _, _, _, fence, _, holder = unpack_bytes(HEAD, blob)
    if fence ~= FIRST_FENCE or holder ~= instance then
      return 'p'
    end
    return stage == RUNNING and 'l' or stage == HELD and 'h' or 'p'
  end

  local function insert_plain(id, c, body)
    local q = c.queue
    seq = seq + 1
    local seq8 = pack('>I8', seq)
    local head, answer
    if (c.start == 2 or (c.start == 1 and q.due == 0)) and not q.paused then
      head, answer = running_head, 'l'
      states[n_leases + 1], states[n_leases + 2] = id, running_head .. c.words
      leases[n_leases + 1], leases[n_leases + 2] = until_, id
      n_leases = n_leases + 2
      c.ran = c.ran + 1
    else
      head, answer = NEW, 'p'
      local due = c.due
      local n = #due
      due[n + 1], due[n + 2] = c.score, seq8 .. id
      q.due, q.waiting = q.due + 1, q.waiting + 1
    end
    local task = seq8 .. c.tail .. body
    new_tasks[n_tasks + 1], new_tasks[n_tasks + 2] = id, task
    n_tasks = n_tasks + 2
    if there then
      there[id] = head .. task
    end
    return answer
  end

  -- Stores one task.
  local function add(id, c, body, t, key, run_key)
    seq = seq + 1
    t[SEQ] = seq
    if key then
      call('HSET', P .. 'key', id, key)
    end
    if run_key then
      call('HSET', P .. 'run_key', id, run_key)
    end
    t.id, t.lease, t.body = id, until_, ''
    set_body(t, body)
    enter(t)
    if there then
      there[id] = read_tasks({ id })[1]
    end
  end

  -- The answer for one task, or nil if its queue is full; and whether it was stored. If it is refused and `error` is
  -- given, it is stored with that error.
  local function insert_one(id, c, body, specification, key, run_key, concurrency_group, error)
    local when, value, flags, max_size, expires = 0, 0, 0, 0, NEVER
    if specification then
      when, value, flags, max_size, expires = unpack_bytes('<Bi8BI4i8', specification)
    end
    local q = c.queue
    local queue, name = ready_list_parts(c.ready_list)
    if key then
      local holder = call('HGET', P .. 'keys', key)
      -- A damaged task holds no key.
      if holder and #holder == 16 and call('HEXISTS', P .. 'task', holder) == 1 then
        return 'd' .. holder
      end
    end
    local run_at, scheduled = now, nil
    if when ~= 0 then
      run_at = when == 1 and later_by(value) or value
      scheduled = run_at
      flags = bor(flags, HAS_SCHEDULED)
    end
    if run_key then
      local waiting = call('HGET', P .. 'run:' .. run_key, name)
      local t = waiting and load(waiting)
      if t and not waits_for_first(t) then
        error(NOT_WAITING)
      elseif t then
        replace(waiting, c, run_at, scheduled, body, expires, concurrency_group)
        return 'r' .. waiting
      end
    end
    local stage, attempt, holder, started, answer = DUE, 0, NOBODY, 0, 'p'
    if max_size > 0 and q.waiting >= max_size - 1 then
      if not error then
        return nil
      end
      stage, answer = REJECTED, nil
    elseif c.start == 3 then
      stage, holder, answer = HELD, instance, 'h'
    elseif run_at > now then
      stage = LATER
    elseif (c.start == 2 or (c.start == 1 and q.due == 0)) and not q.paused and expires > now then
      stage, attempt, holder, started, answer = RUNNING, 1, instance, now, 'l'
    end
    local t = {
      stage, 0, 0, flags, 0, 0, FIRST_FENCE, attempt, holder, started, 0, run_at, now, c.tries, c.tries,
      scheduled or 0, 0, 0, c.priority, c.source, 0, c.prefetch, expires, c.ready_list, concurrency_group,
    }
    if stage == REJECTED then
      t[FINISHED], t.id = now, id
      attach(t, HAS_ERROR, 'error', error)
    end
    add(id, c, body, t, key, run_key)
    if stage == DUE then
      q.due = q.due + 1
    end
    if attempt == 0 and stage <= HELD then
      q.waiting = q.waiting + 1
    end
    if undo then
      undo[#undo + 1] = { id = id }
    end
    return answer, true
  end

  local answers, n_answers, position, last = {}, 0, first, #ARGV
  while at <= last do
    local tasks, refused, was_there = tonumber(ARGV[at]), nil, false
    local full
    undo = ARGV[at + 1] == '1' and {} or nil
    at = at + 2
    local before = n_answers
    for i = 0, tasks - 1 do
      local c, id, body = classes[ARGV[at]], ARGV[position], ARGV[position + 1]
      at, position = at + 1, position + 2
      local specification, key, run_key, error
      local concurrency_group = ''
      if not c.plain then
        specification = ARGV[at]
        at = at + 1
        local flags = byte(specification, 10)
        if band(flags, HAS_KEY) ~= 0 then
          key = ARGV[at]
          at = at + 1
        end
        if band(flags, HAS_RUN_KEY) ~= 0 then
          run_key = ARGV[at]
          at = at + 1
        end
        local options = byte(specification, 23)
        if band(options, IN_GROUP) ~= 0 then
          concurrency_group = ARGV[at]
          at = at + 1
        end
        if band(options, RECORD_REJECTED) ~= 0 then
          error = ARGV[at]
          at = at + 1
        end
      end
      local blob = there and there[id]
      local answer, kept
      was_there = was_there or blob
      if refused then
        kept = blob
      elseif blob and byte(blob) == REJECTED then
        refused, kept = i, true
        if undo then
          revert()
        end
      elseif blob then
        answer, kept = answer_again(blob), true
      elseif c.plain and not undo and #body <= LONG_BODY then
        answer, kept = insert_plain(id, c, body), true
      else
        answer, kept = insert_one(id, c, body, specification, key, run_key, concurrency_group, tasks == 1 and error)
        if not answer then
          refused, full = i, c.queue.name
          if undo then
            revert()
          end
        end
      end
      n_answers = n_answers + 1
      answers[n_answers] = answer
      if not kept then
        call('ZREM', P .. 'ids', id)
      elseif there and not blob then
        -- A refused group may have removed the id above.
        call('ZADD', P .. 'ids', '0', id)
      end
    end
    if refused then
      for n = n_answers, before + 1, -1 do
        answers[n] = nil
      end
      n_answers = before + 1
      if full and not was_there then
        count('Q' .. full, tasks)
      end
      answers[n_answers] = 'f' .. pack('<I4', refused)
    end
  end

  count_plain()
  call_many('HSET', 'task', new_tasks)
  call_many('HSET', 'state', states)
  call_many('ZADD', 'leases', leases)
  for _, c in pairs(classes) do
    if #c.due > 0 then
      call_many('ZADD', 'due:' .. c.ready_list, c.due)
      call('SADD', P .. 'due', c.ready_list)
    end
  end
  return table.concat(answers)
end
