-- Some tasks without the parts that may be large. ARGV: notification, ids. Answers as `get_main.lua` does, with
-- arguments that are null and without result, progress and former attempts. A damaged task is answered in full.

-- A joined task with `null` as its arguments, which come after its policy and tags. A long body is copied only once,
-- when the server reads it.
local function without_args(id, task)
  local _, _, body_at = unpack_bytes(WORDS, task, READY_LIST_AT)
  local head, body, at = task, task, body_at
  if body_at > #task then
    body, at = call('HGET', P .. 'body', id), 1
  else
    head = sub(task, 1, body_at - 1)
  end
  return head .. sub(body, at, args_of(body, at) - 1) .. 'null'
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
    local is_readable, outline = pcall(without_args, id, blobs[i])
    answer[#answer + 1] = id
    answer[#answer + 1] = is_readable and outline or as_it_is(id, blobs[i])
    for _, column in ipairs(columns) do
      answer[#answer + 1] = column[i]
    end
    for _ = 1, 3 do
      answer[#answer + 1] = false
    end
  end
end
return answer
