-- The stored counts.
return call('HGETALL', P .. 'counts')
