-- Crowds: the tasks of one queue with one concurrency key, of which so many run at most as claims say.
--
-- A due task that a claim meets while as many of its concurrency group run is blocked, out of the way of all later claims. Whenever a
-- task of the concurrency group is no longer due or running, the next that was blocked, of each name, is due again: so while any is
-- blocked, one is due or runs, and the concurrency group is never stuck.

local function turn_of(concurrency_group, name)
  return 'turn:' .. #concurrency_group .. ':' .. concurrency_group .. name
end

-- How many tasks of a concurrency group run.
local function running_in(concurrency_group)
  return tonumber(call('HGET', P .. 'concurrency_groups', concurrency_group) or 0) + (concurrency_groups[concurrency_group] or 0)
end

-- Takes tasks that were blocked out of their turn.
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

-- Makes tasks of a ready list due that were blocked and are out of their turn. `due` has score and member of each.
local function make_due(ready_list, ids, due)
  local queue, states = ready_list_parts(ready_list), {}
  for i, blob in ipairs(read_tasks(ids)) do
    -- What is damaged comes into the ready list too: the claim that meets it has it repaired.
    if blob and #blob >= LANE_AT + 4 then
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

-- Lets the next `n` of a concurrency group be claimed: of each name, since nobody may be there who knows the first.
local function let_next(concurrency_group, n)
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
