-- No runs end with this claim.
local states, at = {}, 2
