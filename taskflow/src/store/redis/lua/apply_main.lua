-- Applies decisions of the rules, which are written once, in Rust: see apply.rs. ARGV: notification, then groups of
-- rows.
--
-- A group begins with its specification `<I4I4BBB`: the number of changes to choose from; the number of rows, or 0
-- for the rows that wait with a run key; whether nothing at all is done if one row has changed since it was read;
-- whether each row has a fence; whether a run key is given. Then come the changes, each with a specification, the
-- error of the task and the error of the run that ends. Then come the rows, each with its id and its fence, or the
-- run key.
--
-- The specification of a change: the class of rows it is for; the stop flag that it expects (255: any); whether the lease must
-- be over; whether the time to start must be over; whether only tasks that wait for their first attempt are meant; the stage it
-- leads to, where DUE is to wait and RUNNING is to be asked to stop; the fields that it sets, as a sum of SETS_; what becomes of
-- the error (0: it stays, 1: it goes, 2: it is given); how a run ends (0: none does); then lost runs, snoozes, the last possible
-- attempt, run_at and expires_at.
--
-- Answers for each row its id, '1' if it was changed, and the beginning of its state as it was before; no state for
-- an unknown task. Answers nothing, and has changed nothing, if a row has changed in a group that forbids that.

-- The class of a stage. Successful tasks have none.
local function class_of(stage)
  return stage < HELD and 1 or stage == HELD and 2 or stage == RUNNING and 3 or stage > SUCCESS and 4 or 0
end

local function key_is_free(t)
  return not has(t[FLAGS], HAS_KEY) or call('HEXISTS', P .. 'keys', call('HGET', P .. 'key', t.id)) == 0
end

local function fits(t, fence, change)
  return (not fence or t[FENCE] == fence)
    and class_of(t[STAGE]) == change.class
    and (change.stop == 255 or t[STOP] == change.stop)
    and (change.lease == 0 or tonumber(call('ZSCORE', P .. 'leases', t.id)) <= now)
    and (change.expired == 0 or t[EXPIRES] <= now)
    and (change.first == 0 or waits_for_first(t))
    and (not has(change.sets, SETS_REOPENED) or key_is_free(t))
end

local function chosen(t, fence, changes)
  for _, change in ipairs(changes) do
    if fits(t, fence, change) then
      return change
    end
  end
end

local function apply(t, change)
  if change.stage == RUNNING then
    t[STOP] = 1
    save(t)
    call('SADD', P .. 'stopping', t.id)
    return
  end
  local sets = change.sets
  leave(t)
  if has(sets, SETS_REOPENED) then
    -- The attempt that the task ended with is in its state.
    if t[OUTCOME] ~= 0 then
      remember(t, t[OUTCOME], has(t[FLAGS], HAS_ERROR) and call('HGET', P .. 'error', t.id) or nil, t[FINISHED])
    end
    attach(t, HAS_PROGRESS, 'progress', nil)
  end
  if change.outcome ~= 0 then
    remember(t, change.outcome, change.run_error)
  end
  if has(sets, SETS_UNCOUNTED) then
    t[ATTEMPT] = math.max(t[ATTEMPT] - 1, 0)
  end
  if has(sets, SETS_FENCE) then
    t[FENCE] = t[FENCE] + 1
  end
  t[LOST] = has(sets, SETS_LOST) and change.lost or t[LOST]
  t[SNOOZES] = has(sets, SETS_SNOOZES) and change.snoozes or t[SNOOZES]
  t[MAX] = has(sets, SETS_MAX) and change.max or t[MAX]
  t[EXPIRES] = has(sets, SETS_EXPIRES) and change.expires or t[EXPIRES]
  if change.stage == DUE then
    if change.error_op ~= 0 then
      attach(t, HAS_ERROR, 'error', change.error_op == 2 and change.error or nil)
    end
    wait(t, has(sets, SETS_RUN_AT) and change.run_at or t[RUN_AT])
  else
    end_task(t, change.stage, 0, change.error)
  end
  enter(t)
end

local groups, at = {}, 2
while at <= #ARGV do
  local n, rows, strict, fenced, by_run_key = unpack_bytes('<I4I4BBB', ARGV[at])
  local group = { strict = strict == 1, changes = {}, ids = {}, fences = {} }
  at = at + 1
  for i = 1, n do
    local c = { error = ARGV[at + 1], run_error = ARGV[at + 2] }
    c.class, c.stop, c.lease, c.expired, c.first, c.stage, c.sets, c.error_op, c.outcome, c.lost, c.snoozes, c.max, c.run_at,
      c.expires = unpack_bytes('<BBBBBBI2BBI4I4I4i8i8', ARGV[at])
    group.changes[i], at = c, at + 3
  end
  if by_run_key == 1 then
    group.ids, at = call('HVALS', P .. 'run:' .. ARGV[at]), at + 1
  else
    for i = 1, rows do
      group.ids[i] = sub(ARGV[at], 1, 16)
      group.fences[i] = fenced == 1 and unpack_bytes('<I8', ARGV[at], 17)
      at = at + 1
    end
  end
  groups[#groups + 1] = group
end

for _, group in ipairs(groups) do
  for i, id in ipairs(group.strict and group.ids or {}) do
    local t = load(id)
    if not (t and chosen(t, group.fences[i], group.changes)) then
      return false
    end
  end
end

local answers = {}
for _, group in ipairs(groups) do
  for i, id in ipairs(group.ids) do
    local task = call('HGET', P .. 'task', id)
    if task then
      local blob = join(call('HGET', P .. 'state', id), task)
      local t = unpack_task(id, blob)
      local change = chosen(t, group.fences[i], group.changes)
      if change then
        apply(t, change)
      end
      answers[#answers + 1] = id .. (change and '1' or '0') .. sub(blob, 1, REST_AT - 1)
    else
      answers[#answers + 1] = id .. '0'
    end
  end
end
commit()
return answers
