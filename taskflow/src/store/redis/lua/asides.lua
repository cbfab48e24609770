-- What a claim does with tasks that it meets and does not start.

-- Puts a task aside that is out of its lane, under that limit.
local function put_aside(id, blob, lane, crowd, limit)
  local queue, name = lane_parts(lane)
  local run_at, created = unpack_bytes('<i8i8', blob, RUN_AT_AT)
  local place = sub(blob, REST_AT, SEQ_END) .. id
  call('ZADD', P .. turn_of(crowd, name), -unpack_bytes('<i2', blob, PRIORITY_AT), place)
  call('SADD', P .. 'names:' .. crowd, name)
  call('ZADD', P .. 'aside:' .. queue, call('HINCRBY', P .. 'meta', 'asides', 1), id)
  call('ZADD', P .. 'since:' .. queue, text(math.max(run_at, created)), id)
  -- What was noted for others does not hold when there are none of them any more.
  call(call('ZCARD', P .. 'aside:' .. queue) == 1 and 'HSET' or 'HSETNX', P .. 'aside', queue, text(limit) .. ':0')
  count('D' .. queue, -1)
  count('A' .. queue, 1)
  call('HSET', P .. 'state', id, state_of(ASIDE, blob))
end

-- Marks a task that is out of its lane since its time to start is over: no other claim meets it.
local function lapse(id, blob, lane, crowd)
  local queue = lane_parts(lane)
  count('D' .. queue, -1)
  count('X' .. queue, 1)
  call('HSET', P .. 'state', id, state_of(LAPSED, blob))
  if crowd ~= '' then
    let_next(crowd, 1)
  end
end

-- Makes the first tasks due that were put aside in a queue, up to the one of that number.
local function release(queue, last)
  local ids = call('ZRANGEBYSCORE', P .. 'aside:' .. queue, '-inf', last, 'LIMIT', 0, RELEASED)
  local turns, of_lane = {}, {}
  for i, blob in ipairs(read_tasks(ids)) do
    local lane, crowd = unpack_bytes(WORDS, blob, LANE_AT)
    local place = sub(blob, REST_AT, SEQ_END) .. ids[i]
    local turn = turns[crowd .. lane] or { crowd = crowd, lane = lane, places = {} }
    turns[crowd .. lane] = turn
    table.insert(turn.places, place)
    local tasks = of_lane[lane] or { ids = {}, due = {} }
    of_lane[lane] = tasks
    table.insert(tasks.ids, ids[i])
    table.insert(tasks.due, -unpack_bytes('<i2', blob, PRIORITY_AT))
    table.insert(tasks.due, place)
  end
  for _, turn in pairs(turns) do
    local _, name = lane_parts(turn.lane)
    take_back(turn.crowd, name, turn.places)
  end
  for lane, tasks in pairs(of_lane) do
    make_due(lane, tasks.ids, tasks.due)
  end
  return #ids
end

-- Where tasks were put aside under another limit than this claim's (`limit_of` a queue; no entry: none), makes them due
-- again. Answers the queues in which there are more of them.
local function release_asides(slot_of, limit_of)
  local notes, more = call('HGETALL', P .. 'aside'), {}
  for i = 1, #notes, 2 do
    local queue = notes[i]
    if slot_of[queue] then
      local now_limit = limit_of[queue] and text(limit_of[queue]) or ''
      local limit, last = string.match(notes[i + 1], '^(%d*):(%d+)$')
      if limit ~= now_limit then
        last = call('HGET', P .. 'meta', 'asides')
      end
      if last ~= '0' then
        more[queue] = release(queue, last) == RELEASED or nil
        if more[queue] then
          call('HSET', P .. 'aside', queue, now_limit .. ':' .. last)
        elseif call('EXISTS', P .. 'aside:' .. queue) == 1 then
          call('HSET', P .. 'aside', queue, now_limit .. ':0')
        else
          call('HDEL', P .. 'aside', queue)
        end
      end
    end
  end
  return more
end
