-- Ids of the tasks that are meant, newest first.
--
-- ARGV: news, number of sources, sources, where to begin (smaller ids only; empty: at the newest), how many at most from
-- each source, how many to look at at most along each, stages ('1' or '0' for each), created from, created before, number of names,
-- names, number of queues, queues, number of tags, tags as they are in a body.
-- A source is 'ids' or 'ended:<stage>' (read along their order) or 'pending' or 'leases' (looked through, and answered
-- in no order). Answers with how many were looked at, then for each source with how far down everything has been seen
-- (empty: to the end), then the ids.
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
local before, most, enough, stages = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), ARGV[at + 3]
local from, to = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
at = at + 6
local names, queues, tags = read_set(), read_set(), read_list()

local function has_tags(blob)
  local _, _, position = unpack_bytes(WORDS, blob, LANE_AT)
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

local function is_meant(id, blob)
  local stage, created = string.byte(blob), unpack_bytes('<i8', blob, CREATED_AT)
  if sub(stages, stage + 1, stage + 1) ~= '1' or created < from or created >= to then
    return false
  end
  local queue, name = lane_parts(lane_of(blob))
  return (not names or names[name]) and (not queues or queues[queue])
    and (#tags == 0 or has_tags(with_body(id, blob)))
end

local looked_at = 0

-- Looks at some; answers the one at which `limit` were found.
local function look(found, ids, limit)
  looked_at = looked_at + #ids
  for i, blob in ipairs(read_many('HMGET', 'state', ids)) do
    if blob and is_meant(ids[i], blob) then
      found[#found + 1] = ids[i]
      if #found > limit then
        return ids[i]
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
    look(found, ids, math.huge)
  end
end

local function look_along(found, source)
  local top, left = before == '' and '+' or '(' .. before, enough
  repeat
    local wanted = math.min(left, 200)
    local ids = call('ZRANGE', P .. source, top, '-', 'BYLEX', 'REV', 'LIMIT', 0, wanted)
    left = left - #ids
    found[1] = look(found, ids, most) or (#ids == wanted and ids[wanted]) or ''
    top = '(' .. found[1]
  until found[1] == '' or #found > most or left <= 0
end

local answer = {}
for i, source in ipairs(sources) do
  local found = { '' }
  if source == 'leases' then
    look_through(found, call('ZRANGE', P .. 'leases', 0, -1))
  elseif source == 'pending' then
    for _, lane in ipairs(call('SMEMBERS', P .. 'due')) do
      look_through(found, call('ZRANGE', P .. 'due:' .. lane, 0, -1))
    end
    for _, lane in ipairs(call('ZRANGE', P .. 'later', 0, -1)) do
      look_through(found, call('ZRANGE', P .. 'later:' .. lane, 0, -1))
    end
    for _, queue in ipairs(call('HKEYS', P .. 'aside')) do
      look_through(found, call('ZRANGE', P .. 'aside:' .. queue, 0, -1))
    end
    -- Among these are those that a claim has passed over.
    look_through(found, call('ZRANGEBYSCORE', P .. 'expiring', '-inf', text(now)))
  else
    look_along(found, source)
  end
  answer[i + 1] = found
end
answer[1] = looked_at
return answer
