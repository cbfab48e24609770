-- Tasks for the rules to decide about. ARGV: notification, ids. Answers the clock, then for each task its data
-- (without a long body), its idempotency key with its name, and the task that holds that key; nothing where there is
-- none.
local ids, answer = {}, { text(now) }
for i = 2, #ARGV do
  ids[i - 1] = ARGV[i]
end
for i, blob in ipairs(read_tasks(ids)) do
  local key = blob and band(byte(blob, FLAGS), HAS_KEY) ~= 0 and call('HGET', P .. 'key', ids[i])
  answer[3 * i - 1], answer[3 * i], answer[3 * i + 1] = blob, key, key and call('HGET', P .. 'keys', key)
end
return answer
