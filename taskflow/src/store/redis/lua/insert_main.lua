-- ARGV: notification, the tasks.
local answer = insert_tasks(2)
commit()
return answer
