-- Replaces ARGV by the staged arguments of an insert. Answers nothing, and does nothing, if they are not all there.
-- ARGV: notification, the stage, how many arguments there must be.
local stage, staged = P .. 'stage:' .. ARGV[2], tonumber(ARGV[3])
if call('LLEN', stage) ~= staged then
  return false
end
local ARGV = { NOTIFICATION }
do
  local from = 0
  while from < staged do
    for _, argument in ipairs(call('LRANGE', stage, from, from + 3999)) do
      ARGV[#ARGV + 1] = argument
    end
    from = from + 4000
  end
end
