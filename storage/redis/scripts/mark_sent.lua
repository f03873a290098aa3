-- The last check before the first byte. ARGV: attempt, epoch, id of this call, sent lease, longest
-- lease, budget windows, longest cooldown, reign, for how long refreshes are held back, earliest and
-- latest time that the server's clock can show.
local attempt, epoch, call = ARGV[4], tonumber(ARGV[5]), ARGV[6]
local sent_lease, max_lease, windows = ARGV[7], tonumber(ARGV[8]), parse_windows(ARGV[9])
local max_cooldown, reign, held_back = tonumber(ARGV[10]), ARGV[11], tonumber(ARGV[12])

if deposed(reign) then return { 'DEPOSED' } end -- guard: mark-sent-deposed
-- The lease is from before; somebody else may have had a later one.
if held_back > 0 then return { 'LOST' } end -- guard: mark-sent-quarantine
if record.lo ~= attempt then return { 'LOST' } end -- guard: mark-sent-owner
if int('ep') ~= epoch then return { 'LOST' } end -- guard: mark-sent-epoch
if int('ph') == SENT and record.mn ~= call then return { 'ALREADY_SENT' } end -- guard: mark-sent-twice
if jumped(ARGV[13], ARGV[14]) then return { 'JUMPED', now } end -- guard: mark-sent-clock
if lease_rest(max_lease) == 0 then return { 'LOST' } end -- guard: mark-sent-live
-- Said of a code since the lease was granted.
if cooldown_rest(max_cooldown, 'tu') > 0 then return { 'LOST' } end -- guard: mark-sent-throttled
-- The same call once more, because the answer to its first try was lost: nothing was sent yet.
if int('ph') == SENT then save({}) return { 'MARKED', now } end -- guard: mark-sent-repeated

local sends = journal()
sends[#sends + 1] = now
save({ ph = SENT, le = now + sent_lease, mn = call, js = journal_text(trimmed(sends, windows)) })
return { 'MARKED', now }
