-- Deletes tasks that ended longer ago than their retention, and the data of instances that have been gone for longer than the
-- longest retention. ARGV: notification, how many tasks at most, the retention of each stage from SUCCESS on. Answers how
-- many tasks it deleted, and whether there may be more.
local most, deleted, looked_at = tonumber(ARGV[2]), 0, 0
-- Up to when the tasks of each stage must have ended; and the latest and the earliest of these.
local last, latest, earliest = {}, nil, nil
for stage = SUCCESS, REJECTED do
  last[stage] = now - tonumber(ARGV[3 + stage - SUCCESS])
  latest = math.max(latest or last[stage], last[stage])
  earliest = math.min(earliest or last[stage], last[stage])
end

-- Successes that have at most a result beside their state, as most do. They are deleted together.
local plain, results, bodies = {}, {}, {}

local function forget_one(id, blob)
  local stage, _, _, flags = byte(blob, 1, 4)
  if stage ~= SUCCESS or band(flags, bnot(HAS_RESULT)) ~= 0 then
    forget(unpack_task(id, blob))
    return
  end
  local ready_list, _, body_at = unpack_bytes(WORDS, blob, READY_LIST_AT)
  count('S' .. ready_list_parts(ready_list), -1)
  plain[#plain + 1] = id
  if flags ~= 0 then
    results[#results + 1] = id
  end
  if body_at > #blob then
    bodies[#bodies + 1] = id
  end
end

local function forget_plain()
  call_many('HDEL', 'task', plain)
  call_many('HDEL', 'state', plain)
  call_many('HDEL', 'result', results)
  call_many('HDEL', 'body', bodies)
  forget_ids(plain)
  plain, results, bodies = {}, {}, {}
end

-- Moves tasks of one stage that are kept for longer to the seconds of that stage, so that the next call does not find them
-- among the others.
local function keep(stage, ids, second)
  local suffix = text(stage)
  if call('RPUSH', P .. 'kept_in:' .. suffix .. ':' .. second, table.concat(ids)) == 1 then
    call('ZADD', P .. 'kept:' .. suffix, second, second)
  end
end

-- Deletes those of these tasks that ended in this second and long enough ago. Answers those that ended in it, but not
-- long enough ago. `of`: only tasks of that stage, which have been kept.
local function prune(ids, second, of)
  local young, kept = {}, {}
  for i, blob in ipairs(read_tasks(ids)) do
    local id, stage = ids[i], blob and byte(blob)
    -- It may have run again, and ended later or not at all.
    local ended = blob and stage > RUNNING and unpack_bytes('<i8', blob, FINISHED_AT)
    if ended and text(math.floor(ended / 1000000)) == second and (of or stage) == stage then
      if ended <= last[stage] then
        forget_one(id, blob)
        deleted = deleted + 1
      elseif of or ended > latest then
        young[#young + 1] = id
      else
        kept[stage] = kept[stage] or {}
        table.insert(kept[stage], id)
      end
    end
  end
  forget_plain()
  for stage, of_stage in pairs(kept) do
    keep(stage, of_stage, second)
  end
  return young
end

local function prune_second(seconds, list, second, of)
  while looked_at < most do
    local packed = call('LPOP', list)
    if not packed then
      call('ZREM', seconds, second)
      return
    end
    local n, left = math.floor(#packed / 16), most - looked_at
    if n > left then
      call('LPUSH', list, sub(packed, 16 * left + 1))
      n = left
    end
    local young = prune(parts(packed, 'c16', n), second, of)
    if #young > 0 then
      -- The tasks after them are younger still.
      call('LPUSH', list, table.concat(young))
      return
    end
    looked_at = looked_at + n
  end
end

local function prune_seconds(seconds, lists, until_then, of)
  local old = call('ZRANGEBYSCORE', seconds, '-inf', text(until_then / 1000000), 'LIMIT', 0, most)
  for _, second in ipairs(old) do
    prune_second(seconds, lists .. second, second, of)
  end
end

prune_seconds(P .. 'ended', P .. 'ended_in:', latest)
for stage = SUCCESS, REJECTED do
  prune_seconds(P .. 'kept:' .. text(stage), P .. 'kept_in:' .. text(stage) .. ':', last[stage], stage)
end
-- Removes the data of instances that have been gone for longer than the longest retention.
for _, list in ipairs({ 'there', 'gone' }) do
  for _, instance in ipairs(call('ZRANGEBYSCORE', P .. list, '-inf', text(earliest), 'LIMIT', 0, 100)) do
    call('ZREM', P .. list, instance)
    call('ZREM', P .. 'seen', instance)
    call('ZREM', P .. 'started', instance)
    call('HDEL', P .. 'instance', instance)
    call('HDEL', P .. 'liveness', instance)
    call('DEL', P .. 'claim:' .. instance)
  end
end
commit()
-- Removes counts that are zero, and given-up claims that will hardly arrive any more.
local numbers = call('HGETALL', P .. 'counts')
for i = 1, #numbers, 2 do
  local field, number = numbers[i], numbers[i + 1]
  if number == '0' or (sub(field, 1, 1) == 'V' and tonumber(number) < now - 3600000000) then
    call('HDEL', P .. 'counts', field)
  end
end
return { deleted, looked_at >= most and 1 or 0 }
