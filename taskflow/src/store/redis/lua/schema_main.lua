-- ARGV: notification, the schema that this program knows. Answers with the stored schema, if that is another; -1: there
-- is none.
local schema = call('HGET', P .. 'meta', 'schema')
if not schema then
  return -1
end
return schema == ARGV[2] and 0 or tonumber(schema)
