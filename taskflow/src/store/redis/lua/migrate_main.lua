-- Notes the schema that this program knows. ARGV: notification, that schema. Answers with the stored schema, if that is
-- another.
call('HSETNX', P .. 'meta', 'schema', ARGV[2])
local schema = call('HGET', P .. 'meta', 'schema')
return schema == ARGV[2] and 0 or tonumber(schema)
