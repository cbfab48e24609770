-- The ends of some runs and a claim, in one. ARGV: notification, the ends, the claim. A claim that meets damage leaves the ends as they are: the
-- answer then has nothing but these.
local ends, at = finish(2)
local answer = { ends }
if not pcall(claim, at, answer) then
  answer = { ends }
end
commit()
return answer
