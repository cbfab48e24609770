-- The ends of some runs and a claim, in one. ARGV: news, the ends, the claim.
local ends, at = finish(2)
local answer = { ends }
claim(at, answer)
commit()
return answer
