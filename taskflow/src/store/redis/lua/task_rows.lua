-- Functions for one task at a time, for everything that does not happen to thousands of tasks a second.

local function has(flags, flag)
  return band(flags, flag) ~= 0
end

local function place(t)
  return pack('>I8', t[SEQ]) .. t.id
end

local function unpack_task(id, blob)
  local t = { unpack_bytes(FORMAT, blob) }
  local body_at
  t[READY_LIST], t[GROUP_KEY], body_at = unpack_bytes(WORDS, blob, READY_LIST_AT)
  t.body = sub(blob, body_at)
  t.id = id
  return t
end

-- A task, or nil.
local function load(id)
  local task = call('HGET', P .. 'task', id)
  return task and unpack_task(id, join(call('HGET', P .. 'state', id), task))
end

local function save(t)
  local numbers = pack(FORMAT, unpack(t, 1, FIELDS))
  local words = pack('<I2', #t[READY_LIST]) .. t[READY_LIST] .. pack('<I2', #t[GROUP_KEY]) .. t[GROUP_KEY]
  call('HSET', P .. 'state', t.id, sub(numbers, 1, REST_AT - 1) .. words)
  call('HSET', P .. 'task', t.id, sub(numbers, REST_AT) .. words .. t.body)
end

-- Stores a text beside a task, or removes it.
local function attach(t, flag, key, value)
  if value then
    call('HSET', P .. key, t.id, value)
    t[FLAGS] = bor(t[FLAGS], flag)
  elseif has(t[FLAGS], flag) then
    call('HDEL', P .. key, t.id)
    t[FLAGS] = band(t[FLAGS], bnot(flag))
  end
end

local function waits_for_first(t)
  return t[ATTEMPT] == 0 and t[STAGE] <= HELD
end

-- Sets the body of a task. The caller saves the task.
local function set_body(t, body)
  if #body <= LONG_BODY then
    if t.body == '' then
      call('HDEL', P .. 'body', t.id)
    end
    t.body = body
  else
    call('HSET', P .. 'body', t.id, body)
    t.body = ''
  end
end

-- Takes a task out of everything that `enter` or a claim put it in. The caller then calls `enter` or `unblock_left_group`,
-- which unblock the next task of its concurrency group.
local function leave(t)
  local stage, ready_list, id, concurrency_group = t[STAGE], t[READY_LIST], t.id, t[GROUP_KEY]
  local queue, name = ready_list_parts(ready_list)
  count(letter(stage) .. queue, -1)
  t.left = concurrency_group ~= '' and (stage == DUE or stage == RUNNING) and concurrency_group or nil
  if stage < HELD and t[EXPIRES] < NEVER then
    call('ZREM', P .. 'expiring', id)
  end
  if stage == DUE then
    call('ZREM', P .. 'due:' .. ready_list, place(t))
  elseif stage == LATER then
    call('ZREM', P .. 'later:' .. ready_list, place(t))
    local first = call('ZRANGE', P .. 'later:' .. ready_list, 0, 0, 'WITHSCORES')
    if first[1] then
      call('ZADD', P .. 'later', first[2], ready_list)
    else
      call('ZREM', P .. 'later', ready_list)
    end
  elseif stage == BLOCKED then
    take_back(concurrency_group, name, { place(t) })
    forget_blocked(queue, { id })
  elseif stage == HELD or stage == RUNNING then
    t.lease = call('ZSCORE', P .. 'leases', id)
    call('ZREM', P .. 'leases', id)
    if stage == RUNNING then
      count('i' .. t[HOLDER], -1)
      if concurrency_group ~= '' then
        run_in(concurrency_group, -1)
      end
      if t[STOP] == 1 then
        call('SREM', P .. 'stopping', id)
      end
    end
  elseif stage > SUCCESS then
    call('ZREM', P .. 'ended:' .. stage, id)
  end
  if has(t[FLAGS], HAS_KEY) and stage <= SUCCESS then
    call('HDEL', P .. 'keys', call('HGET', P .. 'key', id))
  end
  if waits_for_first(t) then
    count('W' .. queue, -1)
    if has(t[FLAGS], HAS_RUN_KEY) then
      call('HDEL', P .. 'run:' .. call('HGET', P .. 'run_key', id), name)
    end
  end
end

-- Unblocks the next task of the concurrency group that a task has left, unless the task still runs in it.
local function unblock_left_group(t)
  local concurrency_group = t.left
  t.left = nil
  if concurrency_group and not (t[STAGE] == RUNNING and t[GROUP_KEY] == concurrency_group) then
    unblock_next(concurrency_group, 1)
  end
end

-- Puts a task into the indexes of its stage, and saves it. A held or running task has the end of its lease in
-- `t.lease`. A task that waits for its first attempt again loses its run key if another add has taken that key
-- meanwhile: the younger add replaced it.
local function enter(t)
  local stage, ready_list, id, concurrency_group = t[STAGE], t[READY_LIST], t.id, t[GROUP_KEY]
  local queue, name = ready_list_parts(ready_list)
  count(letter(stage) .. queue, 1)
  if stage < HELD and t[EXPIRES] < NEVER then
    call('ZADD', P .. 'expiring', text(t[EXPIRES]), id)
  end
  if stage == DUE then
    call('ZADD', P .. 'due:' .. ready_list, -t[PRIORITY], place(t))
    call('SADD', P .. 'due', ready_list)
  elseif stage == LATER then
    call('ZADD', P .. 'later:' .. ready_list, text(t[RUN_AT]), place(t))
    call('ZADD', P .. 'later', 'LT', text(t[RUN_AT]), ready_list)
  elseif stage <= RUNNING then
    call('ZADD', P .. 'leases', t.lease, id)
    if stage == RUNNING then
      count('i' .. t[HOLDER], 1)
      if concurrency_group ~= '' then
        run_in(concurrency_group, 1)
      end
      if t[STOP] == 1 then
        call('SADD', P .. 'stopping', id)
      end
    end
  else
    note_ends(queue, 1)
    over[#over + 1] = id
    if stage > SUCCESS then
      call('ZADD', P .. 'ended:' .. stage, '0', id)
    end
  end
  if has(t[FLAGS], HAS_KEY) and stage <= SUCCESS then
    call('HSET', P .. 'keys', call('HGET', P .. 'key', id), id)
  end
  if waits_for_first(t) then
    count('W' .. queue, 1)
    if has(t[FLAGS], HAS_RUN_KEY) then
      if call('HSETNX', P .. 'run:' .. call('HGET', P .. 'run_key', id), name, id) == 0 then
        attach(t, HAS_RUN_KEY, 'run_key', nil)
      end
    end
  end
  save(t)
  unblock_left_group(t)
end

-- The entry of `ids` that has this id: most often the first candidate.
local function entry_of(id)
  local from, last = 0, '[' .. sub(id, 1, SHARED) .. BEHIND
  repeat
    local entries = call('ZRANGE', P .. 'ids', '[' .. id, last, 'BYLEX', 'LIMIT', from, 1)
    for at = 1, #(entries[1] or ''), 16 do
      if sub(entries[1], at, at + 15) == id then
        return entries[1]
      end
    end
    from = from + 1
  until not entries[1]
end

-- Takes ids out of their entries.
local function forget_ids(ids)
  local gone, old, new = {}, {}, {}
  for _, id in ipairs(ids) do
    gone[id] = true
  end
  for _, id in ipairs(ids) do
    local entry = gone[id] and entry_of(id)
    if entry then
      local left = {}
      for at = 1, #entry, 16 do
        local one = sub(entry, at, at + 15)
        left[#left + 1] = not gone[one] and one or nil
        gone[one] = nil
      end
      old[#old + 1] = entry
      if #left > 0 then
        new[#new + 1], new[#new + 2] = '0', table.concat(left)
      end
    end
  end
  call_many('ZREM', 'ids', old)
  call_many('ZADD', 'ids', new)
end

-- Deletes a task and all its data.
local function forget(t)
  leave(t)
  t[STAGE] = CANCELLED
  unblock_left_group(t)
  local flags = t[FLAGS]
  for key, flag in pairs({
    key = HAS_KEY, run_key = HAS_RUN_KEY, error = HAS_ERROR, progress = HAS_PROGRESS, past = HAS_PAST,
    result = HAS_RESULT,
  }) do
    if has(flags, flag) then
      call('HDEL', P .. key, t.id)
    end
  end
  if has(flags, HAS_LOG) then
    call('UNLINK', P .. 'log:' .. t.id)
  end
  call('HDEL', P .. 'state', t.id)
  call('HDEL', P .. 'task', t.id)
  if t.body == '' then
    call('HDEL', P .. 'body', t.id)
  end
  forget_ids({ t.id })
end
