-- What every script begins with: the clock, what a task is, and the ways of finding one.
--
-- KEYS[1] is the prefix of all keys, with the hash tag: one cluster slot holds everything of a namespace. ARGV[1] is
-- what to publish when the script has changed something; empty: nothing.
--
-- Keys, after the prefix:
--   state         hash  id → the state of a task, packed as below
--   body          hash  id → what only Rust reads: policy, tags, arguments
--   result, error, progress, past, key, run_key
--                 hash  id → what few tasks have; a flag in the state says whether to look
--   log:<id>      list  what a task logged
--   ids           zset  every id, all of score 0: in the order of ids
--   due:<lane>    zset  tasks that can be claimed; score -priority, member seq and id: the order of claims
--   due           set   lanes that may have such tasks
--   later:<lane>  zset  tasks that are not due; score run_at, member seq and id
--   later         zset  lanes that have such tasks; score the first run_at
--   leases        zset  runs and holds by the end of their lease
--   stopping      set   runs that were asked to stop
--   ended         zset  ended tasks by when they ended
--   ended:<stage> zset  those that ended other than well, in the order of ids
--   keys          hash  idempotency key with its name → who holds it
--   run:<key>     hash  name → who waits for its first attempt with that run key
--   counts        hash  letter and queue (or 'i' and instance) → how many
--   ticks         hash  schedule → its latest tick that was dealt with
--   instance, there, seen, gone
--                 hash and zsets: what is known of processes, and until when they are believed to live
--   seq, meta
--
-- A lane is a queue and a name, "<length of queue>:<queue><name>": names that nobody here knows are in nobody's way.
-- Numbers are exact up to 2^53: instants are microseconds.

local P, NEWS = KEYS[1], ARGV[1]
local call, sub, insert = redis.call, string.sub, table.insert
local pack, unpack_bytes = struct.pack, struct.unpack
local band, bor, bnot = bit.band, bit.bor, bit.bnot

local time = call('TIME')
local now = time[1] * 1000000 + time[2]

-- Stages. The first three are pending, those after RUNNING have ended.
local DUE, LATER, HELD, RUNNING, SUCCESS, FAILED, INTERRUPTED, CANCELLED = 0, 1, 2, 3, 4, 5, 6, 7
local LETTER = { [0] = 'D', 'L', 'H', 'R', 'S', 'F', 'I', 'C', 'J' }

-- Flags.
local HAS_KEY, HAS_RUN_KEY, HAS_ERROR, HAS_PROGRESS, HAS_PAST, HAS_LOG, HAS_SCHEDULED, HAS_RESULT =
  1, 2, 4, 8, 16, 32, 64, 128

-- The fields of a state: first those that every run changes, so that a run need not unpack the others.
local STAGE, STOP, OUTCOME, FLAGS, LOST, FINISHED, FENCE, ATTEMPT, HOLDER, STARTED = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
local RUN_AT, MAX, TRIES, CREATED, SEQ, SCHEDULED, LOG_LINES, LOG_BYTES, PRIORITY, SOURCE, LANE =
  11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21
local HEAD = '<BBBBI4i8I8I4c16i8'
local FORMAT = HEAD .. 'i8I4I4i8I8i8I4I4i2B'
local FIELDS, CREATED_AT, PRIORITY_AT, LANE_AT = 20, 69, 101, 104
local NOBODY = string.rep('\0', 16)
-- No instant is greater: every number up to here is exact.
local FOR_EVER = 9007199254740991

local function has(flags, flag)
  return band(flags, flag) ~= 0
end

local function later_by(length)
  return math.min(now + length, FOR_EVER)
end

-- Writes that are gathered, since one command with many arguments costs a fraction of many commands. Whoever reads what
-- may have been gathered flushes first.
local gathered, gathered_any = {}, false

local function gather(command, key, a, b)
  gathered_any = true
  local of_command = gathered[command]
  if not of_command then
    of_command = {}
    gathered[command] = of_command
  end
  local list = of_command[key]
  if not list then
    list = {}
    of_command[key] = list
  end
  local n = #list
  list[n + 1] = a
  if b then
    list[n + 2] = b
  end
end

-- A command with any number of arguments: Lua's stack holds some 8,000 values.
local function call_many(command, key, list)
  local n = #list
  for from = 1, n, 4000 do
    call(command, key, unpack(list, from, math.min(from + 3999, n)))
  end
end

local function flush()
  if not gathered_any then
    return
  end
  for _, command in ipairs({ 'HSET', 'ZREM', 'HDEL', 'SREM', 'SADD', 'ZADD' }) do
    for key, list in pairs(gathered[command] or {}) do
      call_many(command, P .. key, list)
    end
  end
  gathered, gathered_any = {}, false
end

-- The same for reading: one list of as many answers.
local function read_many(command, key, list)
  flush()
  local n = #list
  if n <= 4000 then
    return n == 0 and {} or call(command, P .. key, unpack(list))
  end
  local answers = {}
  for from = 1, n, 4000 do
    for _, answer in ipairs(call(command, P .. key, unpack(list, from, math.min(from + 3999, n)))) do
      answers[#answers + 1] = answer
    end
  end
  return answers
end

-- Numbers are kept as tasks move, not counted. What a script changes is written once, at its end.
local changes = {}

local function count(field, n)
  changes[field] = (changes[field] or 0) + n
end

local function counted(field)
  return (tonumber(call('HGET', P .. 'counts', field) or 0)) + (changes[field] or 0)
end

-- For the end of every script that writes.
local function commit()
  flush()
  for field, n in pairs(changes) do
    if n ~= 0 then
      call('HINCRBY', P .. 'counts', field, n)
    end
  end
  if NEWS ~= '' then
    call('PUBLISH', P .. 'news', NEWS)
  end
end

local lanes = {}

-- The queue and the name of a lane.
local function lane_parts(lane)
  local known = lanes[lane]
  if not known then
    local colon = string.find(lane, ':', 1, true)
    local length = tonumber(sub(lane, 1, colon - 1))
    known = { sub(lane, colon + 1, colon + length), sub(lane, colon + length + 1) }
    lanes[lane] = known
  end
  return known[1], known[2]
end

local function queue_of(lane)
  return (lane_parts(lane))
end

local function place(t)
  return pack('>I8', t[SEQ]) .. t.id
end

local function unpack_task(id, blob)
  local t = { unpack_bytes(FORMAT, blob) }
  t[LANE] = sub(blob, LANE_AT)
  t.id = id
  return t
end

-- A task, or nil.
local function load(id)
  flush()
  local blob = call('HGET', P .. 'state', id)
  return blob and unpack_task(id, blob)
end

local function save(t)
  gather('HSET', 'state', t.id, pack(FORMAT, unpack(t, 1, FIELDS)) .. t[LANE])
end

-- Keeps a text beside a task, or forgets it.
local function attach(t, flag, key, text)
  if text then
    gather('HSET', key, t.id, text)
    t[FLAGS] = bor(t[FLAGS], flag)
  elseif has(t[FLAGS], flag) then
    gather('HDEL', key, t.id)
    t[FLAGS] = band(t[FLAGS], bnot(flag))
  end
end

local function waits_for_first(t)
  return t[ATTEMPT] == 0 and t[STAGE] <= HELD
end

-- Takes a task out of everything `enter` put it in.
local function leave(t)
  flush()
  local stage, lane, id = t[STAGE], t[LANE], t.id
  local queue, name = lane_parts(lane)
  count(LETTER[stage] .. queue, -1)
  if stage == DUE then
    call('ZREM', P .. 'due:' .. lane, place(t))
  elseif stage == LATER then
    call('ZREM', P .. 'later:' .. lane, place(t))
    local first = call('ZRANGE', P .. 'later:' .. lane, 0, 0, 'WITHSCORES')
    if first[1] then
      call('ZADD', P .. 'later', first[2], lane)
    else
      call('ZREM', P .. 'later', lane)
    end
  elseif stage <= RUNNING then
    t.lease = call('ZSCORE', P .. 'leases', id)
    call('ZREM', P .. 'leases', id)
    if stage == RUNNING then
      count('i' .. t[HOLDER], -1)
      if t[STOP] == 1 then
        call('SREM', P .. 'stopping', id)
      end
    end
  else
    call('ZREM', P .. 'ended', id)
    if stage > SUCCESS then
      call('ZREM', P .. 'ended:' .. stage, id)
    end
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

-- Puts a task where it belongs, and saves it. What is held or runs has the end of its lease in `t.lease`. A task that
-- comes to wait for its first attempt again, when another has taken its run key meanwhile, loses that key: the younger
-- add replaced it.
local function enter(t)
  local stage, lane, id = t[STAGE], t[LANE], t.id
  local queue, name = lane_parts(lane)
  count(LETTER[stage] .. queue, 1)
  if stage == DUE then
    gather('ZADD', 'due:' .. lane, -t[PRIORITY], place(t))
    call('SADD', P .. 'due', lane)
  elseif stage == LATER then
    gather('ZADD', 'later:' .. lane, t[RUN_AT], place(t))
    call('ZADD', P .. 'later', 'LT', t[RUN_AT], lane)
  elseif stage <= RUNNING then
    gather('ZADD', 'leases', t.lease, id)
    if stage == RUNNING then
      count('i' .. t[HOLDER], 1)
      if t[STOP] == 1 then
        gather('SADD', 'stopping', id)
      end
    end
  else
    gather('ZADD', 'ended', t[FINISHED], id)
    if stage > SUCCESS then
      gather('ZADD', 'ended:' .. stage, 0, id)
    end
  end
  if has(t[FLAGS], HAS_KEY) and stage <= SUCCESS then
    call('HSET', P .. 'keys', call('HGET', P .. 'key', id), id)
  end
  if waits_for_first(t) then
    count('W' .. queue, 1)
    if has(t[FLAGS], HAS_RUN_KEY) then
      flush()
      if call('HSETNX', P .. 'run:' .. call('HGET', P .. 'run_key', id), name, id) == 0 then
        attach(t, HAS_RUN_KEY, 'run_key', nil)
      end
    end
  end
  save(t)
end

-- Forgets a task and all that is kept of it.
local function forget(t)
  leave(t)
  local flags = t[FLAGS]
  for key, flag in pairs({
    key = HAS_KEY, run_key = HAS_RUN_KEY, error = HAS_ERROR, progress = HAS_PROGRESS, past = HAS_PAST,
    result = HAS_RESULT,
  }) do
    if has(flags, flag) then
      gather('HDEL', key, t.id)
    end
  end
  if has(flags, HAS_LOG) then
    call('UNLINK', P .. 'log:' .. t.id)
  end
  gather('HDEL', 'state', t.id)
  gather('HDEL', 'body', t.id)
  gather('ZREM', 'ids', t.id)
end

-- Moves up to `limit` tasks of a lane that have come due.
local function promote_lane(lane, limit)
  local later = P .. 'later:' .. lane
  local found = call('ZRANGEBYSCORE', later, '-inf', now, 'LIMIT', 0, limit)
  local ids = {}
  for i, member in ipairs(found) do
    ids[i] = sub(member, 9)
  end
  for i, blob in ipairs(read_many('HMGET', 'state', ids)) do
    gather('HSET', 'state', ids[i], '\0' .. sub(blob, 2))
    gather('ZADD', 'due:' .. lane, -unpack_bytes('<i2', blob, PRIORITY_AT), found[i])
    gather('ZREM', 'later:' .. lane, found[i])
  end
  flush()
  local first = call('ZRANGE', later, 0, 0, 'WITHSCORES')
  if first[1] then
    call('ZADD', P .. 'later', first[2], lane)
  else
    call('ZREM', P .. 'later', lane)
  end
  if #found > 0 then
    call('SADD', P .. 'due', lane)
    local queue = queue_of(lane)
    count('L' .. queue, -#found)
    count('D' .. queue, #found)
  end
  return #found
end

-- Makes due what has come due: a thousand at most, the rest the next time.
local function promote()
  local left = 1000
  for _, lane in ipairs(call('ZRANGEBYSCORE', P .. 'later', '-inf', now, 'LIMIT', 0, 100)) do
    if left > 0 then
      left = left - promote_lane(lane, left)
    end
  end
end
