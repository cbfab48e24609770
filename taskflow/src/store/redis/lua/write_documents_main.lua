-- Writes documents, in order. ARGV: notification; for each its kind, its key, the version that it is expected to have
-- (empty: any), after how long it expires (empty: never), '1' to write it or '0' to delete it, and its value. Answers
-- for each the version written (of a deleted one the last, or 0), or -1 if it has another version than expected. Everything
-- that can fail is read before the first write.
local versions, expiries, answers, writes = {}, {}, {}, {}

-- If another program has put a key of another type there, this fails.
call('ZCARD', P .. 'documents_expiring')

-- The version of a document; 0 if it is not there.
local function look(kind, key)
  local blob = call('HGET', P .. 'documents:' .. kind, key)
  local is_listed = call('ZSCORE', P .. 'document_keys:' .. kind, key)
  if not blob or #blob < DOCUMENT_AT - 1 then
    return 0
  end
  local version, _, expires = unpack_bytes(DOCUMENT, blob)
  if not is_listed or expires <= now or version < 1 or version >= DOCUMENT_VERSIONS then
    version = 0
  end
  return version
end

for at = 2, #ARGV, 6 do
  local kind, key, expected = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local document = kind .. '\0' .. key
  local version = versions[document] or look(kind, key)
  if expected ~= '' and tonumber(expected) ~= version then
    answers[#answers + 1] = -1
  else
    if ARGV[at + 4] == '1' then
      version = version + 1
      local length = tonumber(ARGV[at + 3])
      -- A document that expires at once is not there for the writes after it.
      versions[document] = length == 0 and 0 or version
      writes[#writes + 1] = { at, version }
      answers[#answers + 1] = version
    else
      versions[document] = 0
      writes[#writes + 1] = { at }
      answers[#answers + 1] = version
    end
  end
end

for _, write in ipairs(writes) do
  local at, version = write[1], write[2]
  local kind, key, length = ARGV[at], ARGV[at + 1], ARGV[at + 3]
  local document = kind .. '\0' .. key
  if not version then
    call('HDEL', P .. 'documents:' .. kind, key)
    call('ZREM', P .. 'document_keys:' .. kind, key)
    call('ZREM', P .. 'documents_expiring', document)
  else
    local expires = length == '' and NEVER or later_by(tonumber(length))
    call('HSET', P .. 'documents:' .. kind, key, pack(DOCUMENT, version, now, expires) .. ARGV[at + 5])
    call('ZADD', P .. 'document_keys:' .. kind, 0, key)
    if expires == NEVER then
      call('ZREM', P .. 'documents_expiring', document)
    else
      call('ZADD', P .. 'documents_expiring', text(expires), document)
    end
  end
end
return answers
