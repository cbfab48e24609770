-- Deletes those of these tasks that have ended. ARGV: notification, ids. Answers how many.
local deleted = 0
for at = 2, #ARGV do
  local t = load(ARGV[at])
  if t and t[STAGE] > RUNNING then
    forget(t)
    deleted = deleted + 1
  end
end
commit()
return deleted
