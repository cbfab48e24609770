-- What a task logged. ARGV: notification, id. Answers nothing if it is not there.
if call('HEXISTS', P .. 'task', ARGV[2]) == 0 then
  return false
end
return call('LRANGE', P .. 'log:' .. ARGV[2], 0, -1)
