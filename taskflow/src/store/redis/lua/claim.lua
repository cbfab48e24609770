-- Gives due tasks to an instance.

-- When the next task of these names and queues comes due, in microseconds from now; -1: there is none. If the first
-- thousand ready lists are of other names or queues, or of full ones, it is when the thousandth comes due: the caller asks
-- again then.
local function next_due(is_known, slot_of, is_full)
  local first = call('ZRANGE', P .. 'later', 0, 999, 'WITHSCORES')
  for i = 1, #first, 2 do
    local queue, name = ready_list_parts(first[i])
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

-- The ready lists that may have work for a claim with these names, in the `asked` queues that the text `packed` lists.
local function ready_lists_with_work(is_known, names, slot_of, asked, packed)
  local due, n = {}, #names * asked
  if n > 1 and n > call('SCARD', P .. 'due') then
    for _, ready_list in ipairs(call('SMEMBERS', P .. 'due')) do
      local queue, name = ready_list_parts(ready_list)
      if is_known[name] and slot_of[queue] then
        due[#due + 1] = ready_list
      end
    end
    return due
  end
  local is_seen = {}
  for queue in string.gmatch(packed, '\255([^\254]*)') do
    if not is_seen[queue] then
      is_seen[queue] = slot_of[queue]
      for _, name in ipairs(names) do
        due[#due + 1] = #queue .. ':' .. queue .. name
      end
    end
  end
  return due
end

-- Takes the first tasks of one ready list. Records in `taken` what it removes from the list.
local function take_from_one(ready_list, wanted, taken)
  local key, picked = P .. 'due:' .. ready_list, {}
  local found = call('ZRANGE', key, 0, wanted - 1, 'WITHSCORES')
  local n, places = #found / 2, taken[ready_list] or {}
  local m = #places
  if n > 0 then
    call('ZREMRANGEBYRANK', key, 0, n - 1)
  end
  if n < wanted then
    call('SREM', P .. 'due', ready_list)
  end
  for i = 1, n do
    picked[i] = sub(found[2 * i - 1], 9)
    places[m + 2 * i - 1], places[m + 2 * i] = found[2 * i], found[2 * i - 1]
  end
  taken[ready_list] = places
  return picked
end

-- Whether a head comes before another. Members are not compared, because Lua compares text by the server's locale.
local function is_before(a, b)
  if a.score ~= b.score then
    return a.score < b.score
  end
  return a.seq < b.seq
end

-- Sets the next task of a ready list as its head. Answers whether there is one. The list is read in portions.
local function advance(head, portion)
  local found, i = head.found, head.at
  if not found[i] and head.has_more then
    found, i = call('ZRANGE', P .. 'due:' .. head.ready_list, head.read, head.read + portion - 1, 'WITHSCORES'), 1
    head.found, head.read, head.has_more = found, head.read + portion, #found == 2 * portion
  end
  if not found[i] then
    return false
  end
  head.member, head.score, head.seq = found[i], tonumber(found[i + 1]), unpack_bytes('>I8', found[i])
  head.at = i + 2
  return true
end

-- Moves the first head to its place. The heads are a heap: the one at `n` comes before those at `2n` and `2n + 1`.
local function sift(heads)
  local head, at, size = heads[1], 1, #heads
  while 2 * at <= size do
    local child = 2 * at
    if child < size and is_before(heads[child + 1], heads[child]) then
      child = child + 1
    end
    if not is_before(heads[child], head) then
      break
    end
    heads[at], at = heads[child], child
  end
  heads[at] = head
end

-- Takes the first tasks of several ready lists together.
local function take_from_many(work, free, slot_of, limit, taken)
  local heads = {}
  for _, ready_list in ipairs(work) do
    local slot = slot_of[ready_list_parts(ready_list)]
    if free[slot] > 0 then
      local head = { ready_list = ready_list, slot = slot, found = {}, at = 1, read = 0, has_more = true }
      if advance(head, 1) then
        heads[#heads + 1] = head
      else
        call('SREM', P .. 'due', ready_list)
      end
    end
  end
  table.sort(heads, is_before)
  local portion = math.ceil(1.5 * limit / math.max(#heads, 1))
  local picked, ready_list_of, number_of = {}, {}, {}
  while heads[1] and #picked < limit do
    local head = heads[1]
    local is_there = free[head.slot] > 0
    if is_there then
      local ready_list, n = head.ready_list, #picked + 1
      free[head.slot] = free[head.slot] - 1
      picked[n], ready_list_of[n] = sub(head.member, 9), ready_list
      local places = taken[ready_list] or {}
      places[#places + 1], places[#places + 2] = head.score, head.member
      taken[ready_list], number_of[ready_list] = places, (number_of[ready_list] or 0) + 1
      is_there = n < limit and advance(head, portion)
    end
    if not is_there then
      local last = table.remove(heads)
      heads[1] = heads[1] and last
    end
    if heads[2] then
      sift(heads)
    end
  end
  -- They are the first of their lists.
  for ready_list, number in pairs(number_of) do
    call('ZREMRANGEBYRANK', P .. 'due:' .. ready_list, 0, number - 1)
  end
  return picked, ready_list_of
end

-- After this many lookups in a text, all of it is read into a table.
local LOOKUPS = 32

-- Answers a function that finds what a text says of a queue (as in ARGV of `claim`), or nothing if the queue is not in
-- it. A claim may name thousands of queues, and most of them are empty.
local function lookup_in(packed)
  local lookups, all = 0, nil
  return function(queue)
    lookups = lookups + 1
    if all then
      return all[queue]
    elseif lookups <= LOOKUPS then
      local _, last = find(packed, '\255' .. queue .. '\254', 1, true)
      return last and string.match(packed, '^[^\255]*', last + 1)
    end
    all = {}
    for name, words in string.gmatch(packed, '\255([^\254]*)\254([^\255]*)') do
      all[name] = all[name] or words
    end
    return all[queue]
  end
end

-- Puts tasks that were taken but not started back into their ready lists.
local function put_back(ids, tasks, from, free, slot_of)
  local due_of = {}
  for i = from, #ids do
    local task = tasks[i]
    local priority, ready_list = unpack_bytes('<i2', task, PRIORITY_IN), unpack_bytes('<I2c0', task, READY_LIST_IN)
    local due = due_of[ready_list] or {}
    due_of[ready_list] = due
    due[#due + 1], due[#due + 2] = -priority, sub(task, 1, 8) .. ids[i]
    local slot = slot_of[ready_list_parts(ready_list)]
    free[slot] = free[slot] + 1
  end
  for ready_list, due in pairs(due_of) do
    call_many('ZADD', 'due:' .. ready_list, due)
    call('SADD', P .. 'due', ready_list)
  end
end

-- Undoes a failed claim: the tasks it took are due again at their old places, and leave their concurrency groups. One
-- damaged task does not lose the others: the repair finds all of them at their old places. Tasks that were passed
-- over stay where they were put.
local function undo(taken, passed, picked, groups_of_picked)
  for _, concurrency_group in ipairs(groups_of_picked) do
    run_in(concurrency_group, -1)
  end
  for ready_list, places in pairs(taken) do
    local due = {}
    for i = 1, #places, 2 do
      if not passed[sub(places[i + 1], 9)] then
        due[#due + 1], due[#due + 2] = places[i], places[i + 1]
      end
    end
    if #due > 0 then
      call_many('ZADD', 'due:' .. ready_list, due)
      call('SADD', P .. 'due', ready_list)
    end
  end
  -- It is protected, because `leases` may be the key that failed.
  pcall(call_many, 'ZREM', 'leases', picked)
end

-- ARGV from `at` on: instance, lease, limit, the token of this claim, how many of the limit find a free slot, number
-- of names, the names in one text, each between '\255' and '\254', number of queues, the queues in the same form,
-- each followed by its free places, a 'p' if its tasks may be prefetched, and its limits as in limits.lua, each after a
-- ':'. If a queue is there twice, the first counts.
--
-- Appends to `answer` in how many microseconds to claim again (-1: unknown, -2: when a slot is free), the ids of the
-- tasks in one text, the beginnings of their states in one text, then the `task` of each with its body.
local function claim(at, answer)
  local instance, limit = ARGV[at], tonumber(ARGV[at + 2])
  local until_ = text(later_by(tonumber(ARGV[at + 1])))
  local is_known, names
  local this, slots = ARGV[at + 3], tonumber(ARGV[at + 4])
  is_known, names = read_names(ARGV[at + 6])
  local asked, packed = tonumber(ARGV[at + 7]), ARGV[at + 8]
  local free, paused, prefetches, limit_of, rates, looked_at = {}, {}, {}, {}, {}, 0
  local words_of = lookup_in(packed)
  -- The number of a queue, or false if it is not part of this claim. It is looked at when it is first asked for.
  local slot_of = setmetatable({}, { __index = function(slots, queue)
    local words, slot = words_of(queue), false
    if words then
      local room, prefetch, most, of_group, starts, slice =
        string.match(words, '^(%d+)(p?):?(%d*):?(%d*):?(%d*):?(%d*)$')
      looked_at = looked_at + 1
      slot = looked_at
      free[slot] = limited(slot, queue, tonumber(room), most, of_group, starts, slice, limit_of, rates)
      prefetches[queue] = prefetch == 'p'
      paused[queue] = call('HEXISTS', P .. 'counts', 'P' .. queue) == 1
    end
    slots[queue] = slot
    return slot
  end })
  local any_later = promote()
  local given_up = call('HEXISTS', P .. 'counts', 'V' .. this) == 1
  local released = unblock_after_limit_change(slot_of, limit_of)

  local work = {}
  local function find_work()
    work = {}
    for _, ready_list in ipairs(ready_lists_with_work(is_known, names, slot_of, asked, packed)) do
      local queue = ready_list_parts(ready_list)
      if free[slot_of[queue]] > 0 and not paused[queue] then
        work[#work + 1] = ready_list
      end
    end
  end
  if limit > 0 and not given_up then
    find_work()
  end

  local picked, passed, frees_others, needs_slot, n = {}, 0, false, false, #answer + 1
  local states, heads, leases, expiring, of_ready_list, first_ready = {}, {}, {}, {}, {}, {}
  -- A task that is passed over may make room for one that comes before the rest of its round: if its queue has fewer
  -- free places than the claim (`narrow`), or if it has expired and the next task of its concurrency group is due.
  -- The rest of the round is put back then.
  local narrow, is_cut_short, cuts, cut_ready_list = {}, false, 0, nil
  -- For `undo`.
  local taken, passed_ids, groups_of_picked = {}, {}, {}
  local is_picked = {}

  local function may_start(ready_list, concurrency_group)
    local most = limit_of[ready_list_parts(ready_list)]
    return not most or running_in(concurrency_group) < most
  end

  local function pass_over(id, blob, ready_list, concurrency_group, has_expired)
    local queue = ready_list_parts(ready_list)
    if has_expired then
      lapse(id, blob, ready_list, concurrency_group)
      frees_others = frees_others or concurrency_group ~= ''
    else
      block(id, blob, ready_list, concurrency_group, limit_of[queue])
    end
    passed, passed_ids[id] = passed + 1, true
    free[slot_of[queue]] = free[slot_of[queue]] + 1
    if frees_others or narrow[slot_of[queue]] then
      is_cut_short, cut_ready_list = true, ready_list
    end
  end

  -- Passes over the first tasks of a ready list that may not be started now, however many they are, until one may.
  local function skim(ready_list)
    local slot, size = slot_of[ready_list_parts(ready_list)], 1
    repeat
      local ids = take_from_one(ready_list, size, taken)
      free[slot] = free[slot] - #ids
      local old, tasks = read_many('HMGET', 'state', ids), read_many('HMGET', 'task', ids)
      for i, task in ipairs(tasks) do
        local id, state = ids[i], old[i]
        local _, expires, of, concurrency_group = unpack_bytes(CLAIM_WORDS, task, PREFETCH_IN)
        if of ~= ready_list or (state and byte(state) ~= DUE) or is_picked[id] then
          error(NOT_DUE)
        end
        if expires > now and (concurrency_group == '' or may_start(ready_list, concurrency_group)) then
          return put_back(ids, tasks, i, free, slot_of)
        end
        pass_over(id, join(state, task), ready_list, concurrency_group, expires <= now)
      end
      local is_over = #ids < size
      size = 2 * size
    until is_over or passed >= PASSED_OVER
  end

  local function may_prefetch(state, task, which, ready_list)
    local _, lost, _, attempt = unpack_bytes(CLAIM_READS, state)
    local before_last = which % 2 == 1 and attempt + 1 < unpack_bytes('<I4', task, MAX_IN)
    return prefetches[ready_list_parts(ready_list)] and lost == 0 and (which == ALL_ATTEMPTS or before_last)
  end

  -- The new state of a task that starts, up to REST_AT.
  local function head_of(id, state, ready_list, concurrency_group, expires)
    local flags, lost, fence, attempt = unpack_bytes(CLAIM_READS, state)
    if fence >= LAST_FENCE then
      error(NOT_DUE)
    end
    if concurrency_group ~= '' then
      run_in(concurrency_group, 1)
      groups_of_picked[#groups_of_picked + 1] = concurrency_group
    end
    if expires < NEVER then
      expiring[#expiring + 1] = id
    end
    if band(flags, HAS_PROGRESS) ~= 0 then
      call('HDEL', P .. 'progress', id)
      flags = flags - HAS_PROGRESS
    end
    of_ready_list[ready_list] = (of_ready_list[ready_list] or 0) + 1
    if attempt == 0 then
      first_ready[ready_list] = (first_ready[ready_list] or 0) + 1
      if band(flags, HAS_RUN_KEY) ~= 0 then
        local _, name = ready_list_parts(ready_list)
        call('HDEL', P .. 'run:' .. call('HGET', P .. 'run_key', id), name)
      end
    end
    return pack(HEAD, RUNNING, 0, 0, flags, lost, 0, fence + 1, attempt + 1, instance, now)
  end

  -- Most tasks are like the one before: new, in the same ready list, in no concurrency group, and without an expiry.
  local like

  -- Starts tasks that were taken. Answers whether one was passed over because it may not be started now.
  local function start(ids, ready_list_of)
    local k, passed_before, is_cut = #picked, passed, false
    local old, tasks = read_many('HMGET', 'state', ids), read_many('HMGET', 'task', ids)
    for i, task in ipairs(tasks) do
      local id, state = ids[i], old[i]
      local kind = like
      -- The task is in its ready list twice.
      if is_picked[id] then
        error(NOT_DUE)
      end
      if kind and not state and find(task, kind.words, PREFETCH_IN, true) == PREFETCH_IN
        and kind.ready_list == (ready_list_of[i] or kind.ready_list) then
        is_cut = is_cut_short
        needs_slot = not is_cut and k >= slots and not kind.may_prefetch
        if not is_cut and not needs_slot then
          local ready_list = kind.ready_list
          of_ready_list[ready_list], first_ready[ready_list] = of_ready_list[ready_list] + 1, first_ready[ready_list] + 1
        end
      else
        local which, expires, ready_list, concurrency_group, body_at = unpack_bytes(CLAIM_WORDS, task, PREFETCH_IN)
        if ready_list ~= (ready_list_of[i] or work[1]) or (state and byte(state) ~= DUE) then
          error(NOT_DUE)
        end
        if expires > now and (concurrency_group == '' or may_start(ready_list, concurrency_group)) then
          local may_wait = may_prefetch(state or NEW, task, which, ready_list)
          is_cut = is_cut_short
          needs_slot = not is_cut and k >= slots and not may_wait
          if not is_cut and not needs_slot then
            local head = head_of(id, state or NEW, ready_list, concurrency_group, expires)
            kind = {
              head = head, ready_list = ready_list, body_at = body_at, words = sub(task, PREFETCH_IN, body_at - 1),
              may_prefetch = may_wait, state = head .. sub(task, READY_LIST_IN, body_at - 1),
            }
            like = not state and expires == NEVER and concurrency_group == '' and kind or like
          end
        else
          kind = nil
          pass_over(id, join(state, task), ready_list, concurrency_group, expires <= now)
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
      local room, ids, ready_list_of = limit - #picked, {}, {}
      if frees_others then
        find_work()
      end
      narrow, is_cut_short, frees_others, cut_ready_list = {}, false, false, nil
      if room > 0 and #work == 1 then
        local slot = slot_of[ready_list_parts(work[1])]
        ids = take_from_one(work[1], math.min(free[slot], room), taken)
        free[slot] = free[slot] - #ids
      elseif room > 0 and #work > 1 then
        for _, ready_list in ipairs(work) do
          local slot = slot_of[ready_list_parts(ready_list)]
          narrow[slot] = free[slot] < room
        end
        ids, ready_list_of = take_from_many(work, free, slot_of, room, taken)
      end
      again = start(ids, ready_list_of)
      if cut_ready_list then
        cuts = cuts + 1
        skim(cut_ready_list)
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
    for ready_list, number in pairs(of_ready_list) do
      local queue = ready_list_parts(ready_list)
      count('D' .. queue, -number)
      count('R' .. queue, number)
      count('W' .. queue, -(first_ready[ready_list] or 0))
    end
    count('i' .. instance, #picked)
  end

  local is_sound, why = pcall(take)
  if not is_sound then
    undo(taken, passed_ids, picked, groups_of_picked)
    error(why)
  end
end
