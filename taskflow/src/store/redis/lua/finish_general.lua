-- Ends runs in other ways than by a success without progress and lines. It repeats what the rules in Rust
-- (`transition::finish`) say. Finishes come with the next claim in one script; reading the tasks before would cost
-- each turn a second round trip. The contract suite shows that both agree.

-- The answer for a run that no longer runs under its fence: it was ended before, if it ever began.
local function repeated(stage, has_started)
  return has_started and stage ~= RUNNING and stage ~= HELD and string.char(97 + stage) or 'x'
end

-- Kinds of ends: 0 success, 1 to be tried again, 2 given back, 3 otherwise.
local function end_run(t, kind, stage, outcome, delay, text)
  local stop = t[STOP] == 1
  leave(t)
  t[LOST] = 0
  if kind == 0 then
    attach(t, HAS_RESULT, 'result', text)
    end_task(t, SUCCESS, outcome, nil)
  elseif kind == 3 then
    end_task(t, stage, outcome, text)
  else
    if kind == 1 then
      remember(t, outcome, text)
      attach(t, HAS_ERROR, 'error', text)
    else
      if outcome ~= 0 then
        remember(t, outcome, nil)
        if outcome == SNOOZED then
          t[SNOOZES] = t[SNOOZES] + 1
        end
      end
      t[ATTEMPT] = math.max(t[ATTEMPT] - 1, 0)
    end
    if stop then
      end_task(t, CANCELLED, 0, 'cancelled')
    else
      wait(t, later_by(delay))
    end
  end
  enter(t)
end

-- Answers the stage of the task, a letter for it if the run was ended before, or 'x' for a stale finish, and where
-- the arguments of the next one begin.
local function end_otherwise(id, specification, value, at)
  local fence, kind, stage, outcome, delay, has_progress, line_count, bytes, before =
    unpack_bytes('<I8BBBi8BI4I4I4', specification)
  local progress, lines
  progress, lines, at = read_said(at, has_progress, line_count)
  local t = load(id)
  if not t or t[FENCE] ~= fence then
    return 'x', at
  elseif t[STAGE] ~= RUNNING then
    return repeated(t[STAGE], t[STARTED] ~= 0), at
  end
  say(t, progress, lines, bytes, before)
  end_run(t, kind, stage, outcome, delay, value)
  return digit(t[STAGE]), at
end
