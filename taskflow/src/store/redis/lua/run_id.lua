-- Liveness: see liveness.rs. If the user may not run these commands, or the server does not know them, liveness is
-- unknown; then dead processes are noticed only when their leases end.

-- Identifies this start of the server, or nil.
local function run_id()
  local info = redis.pcall('INFO', 'server')
  return type(info) == 'string' and string.match(info, 'run_id:(%x+)') or nil
end

-- How many subscribers the channels of these instances have, or nil.
local function listeners(instances)
  local counts = {}
  for from = 1, #instances, 1000 do
    local channels = {}
    for i = from, math.min(from + 999, #instances) do
      channels[#channels + 1] = P .. 'alive:' .. instances[i]
    end
    local answer = redis.pcall('PUBSUB', 'NUMSUB', unpack(channels))
    if answer.err then
      return nil
    end
    for i = 2, #answer, 2 do
      counts[#counts + 1] = tonumber(answer[i])
    end
  end
  return counts
end
