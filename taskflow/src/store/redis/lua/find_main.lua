-- Ids of matching tasks, newest or oldest first.
--
-- ARGV: notification, number of sources, sources, the order ('newest' or 'oldest'), where to begin (only ids beyond it
-- in this order; empty: at the first), the maximum number of ids from each source, the maximum number of tasks to look
-- at along each ordered source, stages ('1' or '0' for each), created from, created before, number of names, names,
-- number of queues, queues, number of tags, tags as they are in a body.
--
-- A source is 'ids' or 'ended:<stage>' (read along their order), or 'pending' or 'leases' (looked at completely,
-- answered in no order). Answers how many tasks were looked at, then for each source the id before which everything
-- has been seen in this order (empty: everything has), followed by the ids.
local at = 2

local function read_list()
  local n, list = tonumber(ARGV[at]), {}
  for i = 1, n do
    list[i] = ARGV[at + i]
  end
  at = at + n + 1
  return list
end

local function read_set()
  local list = read_list()
  local set = #list > 0 and {} or nil
  for _, word in ipairs(list) do
    set[word] = true
  end
  return set
end

local sources = read_list()
local is_oldest, start = ARGV[at] == 'oldest', ARGV[at + 1]
local most, enough, stages = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), ARGV[at + 4]
local from, to = tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6])
at = at + 7
local names, queues, tags = read_set(), read_set(), read_list()

local function has_tags(blob)
  local _, _, position = unpack_bytes(WORDS, blob, READY_LIST_AT)
  position = position + 4 + unpack_bytes('<I4', blob, position)
  local n, there
  n, position = unpack_bytes('<I4', blob, position)
  there = {}
  for _ = 1, n do
    local start = position
    _, _, position = unpack_bytes('<I4c0I4c0', blob, position)
    there[sub(blob, start, position - 1)] = true
  end
  for _, tag in ipairs(tags) do
    if not there[tag] then
      return false
    end
  end
  return true
end

local function is_meant(id, state, task)
  local stage, created = state and byte(state) or DUE, unpack_bytes('<i8', task, CREATED_IN)
  if stage > REJECTED then
    return true
  end
  if sub(stages, stage + 1, stage + 1) ~= '1' or created < from or created >= to then
    return false
  end
  local queue, name = ready_list_parts((unpack_bytes('<I2c0', task, READY_LIST_IN)))
  return (not names or names[name]) and (not queues or queues[queue])
    and (#tags == 0 or has_tags(with_body(id, join(state, task))))
end

local looked_at = 0

local function look(found, ids)
  looked_at = looked_at + #ids
  local states = read_many('HMGET', 'state', ids)
  for i, task in ipairs(read_many('HMGET', 'task', ids)) do
    if task then
      -- A task that cannot be read counts as a match: the caller fails it.
      local is_readable, meant = pcall(is_meant, ids[i], states[i], task)
      if meant or not is_readable then
        found[#found + 1] = ids[i]
      end
    end
  end
end

-- Members are ids, or end with one.
local function look_through(found, members)
  for start = 1, #members, 1000 do
    local ids = {}
    for i = start, math.min(start + 999, #members) do
      ids[#ids + 1] = sub(members[i], -16)
    end
    look(found, ids)
  end
end

-- Texts are not compared, because Lua compares them by the server's locale.
local function is_below(id, other)
  local a, b = { unpack_bytes('>I4I4I4I4', id) }, { unpack_bytes('>I4I4I4I4', other) }
  for i = 1, 4 do
    if a[i] ~= b[i] then
      return a[i] < b[i]
    end
  end
  return false
end

local function is_beyond_start(id)
  if is_oldest then
    return is_below(start, id)
  end
  return is_below(id, start)
end

-- Appends the ids of an entry that are beyond `start`. Answers whether its greatest id is.
local function ids_in(entry, ids)
  local is_near = start ~= '' and sub(entry, 1, SHARED) == sub(start, 1, SHARED)
  for at = 1, #entry, 16 do
    local id = sub(entry, at, at + 15)
    if not is_near or is_beyond_start(id) then
      ids[#ids + 1] = id
    end
  end
  return not is_near or is_beyond_start(sub(entry, 1, 16))
end

-- Entries have the order of their greatest ids, and their ids share a prefix. So oldest first, an entry can have smaller
-- ids than the one before it with the same prefix: the search stops only where the prefix changes.
local function look_along_oldest(found, source)
  local bottom, left = start == '' and '-' or '[' .. sub(start, 1, SHARED), enough
  local ids = {}
  repeat
    local entries = call('ZRANGE', P .. source, bottom, '+', 'BYLEX', 'LIMIT', 0, 101)
    for i = 1, math.min(#entries, 100) do
      ids_in(entries[i], ids)
      local next_entry = entries[i + 1]
      local is_end = next_entry and sub(next_entry, 1, SHARED) ~= sub(entries[i], 1, SHARED)
      if #ids >= 100 or not next_entry or (is_end and (#found > most or left <= #ids)) then
        look(found, ids)
        left, ids = left - #ids, {}
        if is_end and (#found > most or left <= 0) then
          found[1] = sub(next_entry, 1, SHARED) .. '\0\0\0\0\0\0\0\0\0\0'
          return
        end
      end
    end
    bottom = entries[101] and '[' .. entries[101]
  until not bottom
end

local function look_along(found, source)
  if is_oldest then
    return look_along_oldest(found, source)
  end
  -- An entry whose greatest id is not beyond `start` can have ids that are.
  local top, left = start == '' and '+' or '[' .. sub(start, 1, SHARED) .. BEHIND, enough
  local has_begun = false
  repeat
    local entries = call('ZRANGE', P .. source, top, '-', 'BYLEX', 'REV', 'LIMIT', 0, 101)
    local ids = {}
    for i = 1, math.min(#entries, 100) do
      has_begun = ids_in(entries[i], ids) or has_begun
      found[1] = sub(entries[i + 1] or '', 1, 16)
      if #ids >= 100 or i == #entries or i == 100 then
        look(found, ids)
        left, ids = left - #ids, {}
        -- Otherwise the next call would begin at the same entry again.
        if has_begun and (#found > most or left <= 0) then
          return
        end
      end
    end
    top = entries[101] and '[' .. entries[101]
  until not top
end

local answer = {}
for i, source in ipairs(sources) do
  local found = { '' }
  if source == 'leases' then
    look_through(found, call('ZRANGE', P .. 'leases', 0, -1))
  elseif source == 'pending' then
    for _, ready_list in ipairs(call('SMEMBERS', P .. 'due')) do
      look_through(found, call('ZRANGE', P .. 'due:' .. ready_list, 0, -1))
    end
    for _, ready_list in ipairs(call('ZRANGE', P .. 'later', 0, -1)) do
      look_through(found, call('ZRANGE', P .. 'later:' .. ready_list, 0, -1))
    end
    for _, queue in ipairs(call('HKEYS', P .. 'blocked')) do
      look_through(found, call('ZRANGE', P .. 'blocked:' .. queue, 0, -1))
    end
    -- Lapsed tasks are in none of the lists above, but among these.
    look_through(found, call('ZRANGEBYSCORE', P .. 'expiring', '-inf', text(now)))
  else
    look_along(found, source)
  end
  answer[i + 1] = found
end
answer[1] = looked_at
return answer
