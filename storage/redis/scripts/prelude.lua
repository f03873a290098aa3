-- What every script starts with. The rules are those of storage/protocol.cc; each check that keeps
-- the protocol safe is one line that ends in a `guard` comment, so that a test can take it away and
-- see that something breaks.
--
-- KEYS[1]  the grant's record, a hash
-- ARGV[1]  milliseconds to add to the server's clock (0 but in tests)
-- ARGV[2]  channel for change events
-- ARGV[3]  the grant's encoded key, for the event
-- ARGV[4…] the script's own
--
-- Fields: g generation, ep epoch, st state, ty grant type, dc, sc scopes, so soid, dn display name,
-- lb labels, kw keep warm, rt refresh token, at access token, ax its expiry, ct when it was stored, ad API
-- domain, ph lease phase, lo lease owner, le lease end, mn the call that marked the send, nb not before, fk kind, fe
-- text and ft time of the last failure, fn consecutive failures, am ambiguous, js journal of sends,
-- ca last commit attempt, ra last register attempt, co last counted attempt, tu throttled until, cr
-- created, up updated. Times are milliseconds since the epoch, 0 for none. The key of a reserved
-- record, and no other one, expires.
local ACTIVE, NEEDS_CONSENT, REVOKED, RESERVED = 1, 2, 3, 4
local NONE, HELD, SENT = 0, 1, 2

local key, channel, event_key = KEYS[1], ARGV[2], ARGV[3]

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]

-- Registering may replace a record that cannot be read, and says so by an argument of its own.
local mend = ARGV[18] == 'MEND'

local record = {}
local flat = redis.pcall('HGETALL', key)
local foreign = flat.err and string.find(flat.err, 'WRONGTYPE', 1, true)
if flat.err and not (foreign and mend) then return flat end -- guard: readable-type
for i = 1, #flat, 2 do
  record[flat[i]] = flat[i + 1]
end
local exists = #flat > 0

-- True: a record without it is damaged.
local INTEGERS = {
  g = true, ep = true, st = true, ax = false, ph = false, le = false, nb = false, tu = false,
  fn = false, am = false,
}
for field, required in pairs(INTEGERS) do
  local value = record[field] or (required and '' or '0')
  if exists and not mend and not string.find(value, '^%-?%d+$') then return redis.error_reply('UNREADABLE ' .. field) end -- guard: readable
end

local function int(field)
  return tonumber(record[field] or 0)
end

-- Lua's own conversion rounds to 14 digits.
local function digits(number)
  return string.format('%.0f', number)
end

-- All changes of an operation are one command: they are stored together or not at all. Where there
-- are none, what stands is written once more: replicas are to have it before an answer is repeated,
-- and since Redis 7.2 WAIT waits only for what its own connection has written.
local function save(changes)
  local words = {}
  for field, value in pairs(changes) do
    if type(value) == 'number' then
      value = digits(value)
    end
    record[field] = value
    words[#words + 1] = field
    words[#words + 1] = value
  end
  if #words == 0 then
    words = { 'g', record.g }
  end
  redis.call('HSET', key, unpack(words))
end

-- The record of a grant that is not there, for a registration that is about to send. It goes away
-- when nobody has come back for it for `life`.
local function reserve(life)
  if not exists then
    save({ g = 0, ep = 0, st = RESERVED, ty = 1, dc = '' })
  end
  if int('st') ~= RESERVED then return end -- guard: reserve-keeps-grants
  redis.call('PEXPIRE', key, life)
end

-- An event that cannot be published must not undo what was stored: who waits for it polls, too. That
-- of a reserved record says nothing to anybody: who gets it drops it.
local function publish()
  redis.pcall('PUBLISH', channel, record.g .. ' ' .. record.st .. ' ' .. event_key)
end

local function answer(outcome, first, second)
  local fields = {}
  for field, value in pairs(record) do
    fields[#fields + 1] = field
    fields[#fields + 1] = value
  end
  return { outcome, now, fields, first or 0, second or 0 }
end

-- Whether the server has lost its primacy since the connection was made that brought `reign`, even
-- if it has it again: then it may have lost leases, too. '': not asked. INFO costs a script about
-- two microseconds (measured: 225,000 calls a second with it, 374,000 without).
local function deposed(reign)
  if reign == '' then return false end -- guard: deposed-unasked
  local info = redis.call('INFO', 'replication')
  return string.match(info, 'master_replid2:(%x+)') ~= reign
end

-- Whether the server's clock is not where the broker knows it to be: it was set, or the call comes
-- long after it was made.
local function jumped(earliest, latest)
  local time_of_server = now - ARGV[1]
  return time_of_server < tonumber(earliest) or time_of_server > tonumber(latest)
end

-- 0: there is no live lease. A cleared one ends at 0.
local function lease_rest(max_lease)
  local rest = int('le') - now
  if rest > max_lease then return 0 end -- guard: lease-clamp
  return math.max(rest, 0)
end

-- 'nb': no acquire before; 'tu': Zoho throttles.
local function cooldown_rest(max_cooldown, field)
  local rest = int(field) - now
  if rest > max_cooldown then return 0 end -- guard: cooldown-clamp
  return math.max(rest, 0)
end

local function longest_cooldown_rest(max_cooldown)
  return math.max(cooldown_rest(max_cooldown, 'nb'), cooldown_rest(max_cooldown, 'tu'))
end

local function clear_lease(changes)
  changes.ph, changes.lo, changes.le, changes.mn = NONE, '', 0, ''
end

-- That Zoho throttles is not the grant's own failure: it stays.
local function clear_failures(changes)
  changes.nb, changes.fk, changes.fe, changes.ft, changes.fn, changes.am = 0, 0, '', 0, 0, 0
end

-- 'sends:milliseconds,…'
local function parse_windows(text)
  local windows = {}
  for sends, length in string.gmatch(text, '(%d+):(%d+)') do
    windows[#windows + 1] = { sends = tonumber(sends), length = tonumber(length) }
  end
  return windows
end

local function journal()
  local sends = {}
  for sent in string.gmatch(record.js or '', '%d+') do
    sends[#sends + 1] = tonumber(sent)
  end
  return sends
end

local function journal_text(sends)
  local words = {}
  for i, sent in ipairs(sends) do
    words[i] = digits(sent)
  end
  return table.concat(words, ',')
end

-- Those that still count in a window of this length. An entry from further ahead than that was
-- written by a clock that jumped.
local function counted(sends, length)
  local kept = {}
  for _, sent in ipairs(sends) do
    if math.abs(now - sent) < length then
      kept[#kept + 1] = sent
    end
  end
  return kept
end

-- How long until every window has room for one more send besides `sends`.
local function budget_wait(sends, windows, reserved_for_others)
  local wait = 0
  for _, window in ipairs(windows) do
    local in_window = counted(sends, window.length)
    local allowed = math.max(1, window.sends - reserved_for_others)
    if #in_window >= allowed then
      wait = math.max(wait, in_window[#in_window - allowed + 1] + window.length - now)
    end
  end
  return wait
end

-- Without what no window can count, so that the journal stays short whatever is registered.
local function trimmed(sends, windows)
  local longest, useful = 0, 0
  for _, window in ipairs(windows) do
    longest = math.max(longest, window.length)
    useful = math.max(useful, window.sends)
  end
  local kept, last = counted(sends, longest), {}
  for i = math.max(1, #kept - useful + 1), #kept do
    last[#last + 1] = kept[i]
  end
  return last
end
