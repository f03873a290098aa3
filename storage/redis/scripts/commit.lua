-- Stores what the token endpoint gave. Does not ask whether the lease is still live: a late success
-- is valuable. ARGV: attempt, generation, life of the access token, access token, refresh token,
-- scopes, API domain (the last three: '' keeps what is stored).
local attempt, generation, lifetime = ARGV[4], tonumber(ARGV[5]), ARGV[6]

if not exists then return { 'NOT_FOUND' } end -- guard: commit-not-found
if int('st') == RESERVED then return { 'NOT_FOUND' } end -- guard: commit-reserved
if record.ca == attempt then save({}) return answer('DUPLICATE') end -- guard: commit-duplicate
if int('st') == REVOKED then save({}) return answer('REVOKED') end -- guard: commit-revoked
local changes = {}
clear_lease(changes)
-- Another attempt that has the lease by now may be about to send.
if record.lo ~= attempt or int('ph') == NONE then changes = {} end -- guard: commit-foreign-lease
if int('g') ~= generation then save(changes) return answer('SUPERSEDED') end -- guard: commit-superseded

clear_failures(changes)
changes.g, changes.st = int('g') + 1, ACTIVE
changes.at, changes.ax, changes.ct = ARGV[7], now + lifetime, now
changes.rt, changes.sc, changes.ad = ARGV[8], ARGV[9], ARGV[10]
if ARGV[8] == '' then changes.rt = nil end -- guard: commit-keeps-refresh-token
if ARGV[9] == '' then changes.sc = nil end -- guard: commit-keeps-scopes
if ARGV[10] == '' then changes.ad = nil end -- guard: commit-keeps-api-domain
changes.ca, changes.up = attempt, now
save(changes)
publish()
return answer('COMMITTED')
