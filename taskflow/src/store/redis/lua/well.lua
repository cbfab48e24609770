-- Here all runs ended well.
local end_otherwise
