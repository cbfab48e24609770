-- ARGV: notification, the schema that this program knows. Answers 0; or the stored schema, if that is another; or -1,
-- if there is none.
local schema = call('HGET', P .. 'meta', 'schema')
if not schema then
  return -1
end
return schema == ARGV[2] and 0 or tonumber(schema)
