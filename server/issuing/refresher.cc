#include "server/issuing/refresher.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_join.h"
#include "clients/zoho/token_reply.h"
#include "common/errors.h"
#include "server/issuing/believed_api_domain.h"
#include "storage/protocol.h"

namespace tokenbroker {
namespace {

// Times that a lease may slip away before sending until the caller is told; each time somebody else
// made progress on the grant.
constexpr int kMaxLostLeases = 3;
// Between tries to store what Zoho said.
constexpr absl::Duration kFirstPause = absl::Milliseconds(50);
constexpr absl::Duration kLongestPause = absl::Seconds(1);
// Of waiting for another replica in one go, so that a shutdown does not wait for a lease's end.
constexpr absl::Duration kLongestWait = absl::Seconds(1);
// What callers are told where the store could not say how long the cooldown is.
constexpr absl::Duration kUnrecordedRetry = absl::Seconds(1);

std::string_view PurposeName(Purpose purpose) {
  return purpose == Purpose::kCaller ? "caller" : "background";
}

RefreshResult Failed(absl::Status status, GrantRecord record, MonotonicTime read_at,
                     absl::Duration retry_after = absl::ZeroDuration()) {
  return RefreshResult{RefreshResult::Outcome::kFailed, std::move(status), std::move(record),
                       read_at, retry_after};
}

// The lease was lost before anything was sent, or what came of it was stale; worth another look at
// the record.
bool IsLostLease(const RefreshResult& result) {
  return result.outcome == RefreshResult::Outcome::kFailed && absl::IsAborted(result.status);
}

}  // namespace

Refresher::Refresher(ProtocolLimits limits, CircuitBreakers::Options breaker,
                     const ZohoSetup* setup, TokenStore* store, AccountsServer* accounts,
                     Executor* executor, Clock clock, IssuingEvents* events)
    : limits_(std::move(limits)),
      setup_(setup),
      store_(store),
      accounts_(accounts),
      executor_(executor),
      clock_(std::move(clock)),
      events_(events),
      breakers_(breaker, events->on_breaker) {}

RefreshResult Refresher::Refresh(const GrantRecord& record, MonotonicTime read_at, Purpose purpose,
                                 const std::function<void(const absl::Status&)>& on_late) {
  const std::string& dc = record.info.dc;
  absl::StatusOr<TokenRequest> request = PrepareRequest(record.key.oauth_client, dc);
  if (!request.ok()) return Failed(request.status(), record, read_at);

  // Another replica's refresh takes no longer than this, or its lease has ended.
  const MonotonicTime give_up = clock_.monotonic() + limits_.pre_send_lease + limits_.sent_lease;
  int lost_leases = 0;
  std::string attempt_id = NewAttemptId();
  while (true) {
    if (executor_->stopping() || TooLate()) return Failed(ShuttingDownError(), record, read_at);
    const MonotonicTime now = clock_.monotonic();
    const CircuitBreakers::Admission admission = breakers_.Admit(dc, now);
    if (admission.wait > absl::ZeroDuration()) {
      Tell(record, purpose, "breaker_open");
      return Failed(ZohoUnavailableError(dc, "circuit_breaker_open", admission.wait), record,
                    read_at, admission.wait);
    }
    absl::StatusOr<AcquireResult> lease =
        store_->Acquire({record.key, attempt_id, record.generation, purpose});
    if (!lease.ok() || lease->outcome != AcquireResult::Outcome::kGranted) {
      breakers_.Abandon(dc, admission);
    }
    if (!lease.ok()) {
      Tell(record, purpose, "store_unavailable");
      return Failed(lease.status(), record, read_at);
    }
    GrantRecord& current = lease->record;
    const absl::Duration wait = lease->wait;
    switch (lease->outcome) {
      case AcquireResult::Outcome::kGranted: {
        const Holding holding{*lease, attempt_id, purpose, now, admission, on_late};
        if (current.generation != record.generation || current.info.dc != dc) {
          // The store was set back: this is another grant than the one that the request is for.
          breakers_.Abandon(dc, admission);
          return RecordFailure(holding, FailureKind::kNotSent, "", GrantChangedError());
        }
        RefreshResult result = SendAndSettle(holding, *request);
        if (!IsLostLease(result) || ++lost_leases >= kMaxLostLeases) return result;
        attempt_id = NewAttemptId();
        continue;
      }
      case AcquireResult::Outcome::kFresh:
        Tell(current, purpose, "fresh");
        return RefreshResult{RefreshResult::Outcome::kFresh, absl::OkStatus(), std::move(current),
                             now};
      case AcquireResult::Outcome::kBusy: {
        const absl::Duration left = give_up - now;
        if (purpose == Purpose::kBackground || left <= absl::ZeroDuration()) {
          Tell(current, purpose, "busy");
          return Failed(ZohoUnavailableError(dc, "refresh_under_way", wait), std::move(current),
                        now, wait);
        }
        store_->WaitForChange(record.key, record.generation, std::min({wait, left, kLongestWait}));
        continue;
      }
      case AcquireResult::Outcome::kCooldown: {
        Tell(current, purpose, "cooldown", current.last_error);
        absl::Status status = CooldownError(current, wait);
        return Failed(std::move(status), std::move(current), now, wait);
      }
      case AcquireResult::Outcome::kBudget:
        Tell(current, purpose, "budget");
        return Failed(MintBudgetExhaustedError(wait), std::move(current), now, wait);
      case AcquireResult::Outcome::kNeedsConsent: {
        absl::Status status = ConsentRequiredError(current.last_error);
        return Failed(std::move(status), std::move(current), now);
      }
      case AcquireResult::Outcome::kRevoked:
        return Failed(ConsentRequiredError("revoked"), std::move(current), now);
      case AcquireResult::Outcome::kNotFound:
        return Failed(OrgNotFoundError(), record, read_at);
    }
  }
}

RefreshResult Refresher::SendAndSettle(const Holding& holding, TokenRequest request) {
  const GrantRecord& record = holding.record();
  const std::string& dc = record.info.dc;
  if (record.info.type == GrantType::kClientCredentials) {
    request.grant_type = TokenRequest::GrantType::kClientCredentials;
    request.scope = absl::StrJoin(record.info.scopes, ",");
    request.soid = record.info.soid;
  } else {
    request.grant_type = TokenRequest::GrantType::kRefreshToken;
    request.refresh_token = record.refresh_token;
  }

  MonotonicTime sent_at = holding.acquired_at;
  bool marked = false;
  absl::Status refusal;  // why the check did not let the request go
  const auto before_send = [&]() -> absl::Status {
    // Asked a second time: whatever the first time let go may have left.
    if (marked) return GrantChangedError();
    refusal =
        CheckBeforeSend(holding.acquired_at, record.key, holding.attempt_id, holding.lease.epoch);
    marked = refusal.ok();
    sent_at = clock_.monotonic();
    return refusal;
  };
  TokenResponse response = accounts_->RequestToken(request, before_send);
  const MonotonicTime answered_at = clock_.monotonic();
  const absl::Duration latency = marked ? answered_at - sent_at : absl::ZeroDuration();
  // Let go, and too late for the request to leave: the store's fault, not the DC's.
  if (marked && response.delivery == TokenResponse::Delivery::kNotSent) {
    refusal = GrantChangedError();
  }

  switch (response.delivery) {
    case TokenResponse::Delivery::kNotSent:
      if (!refusal.ok()) {
        // The store or the lease said no: nothing was learned about the DC.
        breakers_.Abandon(dc, holding.admission);
        Tell(record, holding.purpose, "not_sent", ErrorReason(refusal));
        return RecordFailure(holding, FailureKind::kNotSent, "", refusal);
      }
      breakers_.Record(dc, holding.admission, /*usable_answer=*/false, answered_at);
      Tell(record, holding.purpose, "unreachable", std::string(response.status.message()));
      return RecordFailure(holding, FailureKind::kUnreachable, "unreachable",
                           ZohoUnavailableError(dc, "unreachable", kUnrecordedRetry));
    case TokenResponse::Delivery::kUnknown:
      breakers_.Record(dc, holding.admission, /*usable_answer=*/false, answered_at);
      Tell(record, holding.purpose, "ambiguous", std::string(response.status.message()), true,
           latency);
      return RecordFailure(holding, FailureKind::kAmbiguous, "no_answer",
                           ZohoUnavailableError(dc, "no_answer", kUnrecordedRetry));
    case TokenResponse::Delivery::kAnswered:
      break;
  }
  breakers_.Record(dc, holding.admission, response.reply.kind != ReplyKind::kTransient,
                   answered_at);
  return SettleReply(holding, std::move(response.reply), answered_at, latency);
}

RefreshResult Refresher::SettleReply(const Holding& holding, TokenReply reply,
                                     MonotonicTime answered_at, absl::Duration latency) {
  const GrantRecord& record = holding.record();
  const std::string& dc = record.info.dc;
  const auto tell = [&](std::string outcome) {
    Tell(record, holding.purpose, std::move(outcome), reply.error, true, latency);
  };
  switch (reply.kind) {
    case ReplyKind::kSuccess:
      tell("refreshed");
      return CommitUntilDone(holding, std::move(reply), answered_at);
    case ReplyKind::kGrantDead:
      if (holding.lease.previous_ambiguous) {
        // The earlier attempt may have rotated the token, and its commit may still come.
        tell("doubted");
        return RecordFailure(holding, FailureKind::kDoubtedInvalid, reply.error,
                             ZohoUnavailableError(dc, reply.error, kUnrecordedRetry));
      }
      tell("needs_consent");
      return RecordFailure(holding, FailureKind::kNeedsConsent, reply.error,
                           ConsentRequiredError(reply.error));
    case ReplyKind::kClientRejected:
      tell("client_rejected");
      return RecordFailure(
          holding, FailureKind::kClientRejected, reply.error,
          ClientRejectedError(dc, record.key.oauth_client, reply.error, reply.advice));
    case ReplyKind::kThrottled:
      tell("throttled");
      return RecordFailure(holding, FailureKind::kThrottled, reply.error,
                           ZohoThrottledError(limits_.throttle_cooldown));
    case ReplyKind::kTransient:
      break;
  }
  tell("transient");
  return RecordFailure(holding, FailureKind::kTransient, reply.error,
                       ZohoUnavailableError(dc, reply.error, kUnrecordedRetry));
}

RefreshResult Refresher::CommitUntilDone(const Holding& holding, TokenReply reply,
                                         MonotonicTime answered_at) {
  const GrantRecord& record = holding.record();
  CommitRequest request;
  request.key = record.key;
  request.attempt_id = holding.attempt_id;
  request.generation = record.generation;
  request.tokens.access_token = std::move(reply.access_token);
  const bool rotated = !reply.refresh_token.empty();
  request.tokens.refresh_token = std::move(reply.refresh_token);
  // Where Zoho sends no new one, this is how a replaced sealing key comes out of use.
  if (!rotated && record.refresh_token_outdated)
    request.tokens.refresh_token = record.refresh_token;
  request.tokens.scopes = std::move(reply.scopes);
  if (const DataCenter* dc = setup_->data_centers.Find(record.info.dc); dc != nullptr) {
    request.tokens.api_domain = BelievedApiDomain(*dc, record.key.environment, reply.api_domain);
  }

  if (events_->on_commit_pending) events_->on_commit_pending(+1);
  absl::StatusOr<CommitResult> committed;
  bool late = false;
  MonotonicTime asked_at;
  for (absl::Duration pause = kFirstPause;; pause = std::min(2 * pause, kLongestPause)) {
    asked_at = clock_.monotonic();
    request.tokens.lifetime =
        std::max(reply.lifetime - (asked_at - answered_at), absl::ZeroDuration());
    committed = store_->Commit(request);
    if (committed.ok() || executor_->stopping()) break;
    if (!late && clock_.monotonic() - answered_at > limits_.commit_budget) {
      late = true;
      holding.on_late(committed.status());
    }
    // An access token that has run out is no loss; a refresh token never runs out. But a damaged
    // record is not mended by trying: until then somebody may have mended it.
    if (request.tokens.lifetime == absl::ZeroDuration() &&
        (!rotated || absl::IsDataLoss(committed.status()))) {
      break;
    }
    executor_->Pause(pause);
  }
  if (events_->on_commit_pending) events_->on_commit_pending(-1);
  if (!committed.ok()) return Failed(committed.status(), record, holding.acquired_at);
  return SettleCommit(holding, *std::move(committed), asked_at, request.tokens);
}

RefreshResult Refresher::SettleCommit(const Holding& holding, CommitResult committed,
                                      MonotonicTime read_at, const MintedTokens& tokens) {
  const GrantRecord& record = holding.record();
  switch (committed.outcome) {
    case CommitResult::Outcome::kCommitted:
    case CommitResult::Outcome::kDuplicate:
      return RefreshResult{RefreshResult::Outcome::kRefreshed, absl::OkStatus(),
                           std::move(committed.record), read_at};
    case CommitResult::Outcome::kSuperseded:
      Tell(committed.record, holding.purpose, "superseded");
      return RefreshResult{RefreshResult::Outcome::kFresh, absl::OkStatus(),
                           std::move(committed.record), read_at};
    case CommitResult::Outcome::kRevoked:
      // Nobody knows of these tokens but us.
      RevokeUpstream(record.key, record.info.dc,
                     tokens.refresh_token.empty() ? tokens.access_token : tokens.refresh_token,
                     committed.record.generation)
          .IgnoreError();
      return Failed(ConsentRequiredError("revoked"), std::move(committed.record), read_at);
    case CommitResult::Outcome::kNotFound:
      break;
  }
  // The store was emptied, or set back to before the grant was registered: records are never
  // deleted. The consent lives on, and who has its refresh token, in a backup or a replica, can
  // bring the grant back: so nothing is revoked at Zoho. Nor is the grant made anew out of what is
  // left here, over whatever the store's owner is doing with it.
  Tell(record, holding.purpose, "grant_missing");
  return Failed(OrgNotFoundError(), record, holding.acquired_at);
}

RefreshResult Refresher::RecordFailure(const Holding& holding, FailureKind kind,
                                       const std::string& error, absl::Status status) {
  const GrantRecord& record = holding.record();
  const absl::StatusOr<FailResult> failed =
      Fail({record.key, holding.attempt_id, holding.lease.epoch, record.generation, kind, error});
  if (!failed.ok()) {
    // The lease ends by itself, and a sent one leaves the grant ambiguous. That the grant is dead
    // counts only once the store agrees that nothing newer is there.
    if (kind == FailureKind::kNeedsConsent) status = failed.status();
    return Failed(std::move(status), record, holding.acquired_at, kUnrecordedRetry);
  }
  if (failed->outcome == FailResult::Outcome::kStale) {
    // The grant has moved on; its new state counts, not this failure.
    return Failed(GrantChangedError(), record, holding.acquired_at);
  }
  if (failed->wait > absl::ZeroDuration()) status = WithRetryAfter(status, failed->wait);
  return Failed(std::move(status), record, holding.acquired_at, failed->wait);
}

absl::StatusOr<FailResult> Refresher::Fail(const FailRequest& request) {
  const MonotonicTime begin = clock_.monotonic();
  // The lease goes on meanwhile.
  for (absl::Duration pause = kFirstPause;; pause = std::min(2 * pause, kLongestPause)) {
    absl::StatusOr<FailResult> failed = store_->Fail(request);
    if (!absl::IsUnavailable(failed.status()) || request.kind == FailureKind::kNotSent ||
        executor_->stopping() || clock_.monotonic() + pause - begin > limits_.commit_budget) {
      return failed;
    }
    executor_->Pause(pause);
  }
}

absl::Status Refresher::CooldownError(const GrantRecord& record, absl::Duration wait) const {
  if (ThrottleWait(limits_, record, record.store_now) > absl::ZeroDuration()) {
    return ZohoThrottledError(wait);
  }
  switch (record.last_failure) {
    case FailureKind::kClientRejected:
      return WithRetryAfter(
          ClientRejectedError(record.info.dc, record.key.oauth_client, record.last_error,
                              ZohoErrorAdvice(record.last_error)),
          wait);
    default:
      return ZohoUnavailableError(record.info.dc, record.last_error, wait);
  }
}

void Refresher::Tell(const GrantRecord& record, Purpose purpose, std::string outcome,
                     std::string error, bool sent, absl::Duration latency) const {
  RefreshEvent event;
  event.key = record.key;
  event.dc = record.info.dc;
  event.purpose = PurposeName(purpose);
  event.outcome = std::move(outcome);
  event.error = std::move(error);
  event.version = record.generation;
  event.sent = sent;
  event.latency = latency;
  Tell(std::move(event));
}

void Refresher::TellMissing(const GrantKey& key) const {
  if (events_->on_grant_missing) events_->on_grant_missing(key);
}

void Refresher::Tell(RefreshEvent event) const {
  if (events_->on_refresh) events_->on_refresh(event);
}

}  // namespace tokenbroker
