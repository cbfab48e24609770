-- Ends runs of all kinds. Most batches are all successes, which finish_success_fast.lua ends.

-- ARGV from `at` on: number of finishes, ids, then for each a specification, a text (the result or the error), a
-- progress if there is one, log lines. The specification of a success without progress and lines is its fence alone.
--
-- Answers with one text, a byte for each finish: the stage of the task, a letter for that stage if the run was ended
-- before (see `repeated`), or 'x' for a stale finish. Also answers where the finishes end in ARGV.
local function finish(at)
  local n, ids = tonumber(ARGV[at]), {}
  for i = 1, n do
    ids[i] = ARGV[at + i]
  end
  at = at + n + 1
  local all, answers = read_many('HMGET', 'state', ids), {}
  local states, results, leases, errors, k = {}, {}, {}, {}, 0
  local finished, heads = pack('<I4i8', 0, now), {}
  local seen, of_ready_list, of_holder, of_group = {}, {}, {}, {}

  local function write()
    call_many('HSET', 'result', results)
    call_many('HDEL', 'error', errors)
    call_many('ZREM', 'leases', leases)
    call_many('HSET', 'state', states)
    states, results, leases, errors, k = {}, {}, {}, {}, 0
  end

  for i, id in ipairs(ids) do
    local specification, result, state, answer = ARGV[at], ARGV[at + 1], all[i], 'x'
    at = at + 2
    if seen[id] then
      write()
      state = call('HGET', P .. 'state', id)
    end
    seen[id] = true
    if #specification == 8 then
      if state and sub(state, FENCE_AT, FENCE_END) == specification and byte(state) == RUNNING then
        local _, stop, _, flags = byte(state, 1, 4)
        if stop == 1 then
          call('SREM', P .. 'stopping', id)
        end
        if band(flags, HAS_ERROR) ~= 0 then
          errors[#errors + 1] = id
          flags = flags - HAS_ERROR
        end
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
        k = k + 1
        states[2 * k - 1], states[2 * k] = id, head .. sub(state, FENCE_AT)
        leases[k], over[#over + 1] = id, id
        local ready_list, concurrency_group = unpack_bytes(WORDS, state, REST_AT)
        local holder = sub(state, HOLDER_AT, HOLDER_END)
        if concurrency_group ~= '' then
          of_group[concurrency_group] = (of_group[concurrency_group] or 0) + 1
        end
        of_ready_list[ready_list] = (of_ready_list[ready_list] or 0) + 1
        of_holder[holder] = (of_holder[holder] or 0) + 1
        answer = ENDED_AS_SUCCESS
      elseif state and sub(state, FENCE_AT, FENCE_END) == specification then
        answer = repeated(byte(state), sub(state, STARTED_AT, STARTED_END) ~= NEVER_STARTED)
      end
    else
      answer, at = end_otherwise(id, specification, result, at)
    end
    answers[i] = answer
  end
  write()
  for ready_list, number in pairs(of_ready_list) do
    local queue = ready_list_parts(ready_list)
    count('R' .. queue, -number)
    count('S' .. queue, number)
    note_ends(queue, number)
  end
  for concurrency_group, number in pairs(of_group) do
    run_in(concurrency_group, -number)
    unblock_next(concurrency_group, number)
  end
  for holder, number in pairs(of_holder) do
    count('i' .. holder, -number)
  end
  return table.concat(answers), at
end
