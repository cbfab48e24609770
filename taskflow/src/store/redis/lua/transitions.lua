-- How a task moves on from a run: shared by finishes, recoveries and controls.

-- Stores a run as a former attempt, which ended at `ended` (default: now).
local function remember(t, outcome, error, ended)
  local old = has(t[FLAGS], HAS_PAST) and call('HGET', P .. 'past', t.id) or ''
  error = error or ''
  attach(t, HAS_PAST, 'past', old
    .. pack('<I4c16i8i8BI4', t[ATTEMPT], t[HOLDER], t[STARTED], ended or now, outcome, #error) .. error)
end

-- Makes a task wait until `run_at`; it is due if that has passed.
local function wait(t, run_at)
  t[STAGE] = run_at > now and LATER or DUE
  t[RUN_AT], t[FINISHED], t[STOP], t[OUTCOME] = run_at, 0, 0, 0
end

-- `outcome` is that of the run that ends here, 0 if none does.
local function end_task(t, stage, outcome, error)
  t[STAGE], t[FINISHED], t[STOP], t[OUTCOME] = stage, now, 0, outcome
  attach(t, HAS_ERROR, 'error', error)
end
