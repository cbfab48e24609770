-- The log lines of a task. ARGV: notification, id. Answers nothing for an unknown task.
if call('HEXISTS', P .. 'task', ARGV[2]) == 0 then
  return false
end
return call('LRANGE', P .. 'log:' .. ARGV[2], 0, -1)
