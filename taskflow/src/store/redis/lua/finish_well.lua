-- Ends runs that all ended well and have nothing more to say: most batches, and they cost little.

-- ARGV from `at` on: how many, their ids in one text, their fences in one text, and '1' and their results, each apart, or
-- '0' if all of them are 'null'. Answers as in finish.lua.
local function finish(at)
  local n, results_at = tonumber(ARGV[at]), at + 3
  local ids, fences = parts(ARGV[at + 1], 'c16', n), parts(ARGV[at + 2], 'c8', n)
  local states, answers, k = read_many('HMGET', 'state', ids), {}, 0
  local ended, results, leases, errors, stopped = {}, {}, {}, {}, {}
  local has_results = ARGV[at + 3] == '1'
  local finished, seen = pack('<I4i8', 0, now), {}

  -- Runs that were claimed together have the same state, and so they have when they end: it is looked at once.
  local kinds = {}
  local function kind_of(state)
    local stage, stop, _, flags = byte(state, 1, 4)
    local lane, crowd = unpack_bytes(WORDS, state, REST_AT)
    local kind = {
      fence = stage == RUNNING and sub(state, FENCE_AT, FENCE_END), stop = stop == 1, has_error = band(flags, HAS_ERROR) ~= 0,
      lane = lane, crowd = crowd, holder = sub(state, HOLDER_AT, HOLDER_END), n = 0,
    }
    flags = band(flags, bnot(HAS_ERROR))
    local rest = finished .. sub(state, FENCE_AT)
    kind.without = string.char(SUCCESS, 0, SUCCEEDED, flags) .. rest
    kind.with_result = string.char(SUCCESS, 0, SUCCEEDED, bor(flags, HAS_RESULT)) .. rest
    kinds[state] = kind
    return kind
  end

  for i = 1, n do
    local id, state = ids[i], states[i]
    local kind = state and (kinds[state] or kind_of(state))
    if kind and kind.fence == fences[i] and not seen[id] then
      k, kind.n, seen[id] = k + 1, kind.n + 1, true
      if kind.stop then
        stopped[#stopped + 1] = id
      end
      if kind.has_error then
        errors[#errors + 1] = id
      end
      local result = has_results and ARGV[results_at + i] or 'null'
      if result == 'null' then
        ended[2 * k - 1], ended[2 * k] = id, kind.without
      else
        local r = #results
        results[r + 1], results[r + 2] = id, result
        ended[2 * k - 1], ended[2 * k] = id, kind.with_result
      end
      leases[k] = id
      answers[i] = ENDED_WELL
    else
      answers[i] = 'x'
    end
  end
  call_many('HSET', 'state', ended)
  call_many('ZREM', 'leases', leases)
  call_many('HSET', 'result', results)
  call_many('HDEL', 'error', errors)
  call_many('SREM', 'stopping', stopped)
  over = leases
  for _, kind in pairs(kinds) do
    if kind.n > 0 then
      local queue = lane_parts(kind.lane)
      count('R' .. queue, -kind.n)
      count('S' .. queue, kind.n)
      count('i' .. kind.holder, -kind.n)
      note_ends(queue, kind.n)
      if kind.crowd ~= '' then
        run_in(kind.crowd, -kind.n)
      end
    end
  end
  for _, kind in pairs(kinds) do
    if kind.n > 0 and kind.crowd ~= '' then
      let_next(kind.crowd, kind.n)
    end
  end
  return table.concat(answers), results_at + (has_results and n or 0) + 1
end
