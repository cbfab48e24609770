-- Stores that an instance shows that it lives, with the start of the server and the time. ARGV: notification,
-- instance, whether to show it. Answers 1 if it is shown now: its channel has a subscriber on this very server.
local instance = ARGV[2]
local run = ARGV[3] == '1' and run_id()
local counts = run and listeners({ instance })
if not counts or counts[1] == 0 then
  call('HDEL', P .. 'liveness', instance)
  return 0
end
call('HSET', P .. 'liveness', instance, run .. text(now))
return 1
