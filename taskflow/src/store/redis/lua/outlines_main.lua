-- Some tasks without what may be large. ARGV: news, ids. Answers as `get_main.lua` does, with arguments that are null and
-- neither a result, nor progress, nor former attempts. A damaged task is answered whole.

-- Where the arguments of a task begin: behind lane, crowd, policy and tags.
local function args_of(task)
  local _, _, at = unpack_bytes(WORDS, task, LANE_AT)
  local _, tags, args_at = unpack_bytes('<I4c0I4', task, at)
  for _ = 1, 2 * tags do
    _, args_at = unpack_bytes('<I4c0', task, args_at)
  end
  return args_at
end

local ids = {}
for i = 2, #ARGV do
  ids[i - 1] = ARGV[i]
end
local blobs, columns = read_tasks(ids), {}
for i, key in ipairs({ 'key', 'run_key', 'error' }) do
  columns[i] = read_many('HMGET', key, ids)
end
local answer = {}
for i, id in ipairs(ids) do
  if blobs[i] then
    local task = with_body(id, blobs[i])
    local is_read, args_at = pcall(args_of, task)
    answer[#answer + 1] = id
    answer[#answer + 1] = is_read and sub(task, 1, args_at - 1) .. 'null' or task
    for _, column in ipairs(columns) do
      answer[#answer + 1] = column[i]
    end
    for _ = 1, 3 do
      answer[#answer + 1] = false
    end
  end
end
return answer
