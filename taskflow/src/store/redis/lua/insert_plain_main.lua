-- Keeps new tasks that are all plain (see insert.lua), each a group of its own: most batches, and they cost little.
--
-- ARGV: news, instance, lease, number of classes, and of each its lane, how it starts, the score of its priority, and
-- the begin and the end of its states while it waits; then for each task its id, its class and its body. Answers as
-- `insert_tasks`; with nothing, and nothing done, if one of the ids is there already.
local classes, queues, at = {}, {}, 5
for i = 1, tonumber(ARGV[4]) do
  local queue = lane_parts(ARGV[at])
  queues[queue] = queues[queue] or { name = queue, added = 0 }
  classes[tostring(i)] = {
    lane = ARGV[at], start = ARGV[at + 1], score = ARGV[at + 2], head = ARGV[at + 3], tail = ARGV[at + 4],
    queue = queues[queue], due = {}, n = 0, ran = 0,
  }
  at = at + 5
end

local ids, n, last = {}, 0, #ARGV
for i = at, last, 3 do
  ids[n + 1], ids[n + 2] = '0', ARGV[i]
  n = n + 2
end
local added = 0
for from = 1, n, 4000 do
  added = added + call('ZADD', P .. 'ids', 'NX', unpack(ids, from, math.min(from + 3999, n)))
end
if added * 2 < n then
  for i = 2, n, 2 do
    if call('HEXISTS', P .. 'state', ids[i]) == 0 then
      call('ZREM', P .. 'ids', ids[i])
    end
  end
  return false
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

local seq = call('INCRBY', P .. 'seq', n / 2) - n / 2
local times, states, leases, answers, k, ran = pack('<i8i8', now, now), {}, {}, {}, 0, 0
for i = at, last, 3 do
  local id, c = ARGV[i], classes[ARGV[i + 1]]
  seq = seq + 1
  local seq8 = pack('>I8', seq)
  local q, blob = c.queue, nil
  if c.start ~= '0' and not q.due then
    look_at(q)
  end
  if c.start ~= '0' and not q.paused and (c.start == '2' or q.due + q.added == 0) then
    blob = running_head .. seq8 .. times .. c.tail .. ARGV[i + 2]
    leases[2 * ran + 1], leases[2 * ran + 2] = until_, id
    ran = ran + 1
    c.ran = c.ran + 1
    answers[k + 1] = 'l'
  else
    blob = c.head .. seq8 .. times .. c.tail .. ARGV[i + 2]
    local due, m = c.due, c.n
    due[2 * m + 1], due[2 * m + 2] = c.score, seq8 .. id
    c.n, q.added = m + 1, q.added + 1
    answers[k + 1] = 'p'
  end
  states[2 * k + 1], states[2 * k + 2] = id, blob
  k = k + 1
end
call_many('HSET', 'state', states)
if ran > 0 then
  call_many('ZADD', 'leases', leases)
  count('i' .. ARGV[2], ran)
end
for _, c in pairs(classes) do
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
