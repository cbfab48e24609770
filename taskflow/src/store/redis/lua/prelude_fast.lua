-- The beginning of the scripts for the simple cases of the most frequent calls, without prelude.lua: each function
-- that a script defines costs time, on each run. Such a script checks everything before it writes. If the case is not
-- simple, it answers nothing, has done nothing, and the general script is called.
local P, NOTIFICATION = KEYS[1], ARGV[1]
local call, sub, byte, find = redis.call, string.sub, string.byte, string.find
local pack, split = struct.pack, struct.unpack

local now = call('TIME')
now = now[1] * 1000000 + now[2]

-- The changes to `counts`, and how many tasks of each queue ended.
local changes, ends = {}, {}

local function count(field, n)
  changes[field] = (changes[field] or 0) + n
end

local function ready_list_parts(ready_list)
  local colon = find(ready_list, ':', 1, true)
  local last = colon + tonumber(sub(ready_list, 1, colon - 1))
  return sub(ready_list, colon + 1, last), sub(ready_list, last + 1)
end
