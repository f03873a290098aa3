-- Records that an attempt failed. ARGV: attempt, epoch, generation, kind, text, throttle cooldown,
-- longest cooldown, steps of the backoff, sent lease.
local NOT_SENT, AMBIGUOUS, THROTTLED, DOUBTED_INVALID, FAILED_CONSENT = 1, 4, 5, 7, 8
local OTHER_CREDENTIAL = 9
local attempt, epoch, generation = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local kind, throttle_cooldown, max_cooldown = tonumber(ARGV[7]), ARGV[9], tonumber(ARGV[10])
local sent_lease = tonumber(ARGV[12])
local MANY_FAILURES = 1000000

local function backoff(failures)
  local steps = {}
  for step in string.gmatch(ARGV[11], '%d+') do
    steps[#steps + 1] = tonumber(step)
  end
  return steps[math.min(failures, #steps)]
end

if not exists then return { 'STALE' } end -- guard: fail-not-found
-- Of a send without a lease. Zoho says it of us, not of a credential: it binds whoever sends next.
if epoch == 0 and kind == THROTTLED then
  save({ fk = kind, fe = ARGV[8], ft = now, up = now, fn = math.min(int('fn') + 1, MANY_FAILURES),
    tu = now + throttle_cooldown })
  publish()
  return { 'RECORDED', longest_cooldown_rest(max_cooldown) }
end

if attempt == '' or record.lo ~= attempt then return { 'STALE' } end -- guard: fail-owner
if int('ep') ~= epoch then return { 'STALE' } end -- guard: fail-epoch
if int('g') ~= generation then return { 'STALE' } end -- guard: fail-generation
-- Only a recorded failure leaves an owner without a lease: the answer to it was lost.
if int('ph') == NONE then return { 'RECORDED', longest_cooldown_rest(max_cooldown) } end -- guard: fail-repeated

local changes = { fk = kind, fe = ARGV[8], ft = now, up = now, ph = NONE, le = 0 }
if kind == OTHER_CREDENTIAL then
  changes = { up = now, ph = NONE, le = 0 }
elseif kind == NOT_SENT then
  -- This attempt's own entry, which a code may have followed.
  local sends = journal()
  for i = #sends, 1, -1 do
    if sends[i] == int('le') - sent_lease then
      table.remove(sends, i)
      break
    end
  end
  if int('ph') ~= SENT then sends = journal() end -- guard: fail-keeps-journal
  changes.js = journal_text(sends)
else
  changes.fn = math.min(int('fn') + 1, MANY_FAILURES)
  if kind == THROTTLED then
    changes.tu = now + throttle_cooldown
  elseif kind == FAILED_CONSENT then
    changes.st, changes.am = NEEDS_CONSENT, 0
    -- A revoked grant stays revoked, whatever Zoho says of the token that it had.
    if int('st') ~= ACTIVE then changes.st = nil end -- guard: fail-active-only
  else
    changes.nb = now + backoff(changes.fn)
    if kind == AMBIGUOUS then
      changes.am = 1
    elseif kind == DOUBTED_INVALID then
      changes.am = 0
    end
  end
end
save(changes)
publish()
return { 'RECORDED', longest_cooldown_rest(max_cooldown) }
