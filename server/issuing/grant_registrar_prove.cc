// How a GrantRegistrar has Zoho prove a credential under the grant's lease.
#include <algorithm>
#include <optional>
#include <utility>

#include "common/errors.h"
#include "common/status_macros.h"
#include "server/issuing/grant_registrar.h"
#include "storage/protocol.h"
#include "storage/send_journal.h"

namespace tokenbroker {
namespace {

constexpr absl::Duration kLongestWait = absl::Seconds(1);

// Whether what `request` spends is what the grant itself refreshes with.
bool IsOwnCredential(const GrantRecord& record, const TokenRequest& request) {
  if (record.info.dc != request.dc.name) return false;
  if (request.grant_type == TokenRequest::GrantType::kClientCredentials) {
    return record.info.type == GrantType::kClientCredentials && record.info.soid == request.soid;
  }
  return record.info.type == GrantType::kRefreshToken &&
         record.refresh_token == request.refresh_token;
}

// What a failed attempt to prove `request` under the grant's lease says about the grant.
FailureKind FailureOf(const AcquireResult& lease, const TokenRequest& request, FailureKind kind) {
  // Zoho says that of us, whichever credential it was.
  if (kind == FailureKind::kThrottled || kind == FailureKind::kNotSent) return kind;
  if (!IsOwnCredential(lease.record, request)) {
    return kind == FailureKind::kUnreachable ? FailureKind::kNotSent
                                             : FailureKind::kOtherCredential;
  }
  return kind == FailureKind::kNeedsConsent && lease.previous_ambiguous
             ? FailureKind::kDoubtedInvalid
             : kind;
}

}  // namespace

absl::StatusOr<GrantRegistrar::Proof> GrantRegistrar::Prove(const Registration& registration,
                                                            const TokenRequest& request) {
  const GrantKey& key = registration.key;
  const std::string attempt_id = NewAttemptId();
  // A living grant may hold this very credential: its own lease keeps the two apart, its budget
  // counts both, and it is replaced only when Zoho has honoured the new one.
  MonotonicTime acquired_at;
  const absl::StatusOr<AcquireResult> lease = AcquireLease(key, attempt_id, acquired_at);
  // A record that cannot be read has no lease to give, and nobody can refresh by it.
  const bool unreadable = absl::IsDataLoss(lease.status());
  if (!lease.ok() && !unreadable) return lease.status();
  Spent spent = refresher_->Spend(request, key, [&] {
    return unreadable ? CountUnreadable(key)
                      : refresher_->CheckBeforeSend(acquired_at, key, attempt_id, lease->epoch);
  });
  const MonotonicTime answered_at = clock_.monotonic();
  if (spent.failure == FailureKind::kNone) {
    std::optional<Consent> found;
    if (!unreadable) found = lease->record.consent();
    return Proof{std::move(spent.reply), answered_at, spent.latency, std::move(found)};
  }
  // Where it cannot be recorded, the lease ends by itself.
  if (!unreadable) {
    refresher_
        ->Fail({key, attempt_id, lease->epoch, lease->record.generation,
                FailureOf(*lease, request, spent.failure), spent.reply.error})
        .status()
        .IgnoreError();
  }
  if (!spent.status.ok()) return spent.status;
  return RefreshTokenRejectedError(spent.reply.error);
}

absl::Status GrantRegistrar::CountUnreadable(const GrantKey& key) {
  const ProtocolLimits& limits = refresher_->limits();
  const absl::Time now = absl::UnixEpoch() + clock_.monotonic();
  MutexLock lock(mutex_);
  std::erase_if(unreadable_, [&](const auto& entry) {
    return now - entry.second.sends.back() >= limits.ReservedLife();
  });
  GrantRecord& record = unreadable_[EncodeGrantKey(key)];
  const absl::Duration wait = BudgetWait(limits, record, Purpose::kRegistration, now);
  if (wait > absl::ZeroDuration()) return MintBudgetExhaustedError(wait);
  AddSend(limits, record.sends, now);
  return absl::OkStatus();
}

absl::StatusOr<AcquireResult> GrantRegistrar::AcquireLease(const GrantKey& key,
                                                           const std::string& attempt_id,
                                                           MonotonicTime& acquired_at) {
  const ProtocolLimits& limits = refresher_->limits();
  const MonotonicTime give_up = clock_.monotonic() + limits.pre_send_lease + limits.sent_lease;
  while (true) {
    if (executor_->stopping() || refresher_->TooLate()) return ShuttingDownError();
    acquired_at = clock_.monotonic();
    TB_ASSIGN_OR_RETURN(AcquireResult lease,
                        store_->Acquire({key, attempt_id, 0, Purpose::kRegistration}));
    switch (lease.outcome) {
      case AcquireResult::Outcome::kGranted:
        return lease;
      case AcquireResult::Outcome::kBusy:
        if (acquired_at >= give_up) return GrantChangedError();
        store_->WaitForChange(key, lease.record.generation,
                              std::min({lease.wait, give_up - acquired_at, kLongestWait}));
        break;
      case AcquireResult::Outcome::kCooldown:
        return refresher_->CooldownError(lease.record, lease.wait);
      case AcquireResult::Outcome::kBudget:
        return MintBudgetExhaustedError(lease.wait);
      case AcquireResult::Outcome::kFresh:
      case AcquireResult::Outcome::kNeedsConsent:
      case AcquireResult::Outcome::kRevoked:
      case AcquireResult::Outcome::kNotFound:
        return InternalError("the store refused a registration its lease");
    }
  }
}

}  // namespace tokenbroker
