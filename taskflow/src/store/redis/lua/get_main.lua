-- All data of some tasks except their logs. ARGV: notification, ids. Answers for each its id, state with body, key,
-- run key, error, result, progress and former attempts; nothing for an unknown task.
local ids = {}
for i = 2, #ARGV do
  ids[i - 1] = ARGV[i]
end
local blobs, columns = read_tasks(ids), {}
for i, key in ipairs({ 'key', 'run_key', 'error', 'result', 'progress', 'past' }) do
  columns[i] = read_many('HMGET', key, ids)
end
local answer = {}
for i, id in ipairs(ids) do
  if blobs[i] then
    answer[#answer + 1] = id
    answer[#answer + 1] = as_it_is(id, blobs[i])
    for _, column in ipairs(columns) do
      answer[#answer + 1] = column[i]
    end
  end
end
return answer
