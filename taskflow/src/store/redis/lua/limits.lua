-- How many tasks all processes together may take from a queue.

-- What the limits of a queue leave of `room`. Each limit may be empty: no limit. `most` of its tasks may run; `of_group`
-- of one concurrency group, which is only recorded in `limit_of`; `starts` may start in a hundred times `slice`, which is
-- also recorded in `rates`.
local function limited(slot, queue, room, most, of_group, starts, slice, limit_of, rates)
  if most ~= '' then
    local running = tonumber(call('HGET', P .. 'counts', 'R' .. queue) or 0) + (changes['R' .. queue] or 0)
    room = math.max(math.min(room, most - running), 0)
  end
  if of_group ~= '' then
    limit_of[queue] = tonumber(of_group)
  end
  if starts ~= '' then
    local rate = { slot = slot, queue = queue, most = tonumber(starts), slice = tonumber(slice) }
    rate.window, rate.starts = remembered(call('HGET', P .. 'starts', queue) or '', rate.slice, now)
    room = math.max(math.min(room, rate.most - rate.starts), 0)
    rate.free = room
    rates[#rates + 1] = rate
  end
  return room
end

local function has_pending(queue)
  local fields, pending = { 'D' .. queue, 'L' .. queue, 'A' .. queue, 'X' .. queue, 'H' .. queue }, 0
  for i, n in ipairs(call('HMGET', P .. 'counts', unpack(fields))) do
    pending = pending + (tonumber(n or 0) or 0) + (changes[fields[i]] or 0)
  end
  return pending > 0
end

-- Records the starts, and answers in how many microseconds the next task may start if none may now; -1: unknown.
local function count_starts(rates, free)
  local due_in = -1
  for _, rate in ipairs(rates) do
    local started = rate.free - free[rate.slot]
    if started > 0 then
      call('HSET', P .. 'starts', rate.queue, with_starts(rate.window, rate.slice, now, started))
      rate.starts = rate.starts + started
    end
    if rate.starts >= rate.most and has_pending(rate.queue) then
      local at = next_start(rate.window, rate.starts, rate.most, rate.slice)
      if at and (due_in < 0 or at - now < due_in) then
        due_in = at - now
      end
    end
  end
  return due_in
end
