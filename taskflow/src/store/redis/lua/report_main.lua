-- Stores reports of runs before they end. ARGV: notification, then for each its id, a specification, a progress if
-- there is one, log lines. Answers with one text, a byte for each: '1' if the run is alive.
local at, last, answers = 2, #ARGV, {}
while at <= last do
  local id = ARGV[at]
  local fence, has_progress, n, bytes, before = unpack_bytes('<I8BI4I4I4', ARGV[at + 1])
  local progress, lines
  progress, lines, at = read_said(at + 2, has_progress, n)
  local t = load(id)
  local alive = t and t[STAGE] == RUNNING and t[FENCE] == fence
  if alive then
    say(t, progress, lines, bytes, before)
    save(t)
  end
  answers[#answers + 1] = alive and '1' or '0'
end
commit()
return table.concat(answers)
