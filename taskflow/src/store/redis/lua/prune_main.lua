-- Deletes tasks that ended long ago. ARGV: notification, retention, the maximum number. Answers how many, and whether
-- there are more.
local last, deleted, looked_at, most = now - tonumber(ARGV[2]), 0, 0, tonumber(ARGV[3])

-- Successes that have at most a result beside their state, as most do. They are deleted together.
local plain, results, bodies = {}, {}, {}

local function forget_one(id, blob)
  local stage, _, _, flags = byte(blob, 1, 4)
  if stage ~= SUCCESS or band(flags, bnot(HAS_RESULT)) ~= 0 then
    forget(unpack_task(id, blob))
    return
  end
  local ready_list, _, body_at = unpack_bytes(WORDS, blob, LANE_AT)
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

-- Deletes some of the tasks that ended in a second. Answers those that ended in it, but not long enough ago.
local function prune(ids, second)
  local young = {}
  for i, blob in ipairs(read_tasks(ids)) do
    local id = ids[i]
    -- It may have run again, and ended later or not at all.
    local ended = blob and byte(blob) > RUNNING and unpack_bytes('<i8', blob, FINISHED_AT)
    if ended and math.floor(ended / 1000000) == second then
      if ended <= last then
        forget_one(id, blob)
        deleted = deleted + 1
      else
        young[#young + 1] = id
      end
    end
  end
  forget_plain()
  return young
end

local function prune_second(second)
  local list = P .. 'ended_in:' .. second
  while looked_at < most do
    local packed = call('LPOP', list)
    if not packed then
      call('ZREM', P .. 'ended', second)
      return
    end
    local n, left = math.floor(#packed / 16), most - looked_at
    if n > left then
      call('LPUSH', list, sub(packed, 16 * left + 1))
      n = left
    end
    local young = prune(parts(packed, 'c16', n), tonumber(second))
    if #young > 0 then
      -- The tasks after them are younger still.
      call('LPUSH', list, table.concat(young))
      return
    end
    looked_at = looked_at + n
  end
end

for _, second in ipairs(call('ZRANGEBYSCORE', P .. 'ended', '-inf', text(last / 1000000), 'LIMIT', 0, most)) do
  prune_second(second)
end
-- Removes the data of instances that have been gone for as long.
for _, list in ipairs({ 'there', 'gone' }) do
  for _, instance in ipairs(call('ZRANGEBYSCORE', P .. list, '-inf', text(last), 'LIMIT', 0, 100)) do
    call('ZREM', P .. list, instance)
    call('ZREM', P .. 'seen', instance)
    call('ZREM', P .. 'started', instance)
    call('HDEL', P .. 'instance', instance)
    call('HDEL', P .. 'signs', instance)
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
