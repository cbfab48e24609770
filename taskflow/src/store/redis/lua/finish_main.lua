-- ARGV: notification, the ends.
local answer = finish(2)
commit()
return answer
