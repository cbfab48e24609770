-- Inserts all tasks that were staged, in one script.
local answer = insert_tasks(2)
call('UNLINK', stage)
commit()
return answer
