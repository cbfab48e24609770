-- Notes the schema that this program knows, if none is stored. ARGV: notification, that schema. Answers 0, or the
-- stored schema if that is another.
call('HSETNX', P .. 'meta', 'schema', ARGV[2])
local schema = call('HGET', P .. 'meta', 'schema')
return schema == ARGV[2] and 0 or tonumber(schema)
