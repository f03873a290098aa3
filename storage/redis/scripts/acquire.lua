-- Who may refresh. ARGV: attempt, seen generation, sends that are left to others, pre-send lease,
-- longest lease, longest cooldown, budget windows, how long a reserved record lives ('': not for a
-- registration), reign, for how long refreshes are held back, earliest and latest time that the
-- server's clock can show.
local attempt, seen, reserve_for_callers = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local pre_send_lease, max_lease, max_cooldown = ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9])
local windows, registers, reserved_life = parse_windows(ARGV[10]), ARGV[11] ~= '', ARGV[11]
local reign, held_back = ARGV[12], tonumber(ARGV[13])

if deposed(reign) then return { 'DEPOSED' } end -- guard: acquire-deposed
if registers then
  reserve(reserved_life)
else
  if not exists then return { 'NOT_FOUND' } end -- guard: acquire-not-found
  if int('st') == RESERVED then return { 'NOT_FOUND' } end -- guard: acquire-reserved
  if int('st') == REVOKED then return answer('REVOKED') end -- guard: acquire-revoked
  if int('g') > seen then return answer('FRESH') end -- guard: acquire-fresh
  if int('st') == NEEDS_CONSENT then return answer('NEEDS_CONSENT') end -- guard: acquire-needs-consent
end
local rest = lease_rest(max_lease)
-- There may be a lease that this primary has never heard of, or that its clock tells wrong.
if held_back > 0 then return answer('BUSY', math.max(rest, held_back)) end -- guard: acquire-quarantine
if jumped(ARGV[14], ARGV[15]) then return answer('JUMPED') end -- guard: acquire-clock
if rest > 0 and record.lo == attempt then return answer('GRANTED', int('ep'), int('am')) end -- guard: acquire-again
if rest > 0 then return answer('BUSY', rest) end -- guard: acquire-busy
local cooldown = longest_cooldown_rest(max_cooldown)
if cooldown > 0 then return answer('COOLDOWN', cooldown) end -- guard: acquire-cooldown
local budget = budget_wait(journal(), windows, reserve_for_callers)
if budget > 0 then return answer('BUDGET', budget) end -- guard: acquire-budget

local changes = { ep = int('ep') + 1, ph = HELD, lo = attempt, le = now + pre_send_lease, mn = '' }
-- The last holder sent and never reported: what became of its request is not known.
if int('ph') == SENT then changes.am = 1 end -- guard: acquire-ambiguous
save(changes)
return answer('GRANTED', int('ep'), int('am'))
