-- Checks runs that all succeeded without progress and lines, as in most batches. Tasks in concurrency groups are not
-- simple, because their end may unblock others. The changes are those of the rules (`transition::finish`). They are
-- repeated here because an end costs the server 1.4 µs this way, and a call more costs 25 µs (docs/performance.md).
-- The contract suite shows that both agree.
--
-- ARGV[2] and on: how many, a thousand at most, their ids in one text, their fences in one text, and '1' and their
-- results, one by one, or '0' if all of them are 'null'. The answer, in the form of finish.lua, is `answers`.
local states, leases, results, errors, stopped, answers, k = {}, {}, {}, {}, {}, {}, 0
local n, has_results = tonumber(ARGV[2]), ARGV[5] == '1'
local ids, fences = { split(string.rep('c16', n), ARGV[3]) }, { split(string.rep('c8', n), ARGV[4]) }
ids[n + 1] = nil
local at = has_results and 6 + n or 6

-- Runs that were claimed together have the same state, also when they end, so each state is checked once.
local kinds, seen, finished = {}, {}, pack('<I4i8', 0, now)
for i, state in ipairs(call('HMGET', P .. 'state', unpack(ids))) do
  local id, kind = ids[i], kinds[state]
  if state and not kind then
    local stage, stop, _, flags = byte(state, 1, 4)
    local ready_list, concurrency_group = split(WORDS, state, REST_AT)
    if concurrency_group ~= '' then
      return false
    end
    local rest = finished .. sub(state, FENCE_AT)
    local without = bit.band(flags, bit.bnot(HAS_ERROR))
    kind = {
      fence = sub(state, FENCE_AT, FENCE_END), is_running = stage == RUNNING,
      was_ended = stage ~= HELD and sub(state, STARTED_AT, STARTED_END) ~= NEVER_STARTED and string.char(97 + stage),
      stop = stop == 1, has_error = without ~= flags,
      queue = ready_list_parts(ready_list), holder = sub(state, HOLDER_AT, HOLDER_END), n = 0,
      without = string.char(SUCCESS, 0, SUCCEEDED, without) .. rest,
      with_result = string.char(SUCCESS, 0, SUCCEEDED, bit.bor(without, HAS_RESULT)) .. rest,
    }
    kinds[state] = kind
  end
  if not kind or kind.fence ~= fences[i] then
    answers[i] = 'x'
  elseif not kind.is_running then
    answers[i] = kind.was_ended or 'x'
  elseif seen[id] then
    answers[i] = ENDED_WELL_BEFORE
  else
    k, kind.n, seen[id] = k + 1, kind.n + 1, true
    if kind.stop then
      stopped[#stopped + 1] = id
    end
    if kind.has_error then
      errors[#errors + 1] = id
    end
    local ended, result = kind.without, has_results and ARGV[5 + i] or 'null'
    if result ~= 'null' then
      local r = #results
      ended, results[r + 1], results[r + 2] = kind.with_result, id, result
    end
    states[2 * k - 1], states[2 * k], leases[k] = id, ended, id
    answers[i] = ENDED_AS_SUCCESS
  end
end
for _, kind in pairs(kinds) do
  if kind.n > 0 then
    local queue = kind.queue
    count('R' .. queue, -kind.n)
    count('S' .. queue, kind.n)
    count('i' .. kind.holder, -kind.n)
    ends[queue] = (ends[queue] or 0) + kind.n
  end
end
