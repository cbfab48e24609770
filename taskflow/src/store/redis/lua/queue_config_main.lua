-- The stored configuration of a queue; empty: none. ARGV: notification, queue.
return call('HGET', P .. 'asked', ARGV[2]) or ''
