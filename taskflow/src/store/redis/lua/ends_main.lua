-- The stages of some tasks, for callers that wait for their ends. ARGV: notification, ids. Answers for each its
-- stage, or -1 for an unknown task, and the error and the result of one that has ended.
local ids, ended, answer = {}, {}, {}
for i = 2, #ARGV do
  ids[i - 1] = ARGV[i]
end
local blobs = read_tasks(ids)
for i, id in ipairs(ids) do
  if blobs[i] and byte(blobs[i], 1) > REJECTED then
    -- Not a valid stage: a repair reports it.
    error(NOT_A_STAGE)
  elseif blobs[i] and byte(blobs[i], 1) >= SUCCESS then
    ended[#ended + 1] = id
  end
end
local errors, results, n = read_many('HMGET', 'error', ended), read_many('HMGET', 'result', ended), 0
for i in ipairs(ids) do
  local stage = blobs[i] and byte(blobs[i], 1) or -1
  local is_over = stage >= SUCCESS
  n = is_over and n + 1 or n
  answer[3 * i - 2], answer[3 * i - 1], answer[3 * i] = stage, is_over and errors[n], is_over and results[n]
end
return answer
