-- Ends runs, and keeps what they say.

-- Keeps lines and progress. `t` is saved by the caller.
local function say(t, progress, lines, bytes)
  if progress then
    attach(t, HAS_PROGRESS, 'progress', progress)
  end
  if #lines > 0 then
    call_many('RPUSH', P .. 'log:' .. t.id, lines)
    t[FLAGS] = bor(t[FLAGS], HAS_LOG)
    t[LOG_LINES], t[LOG_BYTES] = t[LOG_LINES] + #lines, t[LOG_BYTES] + bytes
  end
end

-- Reads a progress and lines from ARGV[at] on.
local function read_said(at, has_progress, n)
  local progress, lines = nil, {}
  if has_progress == 1 then
    progress = ARGV[at]
    at = at + 1
  end
  for i = 1, n do
    lines[i] = ARGV[at]
    at = at + 1
  end
  return progress, lines, at
end

-- Kinds of ends: 0 well, 1 to be tried again, 2 given back, 3 otherwise.
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

-- ARGV from `at` on: number of ends, ids, then for each a specification, a text (the result or the error), a progress if
-- there is one, lines. Answers with one text, a byte for each: the stage the task is in, or 'x' for a stale end; and
-- where the ends end.
local function finish(at)
  local n, ids = tonumber(ARGV[at]), {}
  for i = 1, n do
    ids[i] = ARGV[at + i]
  end
  at = at + n + 1
  local blobs, seen, answers = read_many('HMGET', 'state', ids), {}, {}
  for i, id in ipairs(ids) do
    local fence, kind, stage, outcome, delay, has_progress, line_count, bytes = unpack_bytes('<I8BBBi8BI4I4', ARGV[at])
    local text = ARGV[at + 1]
    local progress, lines
    at = at + 2
    if has_progress == 1 or line_count > 0 then
      progress, lines, at = read_said(at, has_progress, line_count)
    end
    local blob = blobs[i]
    if seen[id] then
      flush()
      blob = call('HGET', P .. 'state', id)
    end
    seen[id] = true
    local answer = 'x'
    if blob then
      local old, stop, _, flags, _, _, current, attempt, holder, started, rest = unpack_bytes(HEAD, blob)
      if old == RUNNING and current == fence then
        if kind == 0 and stop == 0 and not lines then
          -- The end of most runs, without unpacking all of the task.
          local queue = queue_of(sub(blob, LANE_AT))
          if text ~= 'null' then
            gather('HSET', 'result', id, text)
            flags = bor(flags, HAS_RESULT)
          end
          if has(flags, HAS_ERROR) then
            gather('HDEL', 'error', id)
            flags = band(flags, bnot(HAS_ERROR))
          end
          gather('HSET', 'state', id,
            pack(HEAD, SUCCESS, 0, outcome, flags, 0, now, fence, attempt, holder, started) .. sub(blob, rest))
          gather('ZREM', 'leases', id)
          gather('ZADD', 'ended', now, id)
          count('R' .. queue, -1)
          count('S' .. queue, 1)
          count('i' .. holder, -1)
          answer = '4'
        else
          local t = unpack_task(id, blob)
          if lines then
            say(t, progress, lines, bytes)
          end
          end_run(t, kind, stage, outcome, delay, text)
          answer = tostring(t[STAGE])
        end
      end
    end
    answers[i] = answer
  end
  return table.concat(answers), at
end
