-- ARGV: notification, the claim.
local answer = {}
claim(2, answer)
commit()
return answer
