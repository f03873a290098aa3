-- Creates or replaces the grant. ARGV: attempt, grant type, DC, scopes, soid, display name, labels,
-- keep warm, refresh token, whether there is an access token, access token, its life, its scopes
-- and API domain ('': none), 'MEND' or '', whether the consent that is replaced matters, who had
-- registered it, whether it was revoked.
local attempt, has_tokens, lifetime = ARGV[4], ARGV[13] == '1', ARGV[15]
local conditional, registered_by, revoked = ARGV[19] == '1', ARGV[20], ARGV[21] == '1'

-- What was read cannot be used, and only part of it may be missing: it is not an answer, but what
-- is sound of it is kept, as by SalvageRecord in storage/salvage.cc.
local sound_sends, sound_throttle = {}, 0
if mend then
  local function sane(field)
    local value = record[field] or ''
    if not string.find(value, '^%d+$') or tonumber(value) >= now then return nil end -- guard: register-sane
    return value
  end
  for _, sent in ipairs(journal()) do
    if sent <= now then sound_sends[#sound_sends + 1] = sent end
  end
  -- How far away it may be is looked at where it counts.
  local throttle = record.tu or ''
  if string.find(throttle, '^%d+$') and #throttle <= 14 then sound_throttle = throttle end
  -- A reserved record expires, and its state may be what is damaged.
  redis.call(foreign and 'DEL' or 'PERSIST', key)
  if foreign or exists then
    record.g, record.ep = sane('g') or digits(now), sane('ep') or digits(now)
  end
  exists = exists or foreign ~= nil
  record.ra, record.cr = nil, sane('cr') or digits(now)
end

-- Also when it was revoked since: the late repetition of a registration revives nothing.
if record.ra == attempt then save({}) return answer('DUPLICATE') end -- guard: register-duplicate
local outcome = exists and 'REPLACED' or 'CREATED'
if int('st') == RESERVED then outcome, exists = 'CREATED', false end -- guard: register-reserved
-- Whoever registered or revoked it since has the last word. A damaged record does not know.
conditional = conditional and exists and (record.ra or '') ~= ''
if conditional and record.ra ~= registered_by then save({}) return answer('SUPERSEDED') end -- guard: register-superseded
if conditional and (int('st') == REVOKED) ~= revoked then save({}) return answer('SUPERSEDED') end -- guard: register-revoked
-- Before anything is written, so that no grant ever expires.
if int('st') == RESERVED then redis.call('PERSIST', key) end -- guard: register-persists

-- The new generation turns away every commit and failure under way, the new epoch every check
-- before sending.
local changes = { g = int('g') + 1, ep = int('ep') + 1, st = ACTIVE, ra = attempt, up = now }
clear_lease(changes)
clear_failures(changes)
changes.ty, changes.dc, changes.sc, changes.so = ARGV[5], ARGV[6], ARGV[7], ARGV[8]
changes.dn, changes.lb, changes.kw, changes.rt = ARGV[9], ARGV[10], ARGV[11], ARGV[12]
changes.at, changes.ax, changes.ct, changes.ad = '', 0, 0, ''
if has_tokens then
  changes.at, changes.ax, changes.ct = ARGV[14], now + lifetime, now
  changes.ad = ARGV[17]
  if ARGV[16] ~= '' then
    changes.sc = ARGV[16]
  end
end
changes.cr = now
if exists then changes.cr = nil end -- guard: register-keeps-created
if mend then
  changes.cr, changes.js, changes.tu = record.cr, journal_text(sound_sends), sound_throttle
end
-- The journal lives on: Zoho counts by user and client, not by our registrations.
save(changes)
publish()
return answer(outcome)
