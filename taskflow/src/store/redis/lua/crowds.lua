-- Crowds: the tasks of one queue with one concurrency key, of which so many run at most as claims say.
--
-- A due task that a claim meets while as many of its crowd run is put aside, out of the way of all later claims. Whenever a
-- task of the crowd is no longer due or running, the next that was put aside, of each name, is due again: so while any is
-- put aside, one is due or runs, and the crowd is never stuck.

local function turn_of(crowd, name)
  return 'turn:' .. #crowd .. ':' .. crowd .. name
end

-- How many tasks of a crowd run.
local function running_in(crowd)
  return tonumber(call('HGET', P .. 'crowds', crowd) or 0) + (crowds[crowd] or 0)
end

-- Takes tasks that were put aside out of their turn.
local function take_back(crowd, name, places)
  local turn = turn_of(crowd, name)
  call_many('ZREM', turn, places)
  if call('EXISTS', P .. turn) == 0 then
    call('SREM', P .. 'names:' .. crowd, name)
  end
end

local function forget_aside(queue, ids)
  call_many('ZREM', 'aside:' .. queue, ids)
  call_many('ZREM', 'since:' .. queue, ids)
end

-- Makes tasks of a lane due that were put aside and are out of their turn. `due` has score and member of each.
local function make_due(lane, ids, due)
  local queue, states = lane_parts(lane), {}
  for i, blob in ipairs(read_tasks(ids)) do
    -- What is damaged comes into the lane too: the claim that meets it has it repaired.
    if blob and #blob >= LANE_AT + 4 then
      states[#states + 1], states[#states + 2] = ids[i], state_of(DUE, blob)
    end
  end
  call_many('ZADD', 'due:' .. lane, due)
  call('SADD', P .. 'due', lane)
  forget_aside(queue, ids)
  call_many('HSET', 'state', states)
  count('A' .. queue, -#ids)
  count('D' .. queue, #ids)
end

-- Lets the next `n` of a crowd be claimed: of each name, since nobody may be there who knows the first.
local function let_next(crowd, n)
  local queue = lane_parts(crowd)
  for _, name in ipairs(call('SMEMBERS', P .. 'names:' .. crowd)) do
    local turn = turn_of(crowd, name)
    local popped, ids, due = call('ZPOPMIN', P .. turn, n), {}, {}
    for i = 1, #popped, 2 do
      ids[#ids + 1] = sub(popped[i], 9)
      due[i], due[i + 1] = popped[i + 1], popped[i]
    end
    if call('EXISTS', P .. turn) == 0 then
      call('SREM', P .. 'names:' .. crowd, name)
    end
    make_due(#queue .. ':' .. queue .. name, ids, due)
  end
end
