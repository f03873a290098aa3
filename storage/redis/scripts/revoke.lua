-- Marks the grant revoked. The tokens stay until they are revoked upstream, too.
if not exists then return { 'NOT_FOUND' } end -- guard: revoke-not-found
if int('st') == RESERVED then return { 'NOT_FOUND' } end -- guard: revoke-reserved
if int('st') == REVOKED then save({}) return answer('ALREADY_REVOKED') end -- guard: revoke-again

local changes = { g = int('g') + 1, ep = int('ep') + 1, st = REVOKED, up = now }
clear_lease(changes)
clear_failures(changes)
save(changes)
publish()
return answer('REVOKED')
