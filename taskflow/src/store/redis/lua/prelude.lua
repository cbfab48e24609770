-- The beginning of all scripts but those for simple cases and the probe: the keys, the clock, and functions that read and
-- write many entries at once. `call` stands before it: from call_direct.lua, or from call_checked.lua when the script is
-- repeated after it met damage.
--
-- A failed script is not undone. So scripts decide before they write. A task itself (`task` and `state`) is written
-- after the indexes, and nothing after that can fail: damaged counts begin anew, and a missing right to publish is
-- ignored. A script that fails earlier leaves indexes that repair.lua fixes.
--
-- KEYS[1] is the prefix of all keys, with the hash tag: one cluster slot holds everything of a namespace. ARGV[1] is
-- the message to publish when the script has changed something; empty: nothing.
--
-- Keys, after the prefix:
--   task          hash  id → the parts of a task that do not change with each run, packed as in constants.lua
--   state         hash  id → the parts that change with each run; missing for a task that is due and new, as most
--                       waiting tasks are, so that an add writes less
--   body          hash  id → the parts that only Rust reads: policy, tags, arguments; only if they are long
--   result, error, progress, past, key, run_key
--                 hash  id → parts that few tasks have; a flag in the state says whether to look
--   log:<id>      list  the log lines of a task
--   ids           zset  every id, all with score 0: each entry holds some ids that begin with the same 6 bytes (the
--                 millisecond they were made in), greatest first; so entries are in the order of their greatest ids
--   due:<ready list>    zset  claimable tasks; score -priority, member seq and id: the order of claims
--   due           set   ready lists that may have such tasks
--   later:<ready list>  zset  tasks that are not due yet; score run_at, member seq and id
--   later         zset  ready lists that have such tasks; score the first run_at
--   names:<concurrency group> set   names of the blocked tasks of that concurrency group
--   turn:<length of concurrency group>:<concurrency group><name>
--                 zset  those tasks, as in due:<ready list>
--   blocked:<queue>, since:<queue>
--                 zsets all blocked tasks of a queue, in the order in which they were blocked, and by when each came due
--   blocked       hash  queue → the key limit under which its tasks were blocked, and the number of the last one
--                 that was blocked under another
--   concurrency_groups  hash  concurrency group → how many of its tasks run
--   starts        hash  queue → when its tasks started, for a rate limit
--   expiring      zset  pending tasks that are not held, by the instant until which they can be started
--   leases        zset  runs and holds by the end of their lease
--   stopping      set   runs that were asked to stop
--   ended         zset  seconds in which tasks ended
--   ended_in:<second>
--                 list  those tasks: each entry holds the ids of some. Tasks that have been deleted or run again since are
--                 recognized when it is their turn to be deleted
--   kept:<stage>, kept_in:<stage>:<second>
--                 the same for tasks of one stage that are kept for longer than others; they are moved there when the
--                 shortest retention has passed
--   ended:<stage> zset  tasks that ended other than `success`, in the order of ids
--   keys          hash  idempotency key with its name → the task that holds it
--   run:<key>     hash  name → the task that waits for its first attempt with that run key
--   counts        hash  letter of a stage and queue → how many tasks; 'W': those that wait for their first attempt; 'Q': those
--                 that the queue refused; 'P': the queue is paused; 'i' and instance → how many tasks it runs; 'V' and a claim
--                 whose answer was lost → when it was given up: if it arrives after all, it takes nothing
--   ends:<second> hash  queue → how many of its tasks ended in that second of the last minute
--   asked         hash  queues that are paused or have a stored configuration → that configuration, or empty
--   schedules     zset  names of schedules, all with score 0
--   schedule:<name>
--                 hash  the state of a schedule: tick, outcome, task, start, paused, definition, declared, declared_since,
--                 skipped, last_skipped, known
--   schedule_version    text  the version of the latest definition or removal of a schedule
--   schedule_changes, schedule_removals
--                 zsets names of schedules, by the version of their latest definition or removal; the second one has only
--                 removed schedules
--   documents:<kind>  hash  key → a document, packed as in constants.lua
--   document_keys:<kind>
--                 zset  the keys of these documents, all with score 0
--   documents_expiring
--                 zset  kind, a NUL and key of the documents that expire, by when they do
--   instance, there, seen, started, gone
--                 hash and zsets: descriptions of instances, and until when they count as alive
--   liveness      hash  instance → its liveness: on which start of the server, and when, it last showed that it lives
--   claim:<instance>
--                 text  the last claim of an instance: its token, when it was made, and the ids it took
--   stage:<id>    list  arguments of an insert that is too large for one call
--   seq           text  the number of the last inserted task, for the order of inserts
--   meta          hash  schema: the layout of these keys; blocked_seq: the number of the last blocked task
--   damaged:<key> a key that was renamed because it held another type than it should
--
-- A ready list is a queue and a name, "<length of queue>:<queue><name>", so that tasks with unknown names do not
-- delay others. A concurrency group is a queue and a concurrency key, written in the same way: see
-- concurrency_groups.lua. Numbers are exact up to 2^53; instants are in microseconds.


local P, NOTIFICATION = KEYS[1], ARGV[1]
local sub, byte, find = string.sub, string.byte, string.find
local pack, unpack_bytes = struct.pack, struct.unpack
local band, bor, bnot = bit.band, bit.bor, bit.bnot

local now = call('TIME')
now = now[1] * 1000000 + now[2]

-- Redis turns numbers into text slowly, and large ones inexactly.
local function text(number)
  return string.format('%.0f', number)
end

local function later_by(length)
  return math.min(now + length, FOR_EVER)
end

-- A stage as a byte of an answer.
local function digit(stage)
  return string.char(48 + stage)
end

local function letter(stage)
  return sub(LETTERS, stage + 1, stage + 1)
end

-- A command with any number of arguments: Lua's stack holds some 8,000 values. Answers the sum of its answers.
local function call_many(command, key, list)
  local n, sum = #list, 0
  for from = 1, n, 4000 do
    sum = sum + call(command, P .. key, unpack(list, from, math.min(from + 3999, n)))
  end
  return sum
end

-- The same for reading: answers one list.
local function read_many(command, key, list)
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

-- The `n` parts of a text, each of that format, such as 'c16'.
local function parts(packed, format, n)
  local list, position = {}, 1
  for from = 0, n - 1, 1000 do
    local some = { unpack_bytes('<' .. string.rep(format, math.min(n - from, 1000)), packed, position) }
    position = table.remove(some)
    if n <= 1000 then
      return some
    end
    for i, part in ipairs(some) do
      list[from + i] = part
    end
  end
  return list
end

-- Counts are updated as tasks move. A script writes its changes once, at its end.
local changes = {}

local function count(field, n)
  changes[field] = (changes[field] or 0) + n
end

-- How the number of running tasks of each concurrency group changes, and how many tasks of each queue ended.
local concurrency_groups, ends = {}, {}

-- The ids of tasks that ended in this script.
local over = {}

local function run_in(concurrency_group, n)
  concurrency_groups[concurrency_group] = (concurrency_groups[concurrency_group] or 0) + n
end

local function note_ends(queue, n)
  ends[queue] = (ends[queue] or 0) + n
end

-- A command on a key that may begin anew if it holds another type than it should: the periodic check restores the
-- rest.
local function put(command, key, ...)
  local answer = redis.pcall(command, P .. key, ...)
  if type(answer) == 'table' and answer.err and find(answer.err, 'WRONGTYPE', 1, true) then
    call('UNLINK', P .. key)
    answer = redis.pcall(command, P .. key, ...)
  end
  return answer
end

-- Adds to a stored count.
local function add_to(key, field, n)
  local sum = put('HINCRBY', key, field, n)
  if type(sum) == 'number' then
    return sum
  end
  put('HSET', key, field, text(n))
  return n
end

local function write_counts()
  put('HEXISTS', 'counts', '')
  local fields, numbers = {}, {}
  for field, n in pairs(changes) do
    if n ~= 0 then
      fields[#fields + 1] = field
    end
  end
  if #fields <= 2 then
    for _, field in ipairs(fields) do
      add_to('counts', field, changes[field])
    end
    return
  end
  for i, n in ipairs(read_many('HMGET', 'counts', fields)) do
    numbers[2 * i - 1], numbers[2 * i] = fields[i], text((tonumber(n) or 0) + changes[fields[i]])
  end
  call_many('HSET', 'counts', numbers)
end

-- Writes the counts and the ends that the script has gathered, and publishes. Scripts that move tasks or notify call it.
local function commit()
  write_counts()
  for concurrency_group, n in pairs(concurrency_groups) do
    if n ~= 0 and add_to('concurrency_groups', concurrency_group, n) == 0 then
      put('HDEL', 'concurrency_groups', concurrency_group)
    end
  end
  if #over > 0 then
    local second = text(math.floor(now / 1000000))
    if put('RPUSH', 'ended_in:' .. second, table.concat(over)) == 1 then
      put('ZADD', 'ended', second, second)
    end
    for queue, n in pairs(ends) do
      if add_to('ends:' .. second, queue, n) == n then
        call('EXPIRE', P .. 'ends:' .. second, 90)
      end
    end
  end
  if NOTIFICATION ~= '' then
    -- The data stays written: a missing right is reported when a process starts.
    redis.pcall('PUBLISH', P .. 'notifications', NOTIFICATION)
  end
end

local ready_lists = {}

-- The queue and the name of a ready list, or the queue and the key of a concurrency group.
local function ready_list_parts(ready_list)
  local known = ready_lists[ready_list]
  if not known then
    local colon = string.find(ready_list, ':', 1, true)
    local last = colon + tonumber(sub(ready_list, 1, colon - 1))
    known = { sub(ready_list, colon + 1, last), sub(ready_list, last + 1) }
    ready_lists[ready_list] = known
  end
  return known[1], known[2]
end

-- Joins the `state` and the `task` of a task.
local function join(state, task)
  return (state and sub(state, 1, REST_AT - 1) or NEW) .. task
end

-- Joined tasks; false for unknown ones.
local function read_tasks(ids)
  local states, blobs = read_many('HMGET', 'state', ids), read_many('HMGET', 'task', ids)
  for i, task in ipairs(blobs) do
    blobs[i] = task and join(states[i], task)
  end
  return blobs
end

-- The `state` of a joined task with this stage.
local function state_of(stage, blob)
  local _, _, body_at = unpack_bytes(WORDS, blob, READY_LIST_AT)
  return string.char(stage) .. sub(blob, 2, REST_AT - 1) .. sub(blob, READY_LIST_AT, body_at - 1)
end

-- A joined task with its body, wherever that is stored.
local function with_body(id, blob)
  local _, _, body_at = unpack_bytes(WORDS, blob, READY_LIST_AT)
  if body_at > #blob then
    return blob .. call('HGET', P .. 'body', id)
  end
  return blob
end

-- The same, or as much as there is of a damaged task: the caller that reads it fails it.
local function as_it_is(id, blob)
  local is_whole, whole = pcall(with_body, id, blob)
  return is_whole and whole or blob
end

-- Where the arguments begin in a body that begins at `at`: behind its policy and its tags.
local function args_of(body, at)
  local _, tags, args_at = unpack_bytes('<I4c0I4', body, at or 1)
  for _ = 1, 2 * tags do
    _, args_at = unpack_bytes('<I4c0', body, args_at)
  end
  return args_at
end
