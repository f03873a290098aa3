-- Counts a send that has no lease. ARGV: attempt, longest lease, longest cooldown, budget windows,
-- how long a reserved record lives, reign, and what is for leases.
local attempt, max_lease, max_cooldown = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local windows, reserved_life, reign = parse_windows(ARGV[7]), ARGV[8], ARGV[9]

if deposed(reign) then return { 'DEPOSED' } end -- guard: count-send-deposed
reserve(reserved_life)
if record.co == attempt then save({}) return { 'COUNTED', now } end -- guard: count-send-again
local throttle = cooldown_rest(max_cooldown, 'tu')
if throttle > 0 then return { 'THROTTLED', now, throttle } end -- guard: count-send-throttled
local expected = journal()
-- Whoever holds the lease had its place in the budget when it was granted.
if int('ph') == HELD and lease_rest(max_lease) > 0 then expected[#expected + 1] = now end -- guard: count-send-held
local budget = budget_wait(expected, windows, 0)
if budget > 0 then return { 'BUDGET', now, budget } end -- guard: count-send-budget

local sends = journal()
sends[#sends + 1] = now
save({ co = attempt, js = journal_text(trimmed(sends, windows)) })
return { 'COUNTED', now }
