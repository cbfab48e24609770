-- Some tasks without what may be large. ARGV: news, ids. Answers as `get_main.lua` does, with arguments that are null and
-- neither a result, nor progress, nor former attempts.
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
    local _, _, at = unpack_bytes(WORDS, task, LANE_AT)
    local _, tags, args_at = unpack_bytes('<s4I4', task, at)
    for _ = 1, 2 * tags do
      _, args_at = unpack_bytes('<s4', task, args_at)
    end
    answer[#answer + 1] = id
    answer[#answer + 1] = sub(task, 1, args_at - 1) .. 'null'
    for _, column in ipairs(columns) do
      answer[#answer + 1] = column[i]
    end
    for _ = 1, 3 do
      answer[#answer + 1] = false
    end
  end
end
return answer
