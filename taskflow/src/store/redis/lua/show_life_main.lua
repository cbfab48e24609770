-- Notes that an instance shows that it lives, on which start of the server, and which time that is. ARGV: notification, instance,
-- whether it is to be shown. Answers 1 if it is now: somebody listens on its channel on this very server.
local instance = ARGV[2]
local run = ARGV[3] == '1' and run_id()
local counts = run and listeners({ instance })
if not counts or counts[1] == 0 then
  call('HDEL', P .. 'signs', instance)
  return 0
end
call('HSET', P .. 'signs', instance, run .. text(now))
return 1
