-- Stores arguments of an insert that is too large for one call, until insert_staged_main.lua reads them. ARGV:
-- notification, the stage, how many arguments were staged before, the arguments. Answers '1', or '0' if the stage is
-- not complete. An unused stage is deleted after a while.
local key, before, items = 'stage:' .. ARGV[2], tonumber(ARGV[3]), {}
for at = 4, #ARGV do
  items[at - 3] = ARGV[at]
end
local length = call('LLEN', P .. key)
if length == before then
  call_many('RPUSH', key, items)
elseif length ~= before + #items then
  return '0'
end
call('EXPIRE', P .. key, STAGE_KEPT)
return '1'
