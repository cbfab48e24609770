-- The numbers that are kept.
return call('HGETALL', P .. 'counts')
