-- Deletes documents that have expired. ARGV: notification, how many at most. Answers how many entries it has removed.
local expired = call('ZRANGEBYSCORE', P .. 'documents_expiring', '-inf', text(now), 'LIMIT', 0, ARGV[2])
for _, document in ipairs(expired) do
  local nul = find(document, '\0', 1, true)
  if nul then
    local kind, key = sub(document, 1, nul - 1), sub(document, nul + 1)
    local blob = call('HGET', P .. 'documents:' .. kind, key)
    local expires = blob and #blob >= DOCUMENT_AT - 1 and select(3, unpack_bytes(DOCUMENT, blob))
    -- Another program may have changed the score.
    if not expires or expires <= now then
      call('HDEL', P .. 'documents:' .. kind, key)
      call('ZREM', P .. 'document_keys:' .. kind, key)
    end
  end
  call('ZREM', P .. 'documents_expiring', document)
end
return #expired
