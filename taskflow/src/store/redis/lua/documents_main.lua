-- Documents of one kind, in the order of their keys. ARGV: notification, kind, the least and the greatest key as
-- ZRANGEBYLEX takes them, '1' for the greatest first, how many at most. Looks at no more than DOCUMENTS_LOOKED_AT keys, and
-- stops after DOCUMENTS_BYTES of values, so that it does not stop other calls for long. Answers the key after which to go
-- on (empty list: there is nothing more), then each key with its document.
local kind, least, greatest, descending, limit = ARGV[2], ARGV[3], ARGV[4], ARGV[5] == '1', tonumber(ARGV[6])
local keys
if descending then
  keys = call('ZREVRANGEBYLEX', P .. 'document_keys:' .. kind, greatest, least, 'LIMIT', 0, DOCUMENTS_LOOKED_AT)
else
  keys = call('ZRANGEBYLEX', P .. 'document_keys:' .. kind, least, greatest, 'LIMIT', 0, DOCUMENTS_LOOKED_AT)
end
local found, bytes, looked_at = { {} }, 0, 0
for _, key in ipairs(keys) do
  if #found > 2 * limit or bytes >= DOCUMENTS_BYTES then
    break
  end
  looked_at = looked_at + 1
  local blob = call('HGET', P .. 'documents:' .. kind, key)
  if blob and #blob >= DOCUMENT_AT - 1 then
    local _, _, expires = unpack_bytes(DOCUMENT, blob)
    if expires > now then
      found[#found + 1], found[#found + 2] = key, blob
      bytes = bytes + #blob
    end
  end
end
if looked_at < #keys or #keys == DOCUMENTS_LOOKED_AT then
  found[1] = { keys[looked_at] }
end
return found
