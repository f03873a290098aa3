-- Marks the grant revoked. The tokens stay until they are revoked upstream, too. ARGV:
-- whether it matters who had registered it, and who had.
if not exists then return { 'NOT_FOUND' } end -- guard: revoke-not-found
if int('st') == RESERVED then return { 'NOT_FOUND' } end -- guard: revoke-reserved
-- A call that the network delivers late does not end the consent that came after it.
if ARGV[4] == '1' and (record.ra or '') ~= ARGV[5] then return answer('SUPERSEDED') end -- guard: revoke-superseded
if int('st') == REVOKED then save({}) return answer('ALREADY_REVOKED') end -- guard: revoke-again

local changes = { g = int('g') + 1, ep = int('ep') + 1, st = REVOKED, up = now }
clear_lease(changes)
clear_failures(changes)
save(changes)
publish()
return answer('REVOKED')
