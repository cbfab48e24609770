-- Ends runs that all ended well and have nothing more to say: most batches, and they cost little.

-- ARGV from `at` on: how many, their ids in one text, their fences in one text, and '1' and their results, each apart, or
-- '0' if all of them are 'null'. Answers as in finish.lua.
local function finish(at)
  local n, results_at = tonumber(ARGV[at]), at + 3
  local ids, fences = parts(ARGV[at + 1], 'c16', n), parts(ARGV[at + 2], 'c8', n)
  local blobs, answers = read_many('HMGET', 'state', ids), {}
  local states, results, leases, errors, stopped, k = {}, {}, {}, {}, {}, 0
  local has_results = ARGV[at + 3] == '1'
  local finished, heads, seen = pack('<I4i8', 0, now), {}, {}

  -- Runs of one lane, crowd and holder, which the next one most likely has too, and all of them.
  local like, all = nil, {}
  local function look_at(blob)
    local lane, crowd, body_at = unpack_bytes(WORDS, blob, LANE_AT)
    local holder, words = sub(blob, HOLDER_AT, HOLDER_END), sub(blob, LANE_AT, body_at - 1)
    like = all[holder .. words]
    if not like then
      like = { lane = lane, crowd = crowd, holder = holder, words = words, n = 0 }
      all[holder .. words] = like
    end
  end

  for i = 1, n do
    local id, blob = ids[i], blobs[i]
    if blob and find(blob, fences[i], FENCE_AT, true) == FENCE_AT and byte(blob) == RUNNING and not seen[id] then
      local _, stop, _, flags = byte(blob, 1, 4)
      if stop == 1 then
        stopped[#stopped + 1] = id
      end
      if band(flags, HAS_ERROR) ~= 0 then
        errors[#errors + 1] = id
        flags = flags - HAS_ERROR
      end
      local result = has_results and ARGV[results_at + i] or 'null'
      if result ~= 'null' then
        local r = #results
        results[r + 1], results[r + 2] = id, result
        flags = bor(flags, HAS_RESULT)
      end
      local head = heads[flags]
      if not head then
        head = string.char(SUCCESS, 0, SUCCEEDED, flags) .. finished
        heads[flags] = head
      end
      if not like or find(blob, like.words, LANE_AT, true) ~= LANE_AT
        or find(blob, like.holder, HOLDER_AT, true) ~= HOLDER_AT then
        look_at(blob)
      end
      like.n, k, seen[id] = like.n + 1, k + 1, true
      states[2 * k - 1], states[2 * k] = id, head .. sub(blob, FENCE_AT)
      leases[k] = id
      answers[i] = ENDED_WELL
    else
      answers[i] = 'x'
    end
  end
  call_many('HSET', 'state', states)
  call_many('ZREM', 'leases', leases)
  call_many('HSET', 'result', results)
  call_many('HDEL', 'error', errors)
  call_many('SREM', 'stopping', stopped)
  over = leases
  for _, runs in pairs(all) do
    local queue = lane_parts(runs.lane)
    count('R' .. queue, -runs.n)
    count('S' .. queue, runs.n)
    count('i' .. runs.holder, -runs.n)
    note_ends(queue, runs.n)
    if runs.crowd ~= '' then
      run_in(runs.crowd, -runs.n)
    end
  end
  for _, runs in pairs(all) do
    if runs.crowd ~= '' then
      let_next(runs.crowd, runs.n)
    end
  end
  return table.concat(answers), results_at + (has_results and n or 0) + 1
end
