-- ARGV: news, number of names, names, number of queues, queues.
local is_known, _, at = read_names(2)
local slot_of = {}
for i = 1, tonumber(ARGV[at]) do
  slot_of[ARGV[at + i]] = i
end
return text(next_due(is_known, slot_of, function() return false end))
