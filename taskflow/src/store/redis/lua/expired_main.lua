-- Runs and holds whose lease has ended, up to ARGV[2] of them: id, state and policy of each. What becomes of them is
-- decided by the one rule in Rust, and done by `lose`, which looks again.
local ids = call('ZRANGEBYSCORE', P .. 'leases', '-inf', now, 'LIMIT', 0, ARGV[2])
local blobs, bodies, answer = read_many('HMGET', 'state', ids), read_many('HMGET', 'body', ids), {}
for i, id in ipairs(ids) do
  answer[3 * i - 2], answer[3 * i - 1] = id, blobs[i]
  answer[3 * i] = sub(bodies[i], 5, 4 + unpack_bytes('<I4', bodies[i]))
end
return answer
