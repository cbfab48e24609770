-- Keeps new tasks that are all plain (see insert.lua), each a group of its own: most batches, and they cost little.
--
-- ARGV: news, instance, lease, number of classes, and of each its lane, how it starts, the score of its priority, and
-- what stands in its tasks behind the instants; number of tasks, their ids in one text, their bodies in one text, each
-- with its length before it, the number of each one's class in one text (empty: all are of the first), then entries for
-- `ids`. Answers as `insert_tasks`; with nothing, and nothing done, if one of the ids is there already or comes twice.
local times, classes, queues, at = pack('<i8i8', now, now), {}, {}, 5
for i = 1, tonumber(ARGV[4]) do
  local queue = lane_parts(ARGV[at])
  queues[queue] = queues[queue] or { name = queue, added = 0 }
  classes[i] = {
    lane = ARGV[at], start = ARGV[at + 1], score = ARGV[at + 2], tail = times .. ARGV[at + 3],
    words = sub(ARGV[at + 3], END_WORDS),
    queue = queues[queue], due = {}, n = 0, ran = 0,
  }
  at = at + 4
end

local n = tonumber(ARGV[at])
local ids, bodies = parts(ARGV[at + 1], 'c16', n), parts(ARGV[at + 2], 'I4c0', n)
local class_of = ARGV[at + 3] ~= '' and parts(ARGV[at + 3], 'I2', n)
for _, there in ipairs(read_many('HMGET', 'task', ids)) do
  if there then
    return false
  end
end

-- Who wants to run from the start asks what waits in its queue.
local running_head, until_
local function look_at(q)
  if not running_head then
    promote()
    running_head = pack(HEAD, RUNNING, 0, 0, 0, 0, 0, FIRST_FENCE, 1, ARGV[2], now)
    until_ = text(later_by(tonumber(ARGV[3])))
  end
  local stored = call('HMGET', P .. 'counts', 'D' .. q.name, 'P' .. q.name)
  q.due, q.paused = (stored[1] or 0) + (changes['D' .. q.name] or 0), stored[2]
end

local seq = call('INCRBY', P .. 'seq', n) - n
local tasks, states, leases, answers, ran, c = {}, {}, {}, {}, 0, classes[1]
for i = 1, n do
  local id = ids[i]
  if class_of then
    c = classes[class_of[i]]
  end
  local seq8, q = pack('>I8', seq + i), c.queue
  if c.start ~= '0' and not q.due then
    look_at(q)
  end
  if c.start ~= '0' and not q.paused and (c.start == '2' or q.due + q.added == 0) then
    c.running = c.running or running_head .. c.words
    states[2 * ran + 1], states[2 * ran + 2] = id, c.running
    leases[2 * ran + 1], leases[2 * ran + 2] = until_, id
    ran, c.ran = ran + 1, c.ran + 1
    answers[i] = 'l'
  else
    local due, m = c.due, c.n
    due[2 * m + 1], due[2 * m + 2] = c.score, seq8 .. id
    c.n, q.added = m + 1, q.added + 1
    answers[i] = 'p'
  end
  tasks[2 * i - 1], tasks[2 * i] = id, seq8 .. c.tail .. bodies[i]
end
if call_many('HSET', 'task', tasks) < n then
  call_many('HDEL', 'task', ids)
  return false
end
local entries = {}
for i = at + 4, #ARGV do
  entries[#entries + 1] = '0'
  entries[#entries + 1] = ARGV[i]
end
call_many('ZADD', 'ids', entries)
if ran > 0 then
  call_many('HSET', 'state', states)
  call_many('ZADD', 'leases', leases)
  count('i' .. ARGV[2], ran)
end
for _, c in ipairs(classes) do
  local queue = c.queue.name
  if c.n > 0 then
    call_many('ZADD', 'due:' .. c.lane, c.due)
    call('SADD', P .. 'due', c.lane)
    count('D' .. queue, c.n)
    count('W' .. queue, c.n)
  end
  if c.ran > 0 then
    count('R' .. queue, c.ran)
  end
end
commit()
return table.concat(answers)
