#include "storage/protocol.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "storage/send_journal.h"

namespace tokenbroker {
namespace {

constexpr size_t kMaxErrorBytes = 200;

void ClearLease(GrantRecord& record) {
  record.phase = LeasePhase::kNone;
  record.lease_owner.clear();
  record.lease_end = absl::InfinitePast();
}

// After a success, a registration or a revocation: what failed before says nothing any more. That
// Zoho throttles does.
void ClearFailures(GrantRecord& record) {
  record.not_before = absl::InfinitePast();
  record.last_failure = FailureKind::kNone;
  record.last_error.clear();
  record.last_failure_time = absl::InfinitePast();
  record.consecutive_failures = 0;
  record.ambiguous = false;
}

// A grant that is registered or revoked is another one from now on. The generation turns away every
// commit and failure under way, the epoch every check before sending.
void SupersedeEverything(GrantRecord& record, absl::Time now) {
  ++record.generation;
  ++record.epoch;
  ClearLease(record);
  ClearFailures(record);
  record.updated = now;
}

void StoreAccessToken(GrantRecord& record, const MintedTokens& tokens, absl::Time now) {
  record.access_token = tokens.access_token;
  record.access_expiry = ToMilliseconds(now + tokens.lifetime);
  record.access_stored = now;
  if (!tokens.scopes.empty()) record.info.scopes = tokens.scopes;
  if (!tokens.api_domain.empty()) record.api_domain = tokens.api_domain;
}

absl::Duration WaitUntil(const ProtocolLimits& limits, absl::Time end, absl::Time now) {
  const absl::Duration wait = end - now;
  if (wait > limits.MaxCooldown()) return absl::ZeroDuration();
  return std::max(wait, absl::ZeroDuration());
}

// Whoever registered or revoked a grant while a credential was spent for it, or could not be
// stored, has the last word: nobody who was told so is to find it undone later. What was salvaged
// does not know who had registered it.
bool HasConsent(const GrantRecord& record, const Consent& found) {
  return record.last_register_attempt.empty() || record.consent() == found;
}

// The record of a grant that is not there, for a registration that is about to send.
void Reserve(std::optional<GrantRecord>& record, const GrantKey& key) {
  if (record) return;
  record.emplace();
  record->key = key;
  record->state = GrantState::kReserved;
}

absl::Duration Backoff(const ProtocolLimits& limits, int32_t failures) {
  const std::vector<absl::Duration>& steps = limits.failure_backoff;
  return steps[std::min(static_cast<size_t>(failures), steps.size()) - 1];
}

}  // namespace

bool IsGrant(const std::optional<GrantRecord>& record) {
  return record && record->state != GrantState::kReserved;
}

absl::Duration CooldownWait(const ProtocolLimits& limits, const GrantRecord& record,
                            absl::Time now) {
  return std::max(WaitUntil(limits, record.not_before, now), ThrottleWait(limits, record, now));
}

absl::Duration ThrottleWait(const ProtocolLimits& limits, const GrantRecord& record,
                            absl::Time now) {
  return WaitUntil(limits, record.throttled_until, now);
}

absl::Time ToMilliseconds(absl::Time time) {
  return absl::FromUnixMillis(absl::ToUnixMillis(time));
}

absl::Duration BudgetWait(const ProtocolLimits& limits, const GrantRecord& record, Purpose purpose,
                          absl::Time now) {
  const int reserve = purpose == Purpose::kBackground ? limits.background_reserve : 0;
  return WaitForRoom(limits, record.sends, reserve, now);
}

bool LeaseIsLive(const ProtocolLimits& limits, const GrantRecord& record, absl::Time now) {
  const absl::Duration rest = record.lease_end - now;
  return record.phase != LeasePhase::kNone && rest > absl::ZeroDuration() &&
         rest <= limits.MaxLease();
}

Applied<AcquireResult> ApplyAcquire(const ProtocolLimits& limits,
                                    std::optional<GrantRecord>& stored,
                                    const AcquireRequest& request, absl::Time now) {
  using Outcome = AcquireResult::Outcome;
  now = ToMilliseconds(now);
  Applied<AcquireResult> applied;
  AcquireResult& result = applied.result;

  const bool registers = request.purpose == Purpose::kRegistration;
  if (registers) {
    Reserve(stored, request.key);
  } else if (!IsGrant(stored)) {
    return applied;
  }
  GrantRecord& record = *stored;
  record.store_now = now;
  if (!registers) {
    if (record.state == GrantState::kRevoked) {
      result.outcome = Outcome::kRevoked;
      return applied;
    }
    // Somebody else has refreshed since the caller looked: a second refresh would only spend
    // budget. Before needs consent: a caller that holds an older token gets the newer one while it
    // lives.
    if (record.generation > request.seen_generation) {
      result.outcome = Outcome::kFresh;
      return applied;
    }
    if (record.state == GrantState::kNeedsConsent) {
      result.outcome = Outcome::kNeedsConsent;
      return applied;
    }
  }
  if (LeaseIsLive(limits, record, now)) {
    if (record.lease_owner != request.attempt_id) {
      result.outcome = Outcome::kBusy;
      result.wait = record.lease_end - now;
      return applied;
    }
    // The answer to this attempt's first try was lost: the same answer, the same epoch. Should it
    // have sent in between, mark_sent says so.
    result.outcome = Outcome::kGranted;
    result.epoch = record.epoch;
    result.previous_ambiguous = record.ambiguous;
    return applied;
  }
  result.wait = CooldownWait(limits, record, now);
  if (result.wait > absl::ZeroDuration()) {
    result.outcome = Outcome::kCooldown;
    return applied;
  }
  result.wait = BudgetWait(limits, record, request.purpose, now);
  if (result.wait > absl::ZeroDuration()) {
    result.outcome = Outcome::kBudget;
    return applied;
  }

  // The last holder sent and never reported: its request may have been carried out, and may have
  // rotated the refresh token. A holder that never got to sending leaves no doubt behind.
  if (record.phase == LeasePhase::kSent) record.ambiguous = true;
  ++record.epoch;
  record.phase = LeasePhase::kHeld;
  record.lease_owner = request.attempt_id;
  record.lease_end = ToMilliseconds(now + limits.pre_send_lease);
  if (record.state == GrantState::kReserved) record.updated = now;
  result.outcome = Outcome::kGranted;
  result.epoch = record.epoch;
  result.previous_ambiguous = record.ambiguous;
  applied.changed = true;
  return applied;
}

Applied<MarkSentOutcome> ApplyMarkSent(const ProtocolLimits& limits, GrantRecord& record,
                                       const MarkSentRequest& request, absl::Time now) {
  now = ToMilliseconds(now);
  record.store_now = now;
  if (record.lease_owner != request.attempt_id || record.epoch != request.epoch) {
    return {MarkSentOutcome::kLost};
  }
  // A library that repeats the request by itself, or a lost answer: either way it may have left.
  if (record.phase == LeasePhase::kSent) return {MarkSentOutcome::kAlreadySent};
  // Given back, or run out: whoever comes next may take it at any moment. Not safe to send any
  // more.
  if (!LeaseIsLive(limits, record, now)) return {MarkSentOutcome::kLost};
  // Said of a code since the lease was granted.
  if (ThrottleWait(limits, record, now) > absl::ZeroDuration()) return {MarkSentOutcome::kLost};

  // Counted before it is sent: a crash between the two costs a send, never Zoho's limit.
  AddSend(limits, record.sends, now);
  record.phase = LeasePhase::kSent;
  record.lease_end = ToMilliseconds(now + limits.sent_lease);
  return {.result = MarkSentOutcome::kMarked, .changed = true};
}

Applied<CountSendResult> ApplyCountSend(const ProtocolLimits& limits,
                                        std::optional<GrantRecord>& stored,
                                        const CountSendRequest& request, absl::Time now) {
  using Outcome = CountSendResult::Outcome;
  now = ToMilliseconds(now);
  Applied<CountSendResult> applied;
  CountSendResult& result = applied.result;

  Reserve(stored, request.key);
  GrantRecord& record = *stored;
  record.store_now = now;
  if (record.last_counted_attempt == request.attempt_id) {
    result.outcome = Outcome::kCounted;
    return applied;
  }
  // Not the grant's own cooldown: what Zoho thinks of its refresh token says nothing about a code.
  result.wait = ThrottleWait(limits, record, now);
  if (result.wait > absl::ZeroDuration()) {
    result.outcome = Outcome::kThrottled;
    return applied;
  }
  SendJournal sends = record.sends;
  // Whoever holds the lease had its place in the budget when it was granted.
  if (record.phase == LeasePhase::kHeld && LeaseIsLive(limits, record, now)) sends.push_back(now);
  result.wait = WaitForRoom(limits, sends, /*reserve=*/0, now);
  if (result.wait > absl::ZeroDuration()) {
    result.outcome = Outcome::kBudget;
    return applied;
  }
  AddSend(limits, record.sends, now);
  record.last_counted_attempt = request.attempt_id;
  if (record.state == GrantState::kReserved) record.updated = now;
  result.outcome = Outcome::kCounted;
  applied.changed = true;
  return applied;
}

Applied<CommitResult> ApplyCommit(GrantRecord& record, const CommitRequest& request,
                                  absl::Time now) {
  using Outcome = CommitResult::Outcome;
  now = ToMilliseconds(now);
  record.store_now = now;
  Applied<CommitResult> applied;
  if (record.state == GrantState::kReserved) return applied;

  // Before all else: whatever has happened since, these tokens were stored.
  if (record.last_commit_attempt == request.attempt_id) {
    applied.result.outcome = Outcome::kDuplicate;
    return applied;
  }
  if (record.state == GrantState::kRevoked) {
    applied.result.outcome = Outcome::kRevoked;
    return applied;
  }
  const bool own_lease =
      record.phase != LeasePhase::kNone && record.lease_owner == request.attempt_id;
  // Something newer is stored; this result was made from what it replaced.
  if (record.generation != request.generation) {
    applied.result.outcome = Outcome::kSuperseded;
    // The attempt is over and its fate known: nobody has to wait for its lease or doubt it.
    if (own_lease) {
      ClearLease(record);
      applied.changed = true;
    }
    return applied;
  }

  // No look at the lease: a holder that was paused past its end may have the only refresh token
  // that is still valid. Nor at needs consent: these tokens prove that the grant lives.
  ++record.generation;
  record.state = GrantState::kActive;
  StoreAccessToken(record, request.tokens, now);
  if (!request.tokens.refresh_token.empty()) record.refresh_token = request.tokens.refresh_token;
  ClearFailures(record);
  // Another attempt that has a lease by now may be about to send: its lease goes on binding others.
  if (own_lease) ClearLease(record);
  record.last_commit_attempt = request.attempt_id;
  record.updated = now;
  applied.result.outcome = Outcome::kCommitted;
  applied.changed = true;
  applied.publish = true;
  return applied;
}

Applied<FailResult> ApplyFail(const ProtocolLimits& limits, GrantRecord& record,
                              const FailRequest& request, absl::Time now) {
  using Outcome = FailResult::Outcome;
  now = ToMilliseconds(now);
  record.store_now = now;
  Applied<FailResult> applied;

  // Of a send without a lease. Zoho says it of us, not of a credential: it binds whoever sends
  // next.
  const bool counted_send = request.epoch == 0;
  if (counted_send && request.kind != FailureKind::kThrottled) return applied;

  // Each of the three matters. Another owner: that attempt's fate is not ours to tell. Another
  // epoch: this one's lease had run out in between. Another generation: a late success or a
  // registration has made the grant live, and an invalid_code for the old refresh token must not
  // kill it.
  if (!counted_send && (record.lease_owner != request.attempt_id || record.epoch != request.epoch ||
                        record.generation != request.generation || request.attempt_id.empty())) {
    return applied;
  }
  applied.result.outcome = Outcome::kRecorded;
  // Only a recorded failure leaves an owner without a lease: the answer to it was lost.
  if (!counted_send && record.phase == LeasePhase::kNone) {
    applied.result.wait = CooldownWait(limits, record, now);
    return applied;
  }

  record.updated = now;
  if (request.kind != FailureKind::kOtherCredential) {
    record.last_failure = request.kind;
    record.last_error = KeptError(request.error);
    record.last_failure_time = now;
  }
  if (request.kind == FailureKind::kNotSent) {
    // This attempt's own entry, which a code may have followed.
    if (record.phase == LeasePhase::kSent) {
      TakeBackSend(record.sends, record.lease_end - limits.sent_lease);
    }
  } else if (request.kind != FailureKind::kOtherCredential) {
    constexpr int32_t kManyFailures = 1'000'000;  // far past the last step, far from overflow
    record.consecutive_failures = std::min(record.consecutive_failures + 1, kManyFailures);
    switch (request.kind) {
      case FailureKind::kThrottled:
        record.throttled_until = ToMilliseconds(now + limits.throttle_cooldown);
        break;
      case FailureKind::kNeedsConsent:
        // A revoked grant stays revoked, whatever Zoho says of the token that it had.
        if (record.state == GrantState::kActive) record.state = GrantState::kNeedsConsent;
        record.ambiguous = false;
        break;
      default:
        record.not_before = ToMilliseconds(now + Backoff(limits, record.consecutive_failures));
        if (request.kind == FailureKind::kAmbiguous) record.ambiguous = true;
        // Doubted once: the next invalid_code is believed.
        if (request.kind == FailureKind::kDoubtedInvalid) record.ambiguous = false;
    }
  }
  if (!counted_send) {
    record.phase = LeasePhase::kNone;
    record.lease_end = absl::InfinitePast();
  }
  applied.result.wait = CooldownWait(limits, record, now);
  applied.changed = true;
  applied.publish = record.state != GrantState::kReserved;
  return applied;
}

Applied<RegisterResult> ApplyRegister(std::optional<GrantRecord>& stored,
                                      const RegisterRequest& request, absl::Time now) {
  using Outcome = RegisterResult::Outcome;
  now = ToMilliseconds(now);
  Applied<RegisterResult> applied;

  // Also when it was revoked since: the late repetition of a registration revives nothing.
  if (stored && stored->last_register_attempt == request.attempt_id) {
    stored->store_now = now;
    applied.result.outcome = Outcome::kDuplicate;
    return applied;
  }
  if (IsGrant(stored) && request.replaces && !HasConsent(*stored, *request.replaces)) {
    stored->store_now = now;
    applied.result.outcome = Outcome::kSuperseded;
    return applied;
  }
  applied.result.outcome = IsGrant(stored) ? Outcome::kReplaced : Outcome::kCreated;
  Reserve(stored, request.key);
  if (stored->state == GrantState::kReserved) stored->created = now;
  GrantRecord& record = *stored;
  record.store_now = now;
  SupersedeEverything(record, now);
  record.state = GrantState::kActive;
  record.info = request.info;
  record.refresh_token = request.refresh_token;
  // Of the grant that is replaced, perhaps of another DC.
  record.access_token = Secret();
  record.access_expiry = absl::InfinitePast();
  record.access_stored = absl::InfinitePast();
  record.api_domain.clear();
  if (request.tokens) StoreAccessToken(record, *request.tokens, now);
  // The journal lives on: Zoho counts by user and client, not by our registrations.
  record.last_register_attempt = request.attempt_id;
  applied.changed = true;
  applied.publish = true;
  return applied;
}

Applied<RevokeResult> ApplyRevoke(GrantRecord& record, const RevokeRequest& request,
                                  absl::Time now) {
  using Outcome = RevokeResult::Outcome;
  now = ToMilliseconds(now);
  record.store_now = now;
  Applied<RevokeResult> applied;
  if (record.state == GrantState::kReserved) return applied;
  if (request.registered_by && *request.registered_by != record.last_register_attempt) {
    applied.result.outcome = Outcome::kSuperseded;
    return applied;
  }
  if (record.state == GrantState::kRevoked) {
    applied.result.outcome = Outcome::kAlreadyRevoked;
    return applied;
  }
  SupersedeEverything(record, now);
  record.state = GrantState::kRevoked;
  // The tokens stay until they are revoked upstream too, or a crash would leave them valid there.
  applied.result.outcome = Outcome::kRevoked;
  applied.changed = true;
  applied.publish = true;
  return applied;
}

bool ApplyForgetTokens(GrantRecord& record, int64_t generation) {
  // Registered again since: these are other tokens.
  if (record.state != GrantState::kRevoked || record.generation != generation) return false;
  if (record.refresh_token.empty() && record.access_token.empty()) return false;
  record.refresh_token = Secret();
  record.access_token = Secret();
  record.access_expiry = absl::InfinitePast();
  record.access_stored = absl::InfinitePast();
  return true;
}

std::string KeptError(std::string_view error) {
  if (error.size() > kMaxErrorBytes) {
    size_t end = kMaxErrorBytes;
    // Back to the start of the character that the limit cuts (10xxxxxx: not a start).
    while (end > 0 && (static_cast<unsigned char>(error[end]) & 0xC0) == 0x80) --end;
    // A run of continuation bytes is no UTF-8 at all: cut anywhere.
    if (kMaxErrorBytes - end > 3) end = kMaxErrorBytes;
    error = error.substr(0, end);
  }
  return std::string(error);
}

bool IsStorableTime(absl::Time time) {
  return time >= absl::UnixEpoch() && time < absl::FromUnixSeconds(253402300800);
}

}  // namespace tokenbroker
