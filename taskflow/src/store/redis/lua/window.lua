-- The recent starts, for a rate limit: the rule of `StartWindow` in Rust, which gives the reasons. The length of a
-- limit has a hundred slices. A window is stored as pairs, oldest first: the instant at which a slice ends, and the
-- starts in it. Instants keep their meaning when the length of the limit changes.

-- The part of a window that still counts, as a list of those pairs, and the starts in it.
local function remembered(window, slice, at)
  local pairs_, n, starts = {}, 0, 0
  -- An entry further ahead was written under a wrong clock and is ignored.
  local beyond = at + math.max(100 * slice, 60000000)
  for from = 1, #window, 16 do
    local ends_at, started = unpack_bytes('<i8i8', window, from)
    if at < ends_at + 100 * slice and ends_at <= beyond then
      pairs_[n + 1], pairs_[n + 2] = ends_at, started
      n, starts = n + 2, starts + started
    end
  end
  return pairs_, starts
end

-- The window after `started` more starts, at least one.
local function with_starts(pairs_, slice, at, started)
  local n, ends_at = #pairs_, (math.floor(at / slice) + 1) * slice
  -- If the clock was set back, counting goes on in the latest slice.
  if n > 0 and pairs_[n - 1] >= ends_at then
    pairs_[n] = pairs_[n] + started
  else
    pairs_[n + 1], pairs_[n + 2] = ends_at, started
  end
  local window = {}
  for i = 1, #pairs_, 2 do
    window[#window + 1] = pack('<i8i8', pairs_[i], pairs_[i + 1])
  end
  return table.concat(window)
end

-- When the next task may start, if none may now; nothing: never.
local function next_start(pairs_, starts, most, slice)
  for i = 1, #pairs_, 2 do
    starts = starts - pairs_[i + 1]
    if starts < most then
      return pairs_[i] + 100 * slice
    end
  end
end
