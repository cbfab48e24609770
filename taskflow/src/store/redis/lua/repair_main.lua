-- One step of a repair. ARGV: notification, the step, its object, a cursor, the maximum number of entries. Answers
-- with the next cursor ('0': the step is done), and what was found: 't', the id of a task that has failed by it, and
-- why; or '!' and what was wrong; or 'd', 'l' or 'a' and what to check next; or '=' and what was counted.
local step, of, cursor, most = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local steps = {}

-- Members of a sorted set, from a cursor on, with their scores.
local function scan(command, key)
  local some = call(command, P .. key, cursor, 'COUNT', most)
  cursor = some[1]
  return some[2]
end

local function take_out(key, member, command)
  call(command or 'ZREM', P .. key, member)
  note('!' .. key .. ' referred to ' .. hex(member) .. ', which does not belong there')
end

local function integers_only(key, fields)
  for _, field in ipairs(fields) do
    local value = call('HGET', P .. key, field)
    if value and not string.match(value, '^-?%d+$') then
      take_out(key, field, 'HDEL')
    end
  end
end

-- Checks the single keys. Reading each renames a key of another type.
function steps.keys()
  for _, key in ipairs({ 'task', 'state', 'body', 'result', 'error', 'progress', 'past', 'key', 'run_key', 'blocked', 'concurrency_groups',
    'starts', 'keys', 'counts', 'asked', 'instance', 'meta', 'liveness' }) do
    call('HEXISTS', P .. key, '')
  end
  for _, key in ipairs({ 'ids', 'later', 'leases', 'expiring', 'ended', 'there', 'seen', 'started', 'gone', 'schedules',
    'ended:7', 'ended:8', 'ended:9', 'ended:10', 'kept:6', 'kept:7', 'kept:8', 'kept:9', 'kept:10', 'schedule_changes',
    'schedule_removals' }) do
    call('ZCARD', P .. key)
  end
  call('SCARD', P .. 'due')
  call('SCARD', P .. 'stopping')
  integers_only('meta', { 'schema', 'blocked_seq' })
  for _, key in ipairs({ 'seq', 'schedule_version' }) do
    local number = call('GET', P .. key)
    if number and (not string.match(number, '^%d+$') or tonumber(number) > FOR_EVER / 2) then
      -- Greater than every number before.
      call('SET', P .. key, text(now))
      note('!' .. key .. ' was no number')
    end
  end
  local starts = call('HGETALL', P .. 'starts')
  for i = 1, #starts, 2 do
    if #starts[i + 1] % 16 ~= 0 then
      take_out('starts', starts[i], 'HDEL')
    end
  end
  local blocked = call('HGETALL', P .. 'blocked')
  for i = 1, #blocked, 2 do
    if not string.match(blocked[i + 1], '^%d*:%d+$') then
      call('HSET', P .. 'blocked', blocked[i], '0:0')
      note('!blocked of a queue could not be read')
    end
  end
  for _, name in ipairs(call('ZRANGE', P .. 'schedules', 0, -1)) do
    call('HEXISTS', P .. 'schedule:' .. name, '')
    integers_only('schedule:' .. name, { 'tick', 'start', 'declared_since', 'skipped', 'last_skipped' })
    if call('HEXISTS', P .. 'schedule:' .. name, 'declared_since') == 0 then
      call('HDEL', P .. 'schedule:' .. name, 'declared')
    end
  end
  for _, key in ipairs({ 'there', 'seen', 'started', 'gone' }) do
    for _, member in ipairs(call('ZRANGE', P .. key, 0, -1)) do
      if #member ~= 16 then
        take_out(key, member)
      end
    end
  end
  cursor = '0'
end

-- Answers the existing ready lists, and the queues that may have blocked tasks.
function steps.ready_lists()
  for _, ready_list in ipairs(call('SMEMBERS', P .. 'due')) do
    if is_ready_list(ready_list) then
      note('d' .. ready_list)
    else
      take_out('due', ready_list, 'SREM')
    end
  end
  for _, ready_list in ipairs(call('ZRANGE', P .. 'later', 0, -1)) do
    if is_ready_list(ready_list) then
      note('l' .. ready_list)
    else
      take_out('later', ready_list)
    end
  end
  for _, queue in ipairs(call('HKEYS', P .. 'blocked')) do
    note('a' .. queue)
  end
  cursor = '0'
end

-- Checks tasks of a ready list, which must be in this stage (due or later). `members` alternates with their scores.
local function look_at_ready_list(key, ready_list, stage, members)
  for i = 1, #members, 2 do
    local member = members[i]
    local id = sub(member, -16)
    local fits = false
    if #member == 24 and check(id, ready_list) then
      local is, blob = stage_now(id)
      local t = unpack_task(id, blob)
      fits = is == stage and t[READY_LIST] == ready_list and place(t) == member
      local score = stage == DUE and -t[PRIORITY] or t[RUN_AT]
      if fits and tonumber(members[i + 1]) ~= score then
        call('ZADD', P .. key, text(score), member)
      end
    end
    if not fits then
      take_out(key, member)
    end
  end
end

local function look_at_later(members)
  look_at_ready_list('later:' .. of, of, LATER, members)
  local first = call('ZRANGE', P .. 'later:' .. of, 0, 0, 'WITHSCORES')
  if first[1] then
    call('ZADD', P .. 'later', first[2], of)
  else
    call('ZREM', P .. 'later', of)
  end
end

function steps.due()
  look_at_ready_list('due:' .. of, of, DUE, scan('ZSCAN', 'due:' .. of))
end

function steps.later()
  look_at_later(scan('ZSCAN', 'later:' .. of))
end

-- Checks the tasks that claims and promotions meet first.
function steps.first_due()
  look_at_ready_list('due:' .. of, of, DUE, call('ZRANGE', P .. 'due:' .. of, 0, most - 1, 'WITHSCORES'))
  cursor = '0'
end

function steps.first_later()
  look_at_later(call('ZRANGE', P .. 'later:' .. of, 0, most - 1, 'WITHSCORES'))
  cursor = '0'
end

-- Checks sorted sets of ids: each task must be in one of these stages.
local function look_at_ids(key, from, to, members)
  members = members or scan('ZSCAN', key)
  for i = 1, #members, 2 do
    local id = members[i]
    local state = #id == 16 and call('HGET', P .. 'state', id)
    local task = #id == 16 and call('HGET', P .. 'task', id)
    local fits = false
    -- If both parts are missing, nothing says what the task was.
    if (task or state) and check(id) then
      local stage = stage_now(id)
      fits = stage >= from and stage <= to
    end
    if not fits then
      take_out(key, id)
    end
  end
end

function steps.leases()
  look_at_ids('leases', HELD, RUNNING)
end

function steps.expiring()
  look_at_ids('expiring', DUE, LAPSED)
end

-- Checks the tasks that recoveries meet first.
function steps.first_leases()
  for key, last in pairs({ leases = RUNNING, expiring = LAPSED }) do
    local members = call('ZRANGE', P .. key, 0, most - 1, 'WITHSCORES')
    look_at_ids(key, key == 'leases' and HELD or DUE, last, members)
  end
  cursor = '0'
end

function steps.ended()
  look_at_ids('ended:' .. of, tonumber(of), tonumber(of))
end

function steps.blocked()
  call('ZCARD', P .. 'since:' .. of)
  look_at_ids('blocked:' .. of, BLOCKED, BLOCKED)
end

function steps.since()
  look_at_ids('since:' .. of, BLOCKED, BLOCKED)
end

-- The first blocked task of a turn. Members that are not blocked tasks are removed.
local function first_in(turn, concurrency_group)
  while true do
    local first = call('ZRANGE', P .. turn, 0, 0)[1]
    if not first then
      return nil
    end
    local id = sub(first, 9)
    local task, state = call('HGET', P .. 'task', id), call('HGET', P .. 'state', id)
    local t = task and not flaw(id, state, task) and unpack_task(id, join(state, task))
    if t and t[STAGE] == BLOCKED and t[GROUP_KEY] == concurrency_group and place(t) == first then
      return id
    end
    take_out(turn, first)
  end
end

-- Makes the first task of each concurrency group due if no task of that group runs: a damaged task may have blocked the
-- others. If one was due already, two are due now, and the next claim blocks one again. Runs after the groups have been
-- counted.
function steps.concurrency_groups()
  local members = scan('ZSCAN', 'blocked:' .. of)
  for i = 1, #members, 2 do
    local t = load(members[i])
    if t and t[STAGE] == BLOCKED and t[GROUP_KEY] ~= '' and running_in(t[GROUP_KEY]) == 0 then
      local _, name = ready_list_parts(t[READY_LIST])
      if first_in(turn_of(t[GROUP_KEY], name), t[GROUP_KEY]) == t.id then
        unblock_next(t[GROUP_KEY], 1)
      end
    end
  end
end

function steps.stopping()
  for _, id in ipairs(scan('SSCAN', 'stopping')) do
    local state = call('HGET', P .. 'state', id)
    if #id ~= 16 or not state or byte(state) ~= RUNNING then
      take_out('stopping', id, 'SREM')
    end
  end
end

function steps.holders()
  local some = scan('HSCAN', 'keys')
  for i = 1, #some, 2 do
    local id = some[i + 1]
    if #id ~= 16 or call('HGET', P .. 'key', id) ~= some[i] or call('HEXISTS', P .. 'task', id) == 0 then
      take_out('keys', some[i], 'HDEL')
    end
  end
end

function steps.ids()
  local members = scan('ZSCAN', 'ids')
  for i = 1, #members, 2 do
    local entry, left = members[i], {}
    for at = 1, #entry, 16 do
      local id = sub(entry, at, at + 15)
      if call('HEXISTS', P .. 'task', id) == 1 then
        left[#left + 1] = id
      end
    end
    local sound = table.concat(left)
    if sound ~= entry or members[i + 1] ~= '0' then
      call('ZREM', P .. 'ids', entry)
      for _, id in ipairs(left) do
        call('ZADD', P .. 'ids', '0', id)
      end
      note('!ids had an entry that could not be read')
    end
  end
end

function steps.task()
  local some, ids = scan('HSCAN', 'task'), {}
  for i = 1, #some, 2 do
    ids[#ids + 1] = some[i]
  end
  for i, state in ipairs(read_many('HMGET', 'state', ids)) do
    local id, task = ids[i], some[2 * i]
    if #id ~= 16 then
      take_out('task', id, 'HDEL')
    elseif check(id, nil, task, state) then
      put_right(id, state, task)
    end
  end
end

function steps.state()
  local some = scan('HSCAN', 'state')
  for i = 1, #some, 2 do
    local id = some[i]
    if #id ~= 16 then
      take_out('state', id, 'HDEL')
    elseif call('HEXISTS', P .. 'task', id) == 0 then
      check(id)
    end
  end
end

local function add(numbers, field)
  numbers[field] = (numbers[field] or 0) + 1
end

-- Adds the counts of some tasks, given with their ids.
local function tally(numbers, of_group, some)
  local ids = {}
  for i = 1, #some, 2 do
    ids[#ids + 1] = some[i]
  end
  for i, state in ipairs(read_many('HMGET', 'state', ids)) do
    local ready_list, concurrency_group = words_in(some[2 * i], READY_LIST_IN)
    state = state or NEW
    local stage = byte(state)
    if ready_list and #state >= REST_AT - 1 and stage <= REJECTED then
      local queue = ready_list_parts(ready_list)
      local _, _, _, _, _, _, _, attempt, holder = unpack_bytes(HEAD, state)
      add(numbers, letter(stage) .. queue)
      if stage <= HELD and attempt == 0 then
        add(numbers, 'W' .. queue)
      elseif stage == RUNNING then
        add(numbers, 'i' .. holder)
        if concurrency_group ~= '' then
          add(of_group, concurrency_group)
        end
      end
    end
  end
end

-- Counts some tasks, if there are too many to count in one script: answers with '=', the number and what was counted.
function steps.tally()
  local numbers = {}
  tally(numbers, {}, scan('HSCAN', 'task'))
  for field, number in pairs(numbers) do
    note('=' .. pack('<I4', number) .. field)
  end
end

-- Whether there are few enough tasks to count in one script: answers '=' if not.
function steps.size()
  if call('HLEN', P .. 'task') > COUNTED_AT_ONCE then
    note('=')
  end
  cursor = '0'
end

local function write_numbers(numbers)
  local known, wrong = call('HGETALL', P .. 'counts'), 0
  for i = 1, #known, 2 do
    local field = known[i]
    if find(LETTERS .. 'Wi', sub(field, 1, 1), 1, true) then
      if tonumber(known[i + 1]) ~= (numbers[field] or 0) then
        wrong = wrong + 1
        call('HSET', P .. 'counts', field, text(numbers[field] or 0))
      end
      numbers[field] = nil
    elseif not string.match(known[i + 1], '^-?%d+$') then
      take_out('counts', field, 'HDEL')
    end
  end
  for field, number in pairs(numbers) do
    wrong = wrong + 1
    call('HSET', P .. 'counts', field, text(number))
  end
  if wrong > 0 then
    note('!' .. wrong .. ' numbers of counts were wrong')
  end
end

local function write_groups(of_group)
  call('DEL', P .. 'concurrency_groups')
  for concurrency_group, number in pairs(of_group) do
    call('HSET', P .. 'concurrency_groups', concurrency_group, text(number))
  end
end

-- Counts everything anew, in one script.
function steps.counts()
  local numbers, of_group, from = {}, {}, '0'
  repeat
    local some = call('HSCAN', P .. 'task', from, 'COUNT', 1000)
    from = some[1]
    tally(numbers, of_group, some[2])
  until from == '0'
  write_numbers(numbers)
  write_groups(of_group)
  cursor = '0'
end

-- Takes the tallies, made while other calls went on, as the counts of ended and lapsed tasks and of those that wait for
-- their first attempt; counts due, later, blocked, held and running tasks anew; and corrects the sum. ARGV from 6 on:
-- fields and numbers.
function steps.take_tally()
  local numbers, of_group, of_running = {}, {}, {}
  for at = 6, #ARGV, 2 do
    if not find('DLAHRi', sub(ARGV[at], 1, 1), 1, true) then
      numbers[ARGV[at]] = tonumber(ARGV[at + 1])
    end
  end
  for letter_of, key in pairs({ D = 'due', L = 'later' }) do
    for _, ready_list in ipairs(key == 'due' and call('SMEMBERS', P .. key) or call('ZRANGE', P .. key, 0, -1)) do
      local field = letter_of .. ready_list_parts(ready_list)
      numbers[field] = (numbers[field] or 0) + call('ZCARD', P .. key .. ':' .. ready_list)
    end
  end
  for _, queue in ipairs(call('HKEYS', P .. 'blocked')) do
    numbers['A' .. queue] = call('ZCARD', P .. 'blocked:' .. queue)
  end
  local some = {}
  for _, id in ipairs(call('ZRANGE', P .. 'leases', 0, -1)) do
    local task = call('HGET', P .. 'task', id)
    if task then
      some[#some + 1], some[#some + 2] = id, task
    end
  end
  tally(of_running, of_group, some)
  for field, number in pairs(of_running) do
    if sub(field, 1, 1) ~= 'W' then
      numbers[field] = number
    end
  end
  local sum, most_of, most_ended = 0, nil, -1
  for field, number in pairs(numbers) do
    local kind = sub(field, 1, 1)
    if find(LETTERS, kind, 1, true) then
      sum = sum + number
      if kind == 'S' and number > most_ended then
        most_of, most_ended = field, number
      end
    end
  end
  if most_of then
    numbers[most_of] = most_ended + call('HLEN', P .. 'task') - sum
  end
  write_numbers(numbers)
  write_groups(of_group)
  cursor = '0'
end

steps[step]()
commit()
table.insert(found, 1, cursor)
return found
