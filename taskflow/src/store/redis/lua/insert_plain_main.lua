-- Inserts new tasks that are all plain (see insert.lua), each a group of its own, as in most batches. For speed it
-- works without prelude.lua: each function that a script defines costs time.
--
-- ARGV: notification, instance, lease, number of classes, and for each its queue, its ready list, how it starts, the
-- score of its priority, the part of its tasks after the instants, and its ready list and concurrency group as in a
-- state; number of tasks, a thousand at most, their ids in one text, their bodies in one text, each with its length
-- before it, the class number of each task in one text (empty: all are of the first class), then entries for `ids`.
-- Answers as `insert_tasks`. Answers nothing, and has done nothing, if the case is not simple: one of the ids exists
-- already or comes twice, or one task is to run and others have to come due first.
local P, call, pack, split = KEYS[1], redis.call, struct.pack, struct.unpack

local at, starts, classes, queues = 5, false, {}, {}
for i = 1, tonumber(ARGV[4]) do
  local queue = ARGV[at]
  queues[queue] = queues[queue] or { name = queue, added = 0, ran = 0 }
  starts = starts or ARGV[at + 2] ~= '0'
  classes[i] = {
    queue = queues[queue], ready_list = ARGV[at + 1], start = ARGV[at + 2], score = ARGV[at + 3], tail = ARGV[at + 4],
    words = ARGV[at + 5], due = {}, n = 0,
  }
  at = at + 6
end
local n, numbers = tonumber(ARGV[at]), ARGV[at + 3]
local ids = { split(string.rep('c16', n), ARGV[at + 1]) }
ids[n + 1] = nil
local tasks = call('HMGET', P .. 'task', unpack(ids))
for i = 1, n do
  if tasks[i] then
    return false
  end
end

local now = call('TIME')
now = now[1] * 1000000 + now[2]
local head, until_
if starts then
  local first = call('ZRANGE', P .. 'later', 0, 0, 'WITHSCORES')[2]
  if first and tonumber(first) <= now then
    return false
  end
  head = pack(HEAD, RUNNING, 0, 0, 0, 0, 0, FIRST_FENCE, 1, ARGV[2], now)
  until_ = string.format('%.0f', math.min(now + ARGV[3], FOR_EVER))
  for name, q in pairs(queues) do
    local known = call('HMGET', P .. 'counts', 'D' .. name, 'P' .. name)
    q.is_idle, q.paused = tonumber(known[1] or 0) == 0, known[2]
  end
end

local bodies = { split('<' .. string.rep('I4c0', n), ARGV[at + 2]) }
local class_of = numbers ~= '' and { split('<' .. string.rep('I2', n), numbers) }
local seq, times = call('INCRBY', P .. 'seq', n) - n, pack('<i8i8', now, now)
for _, c in ipairs(classes) do
  c.tail = times .. c.tail
end
local states, leases, answers, ran, c = {}, {}, {}, 0, classes[1]
for i = 1, n do
  local id = ids[i]
  if class_of then
    c = classes[class_of[i]]
  end
  local seq8, q = pack('>I8', seq + i), c.queue
  if c.start ~= '0' and not q.paused and (c.start == '2' or (q.is_idle and q.added == 0)) then
    c.state = c.state or head .. c.words
    states[2 * ran + 1], states[2 * ran + 2] = id, c.state
    leases[2 * ran + 1], leases[2 * ran + 2] = until_, id
    ran, q.ran = ran + 1, q.ran + 1
    answers[i] = 'l'
  else
    local due, m = c.due, c.n
    due[2 * m + 1], due[2 * m + 2] = c.score, seq8 .. id
    c.n, q.added = m + 1, q.added + 1
    answers[i] = 'p'
  end
  tasks[2 * i - 1], tasks[2 * i] = id, seq8 .. c.tail .. bodies[i]
end
if call('HSET', P .. 'task', unpack(tasks, 1, 2 * n)) < n then
  call('HDEL', P .. 'task', unpack(ids))
  return false
end
for i = at + 4, #ARGV do
  call('ZADD', P .. 'ids', '0', ARGV[i])
end
if ran > 0 then
  call('HSET', P .. 'state', unpack(states))
  call('ZADD', P .. 'leases', unpack(leases))
  redis.pcall('HINCRBY', P .. 'counts', 'i' .. ARGV[2], ran)
end
for _, c in ipairs(classes) do
  if c.n > 0 then
    call('ZADD', P .. 'due:' .. c.ready_list, unpack(c.due))
    call('SADD', P .. 'due', c.ready_list)
  end
end
for name, q in pairs(queues) do
  if q.added > 0 then
    redis.pcall('HINCRBY', P .. 'counts', 'D' .. name, q.added)
    redis.pcall('HINCRBY', P .. 'counts', 'W' .. name, q.added)
  end
  if q.ran > 0 then
    redis.pcall('HINCRBY', P .. 'counts', 'R' .. name, q.ran)
  end
end
if ARGV[1] ~= '' then
  redis.pcall('PUBLISH', P .. 'notifications', ARGV[1])
end
return table.concat(answers)
