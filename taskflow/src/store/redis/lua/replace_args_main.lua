-- Replaces the arguments of tasks that still have those that the caller has read. ARGV: notification; for each its id, the
-- arguments to replace, those to store. Answers a byte for each: '1' or '0'.
local answer = {}
for at = 2, #ARGV, 3 do
  local t = load(ARGV[at])
  local body = t and (t.body ~= '' and t.body or call('HGET', P .. 'body', t.id)) or ''
  local is_readable, args_at = pcall(args_of, body)
  local is_so = is_readable and sub(body, args_at) == ARGV[at + 1]
  if is_so then
    set_body(t, sub(body, 1, args_at - 1) .. ARGV[at + 2])
    save(t)
  end
  answer[#answer + 1] = is_so and '1' or '0'
end
commit()
return table.concat(answer)
