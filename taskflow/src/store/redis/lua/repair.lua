-- Finds and repairs data that other programs damaged. A task is defined by `task` and `state`; all other data is
-- derived from them, except what is stored beside a task. A task whose `task` or `state` cannot be read is failed
-- with the reason; references to missing tasks are removed.

local found = {}

local function note(what)
  found[#found + 1] = what
end

local function hex(bytes)
  return (string.gsub(sub(bytes, 1, 40), '.', function(c) return string.format('%02x', byte(c)) end))
end

-- A text with its length before it, and where the next item begins; nothing if it is cut short.
local function word_at(blob, at)
  if #blob < at + 1 then
    return nil
  end
  local n = unpack_bytes('<I2', blob, at)
  if #blob < at + 1 + n then
    return nil
  end
  return sub(blob, at + 2, at + 1 + n), at + 2 + n
end

local function is_ready_list(ready_list)
  local n = string.match(ready_list, '^(%d+):')
  return n and #n < 10 and #n + 1 + tonumber(n) <= #ready_list
end

-- Ready list, concurrency group and where the body begins; nothing if they cannot be read. `at` is where the ready
-- list is.
local function words_in(blob, at)
  local ready_list, group_at = word_at(blob, at)
  if not ready_list or not is_ready_list(ready_list) then
    return nil
  end
  local concurrency_group, body_at = word_at(blob, group_at)
  if not concurrency_group or (concurrency_group ~= '' and not is_ready_list(concurrency_group)) then
    return nil
  end
  return ready_list, concurrency_group, body_at
end

local function is_body(body)
  local size, at = #body, 1
  if size < 8 then
    return false
  end
  at = at + 4 + unpack_bytes('<I4', body, at)
  if size < at + 3 then
    return false
  end
  local tags = unpack_bytes('<I4', body, at)
  at = at + 4
  for _ = 1, 2 * tags do
    if size < at + 3 then
      return false
    end
    at = at + 4 + unpack_bytes('<I4', body, at)
  end
  return at <= size + 1
end

local INSTANTS = { FINISHED, FENCE, STARTED, SEQ, RUN_AT, CREATED, SCHEDULED, EXPIRES }

-- What is wrong with a task; nothing if it is sound.
local function flaw(id, state, task)
  local ready_list, concurrency_group, body_at = words_in(task, READY_LIST_IN)
  if not ready_list then
    return 'what is kept of it is cut short or is not a task'
  end
  if state and (#state < REST_AT or sub(state, REST_AT) ~= sub(task, READY_LIST_IN, body_at - 1)) then
    return 'its state is cut short or is that of another task'
  end
  local t = { unpack_bytes(FORMAT, join(state, task)) }
  if t[STAGE] > REJECTED or t[STOP] > 1 then
    return 'its state cannot be read'
  end
  for i = 1, 8 do
    local number = t[INSTANTS[i]]
    if not (number <= FOR_EVER and number >= -FOR_EVER) then
      return 'it has a number that is out of range'
    end
  end
  if t[ATTEMPT] > 4294967294 or t[LOST] > 4294967294 or t[FENCE] >= LAST_FENCE then
    return 'it has a number that is out of range'
  end
  local body = sub(task, body_at)
  if body == '' then
    body = call('HGET', P .. 'body', id)
    if not body then
      return 'its arguments are gone'
    end
  end
  if not is_body(body) then
    return 'its policy, tags or arguments are cut short'
  end
end

-- Makes a damaged task a failed one, with the data that can be read. `ready_list` is where it was found, if that is
-- known. The caller has the counts computed anew afterwards.
local function fail_damaged(id, state, task, ready_list, why)
  local written = unpack_bytes('>I8', '\0\0' .. sub(id, 1, 6)) * 1000
  local t = {}
  for field = 1, FIELDS do
    t[field] = 0
  end
  t[STAGE], t[FINISHED], t[FENCE], t[HOLDER] = FAILED, now, FIRST_FENCE + 1, NOBODY
  t[RUN_AT], t[CREATED] = now, written <= now and written or now
  t[MAX], t[TRIES], t[EXPIRES] = 1, 1, NEVER
  local body
  if task then
    local of_task, concurrency_group, body_at = words_in(task, READY_LIST_IN)
    if of_task and not flaw(id, nil, task) then
      t = { unpack_bytes(FORMAT, join(nil, task)) }
      t[STAGE], t[FINISHED], t[FENCE] = FAILED, now, FIRST_FENCE + 1
      body = sub(task, body_at)
    end
    ready_list = of_task or ready_list
  end
  if state and #state >= FENCE_END then
    -- The run that may be under way can write nothing any more.
    local fence = unpack_bytes('<I8', state, FENCE_AT)
    t[FENCE] = fence < LAST_FENCE and fence + 1 or t[FENCE]
    ready_list = ready_list or words_in(state, REST_AT)
  end
  t[READY_LIST], t[GROUP_KEY], t.id = ready_list or '7:unknownunknown', '', id
  if body == nil then
    call('HDEL', P .. 'body', id)
    body = pack('<I4I4', 0, 0) .. 'null'
  end
  t.body = body
  for key, flag in pairs({ key = HAS_KEY, run_key = HAS_RUN_KEY }) do
    local value = call('HGET', P .. key, id)
    if value then
      t[FLAGS] = bor(t[FLAGS], flag)
      local holders = key == 'key' and P .. 'keys' or P .. 'run:' .. value
      local _, name = ready_list_parts(t[READY_LIST])
      local field = key == 'key' and value or name
      if call('HGET', holders, field) == id then
        call('HDEL', holders, field)
      end
    end
  end
  for _, key in ipairs({ 'result', 'progress', 'past' }) do
    call('HDEL', P .. key, id)
  end
  t[LOG_LINES], t[LOG_BYTES] = 0, 0
  call('UNLINK', P .. 'log:' .. id)
  call('HSET', P .. 'error', id, 'damaged in the store: ' .. why)
  t[FLAGS] = bor(t[FLAGS], HAS_ERROR)
  call('ZREM', P .. 'leases', id)
  call('ZREM', P .. 'expiring', id)
  call('SREM', P .. 'stopping', id)
  call('ZADD', P .. 'ended:' .. FAILED, '0', id)
  if not entry_of(id) then
    call('ZADD', P .. 'ids', '0', id)
  end
  local queue = ready_list_parts(t[READY_LIST])
  note_ends(queue, 1)
  over[#over + 1] = id
  save(t)
  note('t' .. id .. why)
end

-- Checks whether a sound task is in the right indexes, and puts it there.
local function put_right(id, state, task)
  if state and byte(state) == SUCCESS and band(byte(state, 4), bor(HAS_KEY, HAS_RUN_KEY)) == 0 then
    if not entry_of(id) then
      call('ZADD', P .. 'ids', '0', id)
    end
    return
  end
  local t = unpack_task(id, join(state, task))
  local stage, ready_list, concurrency_group = t[STAGE], t[READY_LIST], t[GROUP_KEY]
  local queue, name = ready_list_parts(ready_list)
  local flags, changed = t[FLAGS], false
  if has(flags, HAS_KEY) then
    local key = call('HGET', P .. 'key', id)
    if not key then
      t[FLAGS], changed = flags - HAS_KEY, true
    elseif stage <= SUCCESS then
      call('HSETNX', P .. 'keys', key, id)
    end
  end
  flags = t[FLAGS]
  if has(flags, HAS_RUN_KEY) then
    local key = call('HGET', P .. 'run_key', id)
    if not key then
      t[FLAGS], changed = flags - HAS_RUN_KEY, true
    elseif waits_for_first(t) and call('HSETNX', P .. 'run:' .. key, name, id) == 0
      and call('HGET', P .. 'run:' .. key, name) ~= id then
      call('HDEL', P .. 'run_key', id)
      t[FLAGS], changed = flags - HAS_RUN_KEY, true
    end
  end
  if stage == BLOCKED and not (concurrency_group ~= '' and call('ZSCORE', P .. turn_of(concurrency_group, name), place(t))
    and call('SISMEMBER', P .. 'names:' .. concurrency_group, name) == 1 and call('ZSCORE', P .. 'blocked:' .. queue, id)) then
    call('ZREM', P .. 'blocked:' .. queue, id)
    call('ZREM', P .. 'since:' .. queue, id)
    stage, changed = DUE, true
  elseif stage == BLOCKED then
    -- No claim has the limit 0, so the next one looks at all blocked tasks again.
    call('HSETNX', P .. 'blocked', queue, '0:0')
  elseif stage == LAPSED and t[EXPIRES] >= NEVER then
    stage, changed = DUE, true
  end
  t[STAGE] = stage
  if stage < HELD and t[EXPIRES] < NEVER then
    call('ZADD', P .. 'expiring', text(t[EXPIRES]), id)
  end
  if stage == DUE then
    call('ZADD', P .. 'due:' .. ready_list, -t[PRIORITY], place(t))
    call('SADD', P .. 'due', ready_list)
  elseif stage == LATER then
    call('ZADD', P .. 'later:' .. ready_list, text(t[RUN_AT]), place(t))
    call('ZADD', P .. 'later', 'LT', text(t[RUN_AT]), ready_list)
  elseif stage == HELD or stage == RUNNING then
    local score = tonumber(call('ZSCORE', P .. 'leases', id) or 'inf')
    if score > now + LONGEST_LEASE then
      -- The process that runs it renews it before that.
      call('ZADD', P .. 'leases', text(now + FOUND_LEASE), id)
    end
    if stage == RUNNING and t[STOP] == 1 then
      call('SADD', P .. 'stopping', id)
    end
  elseif stage > SUCCESS then
    call('ZADD', P .. 'ended:' .. stage, '0', id)
  end
  if not entry_of(id) then
    call('ZADD', P .. 'ids', '0', id)
  end
  if changed then
    save(t)
  end
end

-- Checks one task, wherever its id was found.
local function check(id, ready_list, task, state)
  if task == nil then
    task, state = call('HGET', P .. 'task', id), call('HGET', P .. 'state', id)
  end
  local why = not task and 'what is kept of it is gone; does the server evict keys? `maxmemory-policy` must be `noeviction`' or flaw(id, state, task)
  if why then
    fail_damaged(id, state, task, ready_list, why)
  end
  return not why
end

-- The stage of a sound task, and the joined task.
local function stage_now(id)
  local blob = read_tasks({ id })[1]
  return byte(blob), blob
end
