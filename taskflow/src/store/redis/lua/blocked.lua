-- How a claim handles tasks that it finds and does not start.

-- Blocks a task that was taken out of its ready list. `limit` is the key limit of this claim.
local function block(id, blob, ready_list, concurrency_group, limit)
  local queue, name = ready_list_parts(ready_list)
  local run_at, created = unpack_bytes('<i8i8', blob, RUN_AT_AT)
  local place = sub(blob, REST_AT, SEQ_END) .. id
  call('ZADD', P .. turn_of(concurrency_group, name), -unpack_bytes('<i2', blob, PRIORITY_AT), place)
  call('SADD', P .. 'names:' .. concurrency_group, name)
  call('ZADD', P .. 'blocked:' .. queue, call('HINCRBY', P .. 'meta', 'blocked_seq', 1), id)
  call('ZADD', P .. 'since:' .. queue, text(math.max(run_at, created)), id)
  -- The limit noted for earlier blocked tasks no longer matters when none of them is left.
  call(call('ZCARD', P .. 'blocked:' .. queue) == 1 and 'HSET' or 'HSETNX', P .. 'blocked', queue, text(limit) .. ':0')
  count('D' .. queue, -1)
  count('A' .. queue, 1)
  call('HSET', P .. 'state', id, state_of(BLOCKED, blob))
end

-- Marks a task that was taken out of its ready list as lapsed, because it has expired: no other claim finds it.
local function lapse(id, blob, ready_list, concurrency_group)
  local queue = ready_list_parts(ready_list)
  count('D' .. queue, -1)
  count('X' .. queue, 1)
  call('HSET', P .. 'state', id, state_of(LAPSED, blob))
  if concurrency_group ~= '' then
    unblock_next(concurrency_group, 1)
  end
end

-- Makes the first blocked tasks of a queue due, up to the one with number `last`.
local function release(queue, last)
  local ids = call('ZRANGEBYSCORE', P .. 'blocked:' .. queue, '-inf', last, 'LIMIT', 0, RELEASED)
  local turns, of_ready_list = {}, {}
  for i, blob in ipairs(read_tasks(ids)) do
    local ready_list, concurrency_group = unpack_bytes(WORDS, blob, READY_LIST_AT)
    local place = sub(blob, REST_AT, SEQ_END) .. ids[i]
    local turn = turns[concurrency_group .. ready_list] or { concurrency_group = concurrency_group, ready_list = ready_list, places = {} }
    turns[concurrency_group .. ready_list] = turn
    table.insert(turn.places, place)
    local tasks = of_ready_list[ready_list] or { ids = {}, due = {} }
    of_ready_list[ready_list] = tasks
    table.insert(tasks.ids, ids[i])
    table.insert(tasks.due, -unpack_bytes('<i2', blob, PRIORITY_AT))
    table.insert(tasks.due, place)
  end
  for _, turn in pairs(turns) do
    local _, name = ready_list_parts(turn.ready_list)
    take_back(turn.concurrency_group, name, turn.places)
  end
  for ready_list, tasks in pairs(of_ready_list) do
    make_due(ready_list, tasks.ids, tasks.due)
  end
  return #ids
end

-- Unblocks tasks that were blocked under another limit than this claim's (`limit_of` a queue; no entry: none).
-- Answers the queues in which more of them are left.
local function unblock_after_limit_change(slot_of, limit_of)
  local notes, more = call('HGETALL', P .. 'blocked'), {}
  for i = 1, #notes, 2 do
    local queue = notes[i]
    if slot_of[queue] then
      local now_limit = limit_of[queue] and text(limit_of[queue]) or ''
      local limit, last = string.match(notes[i + 1], '^(%d*):(%d+)$')
      if limit ~= now_limit then
        last = call('HGET', P .. 'meta', 'blocked_seq')
      end
      if last ~= '0' then
        more[queue] = release(queue, last) == RELEASED or nil
        if more[queue] then
          call('HSET', P .. 'blocked', queue, now_limit .. ':' .. last)
        elseif call('EXISTS', P .. 'blocked:' .. queue) == 1 then
          call('HSET', P .. 'blocked', queue, now_limit .. ':0')
        else
          call('HDEL', P .. 'blocked', queue)
        end
      end
    end
  end
  return more
end
