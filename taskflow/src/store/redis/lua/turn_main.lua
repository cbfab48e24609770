-- Ends runs and makes a claim in one script. ARGV: notification, the finishes, the claim. If the claim meets damage,
-- the finishes stay applied; the answer then contains only these.
local ends, at = finish(2)
local answer = { ends }
if not pcall(claim, at, answer) then
  answer = { ends }
end
commit()
return answer
