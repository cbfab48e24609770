-- Concurrency groups: the tasks of one queue with one concurrency key. Claims limit how many of them run.
--
-- A due task is blocked if a claim finds it while its group runs as many tasks as it may. Blocked tasks never slow
-- down later claims. Whenever a task of the group leaves the due or running state, the next blocked task of each name
-- becomes due. So while any is blocked, one is due or runs, and the group is never stuck.

local function turn_of(concurrency_group, name)
  return 'turn:' .. #concurrency_group .. ':' .. concurrency_group .. name
end

-- How many tasks of a concurrency group run.
local function running_in(concurrency_group)
  return tonumber(call('HGET', P .. 'concurrency_groups', concurrency_group) or 0) + (concurrency_groups[concurrency_group] or 0)
end

-- Takes blocked tasks out of their turn.
local function take_back(concurrency_group, name, places)
  local turn = turn_of(concurrency_group, name)
  call_many('ZREM', turn, places)
  if call('EXISTS', P .. turn) == 0 then
    call('SREM', P .. 'names:' .. concurrency_group, name)
  end
end

local function forget_blocked(queue, ids)
  call_many('ZREM', 'blocked:' .. queue, ids)
  call_many('ZREM', 'since:' .. queue, ids)
end

-- Makes blocked tasks of a ready list due that were taken out of their turn. `due` has score and member of each.
local function make_due(ready_list, ids, due)
  local queue, states = ready_list_parts(ready_list), {}
  for i, blob in ipairs(read_tasks(ids)) do
    -- A damaged task is put into the ready list too: the claim that finds it has it repaired.
    if blob and #blob >= READY_LIST_AT + 4 then
      states[#states + 1], states[#states + 2] = ids[i], state_of(DUE, blob)
    end
  end
  call_many('ZADD', 'due:' .. ready_list, due)
  call('SADD', P .. 'due', ready_list)
  forget_blocked(queue, ids)
  call_many('HSET', 'state', states)
  count('A' .. queue, -#ids)
  count('D' .. queue, #ids)
end

-- Unblocks the next `n` tasks of each name of a concurrency group: possibly no running process knows the first name.
local function unblock_next(concurrency_group, n)
  local queue = ready_list_parts(concurrency_group)
  for _, name in ipairs(call('SMEMBERS', P .. 'names:' .. concurrency_group)) do
    local turn = turn_of(concurrency_group, name)
    local popped, ids, due = call('ZPOPMIN', P .. turn, n), {}, {}
    for i = 1, #popped, 2 do
      ids[#ids + 1] = sub(popped[i], 9)
      due[i], due[i + 1] = popped[i + 1], popped[i]
    end
    if call('EXISTS', P .. turn) == 0 then
      call('SREM', P .. 'names:' .. concurrency_group, name)
    end
    make_due(#queue .. ':' .. queue .. name, ids, due)
  end
end
