-- Stores the progress and the log lines of runs.

-- Stores lines and progress. Skips the lines that an earlier report, whose answer was lost, has stored already: then
-- the task has more lines than the run knows. The caller saves `t`.
local function say(t, progress, lines, bytes, before)
  local known = math.min(math.max(t[LOG_LINES] - before, 0), #lines)
  for i = 1, known do
    bytes = bytes - (#lines[i] - LINE_HEAD)
  end
  if known > 0 then
    lines = { unpack(lines, known + 1) }
  end
  if progress then
    attach(t, HAS_PROGRESS, 'progress', progress)
  end
  if #lines > 0 then
    call_many('RPUSH', 'log:' .. t.id, lines)
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
