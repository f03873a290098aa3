// The requests of a Refresher that are not a refresh, and what all requests have in common.
#include <utility>

#include "common/errors.h"
#include "common/status_macros.h"
#include "server/issuing/believed_api_domain.h"
#include "server/issuing/refresher.h"

namespace tokenbroker {

absl::StatusOr<TokenRequest> Refresher::PrepareRequest(const std::string& oauth_client,
                                                       const std::string& dc) const {
  const OAuthClient* client = setup_->oauth_clients.Find(oauth_client);
  if (client == nullptr) return OAuthClientNotConfiguredError(oauth_client);
  const DataCenter* data_center = setup_->data_centers.Find(dc);
  if (data_center == nullptr) return DcNotConfiguredError(dc);
  const Secret* secret = client->SecretFor(dc);
  if (secret == nullptr) return ClientSecretMissingError(dc, oauth_client);
  TokenRequest request;
  request.dc = *data_center;
  request.client_id = client->client_id;
  request.client_secret = *secret;
  request.connect_timeout = limits_.connect_timeout;
  request.response_timeout = limits_.response_timeout;
  return request;
}

void Refresher::FinishBy(MonotonicTime end) {
  // The commit budget is for the store: the lease, the mark, and the result.
  too_late_.store(absl::ToInt64Nanoseconds(end - limits_.LongestRequest()));
}

bool Refresher::TooLate() const {
  return clock_.monotonic() > absl::Nanoseconds(too_late_.load(std::memory_order_relaxed));
}

absl::Status Refresher::CheckBeforeSend(MonotonicTime acquired_at, const GrantKey& key,
                                        const std::string& attempt_id, int64_t epoch) {
  // The store's clock decides who has the lease; this one only ever gives it up sooner.
  const MonotonicTime begin = clock_.monotonic();
  if (begin - acquired_at > limits_.pre_send_lease - limits_.clock_drift) {
    return GrantChangedError();
  }
  TB_ASSIGN_OR_RETURN(const MarkSentOutcome outcome, store_->MarkSent({key, attempt_id, epoch}));
  if (outcome != MarkSentOutcome::kMarked) return GrantChangedError();
  // The sent lease runs since the store marked it, and the answer may have come late, or found this
  // process standing still. A request that could outlive the lease does not leave. Storing its
  // result needs no lease, so the commit budget is what marking may take.
  if (clock_.monotonic() - begin + limits_.response_timeout + limits_.clock_drift >=
      limits_.sent_lease) {
    return GrantChangedError();
  }
  return absl::OkStatus();
}

Spent Refresher::Spend(const TokenRequest& request, const GrantKey& key, BeforeSend before_send) {
  const std::string& dc = request.dc.name;
  const MonotonicTime start = clock_.monotonic();
  if (TooLate()) return {.status = ShuttingDownError(), .failure = FailureKind::kNotSent};
  const CircuitBreakers::Admission admission = breakers_.Admit(dc, start);
  if (admission.wait > absl::ZeroDuration()) {
    return {.status = ZohoUnavailableError(dc, "circuit_breaker_open", admission.wait),
            .failure = FailureKind::kNotSent};
  }
  bool let_go = false;
  absl::Status refusal;
  const auto check = [&]() -> absl::Status {
    if (let_go) return GrantChangedError();
    refusal = before_send();
    let_go = refusal.ok();
    return refusal;
  };
  TokenResponse response = accounts_->RequestToken(request, check);
  const MonotonicTime end = clock_.monotonic();
  if (response.delivery == TokenResponse::Delivery::kNotSent && (let_go || !refusal.ok())) {
    breakers_.Abandon(dc, admission);
    // Let go, and too late for the request to leave: the store's fault, not the DC's.
    if (let_go) refusal = StoreUnavailableError("it took too long to count the request");
    return {.status = refusal, .failure = FailureKind::kNotSent};
  }

  Spent spent;
  spent.reply = std::move(response.reply);
  TokenReply& reply = spent.reply;
  RefreshEvent event;
  event.key = key;
  event.dc = dc;
  event.purpose = "register";
  event.sent = response.delivery != TokenResponse::Delivery::kNotSent;
  event.latency = end - start;
  if (response.delivery == TokenResponse::Delivery::kAnswered) {
    event.outcome = ReplyKindName(reply.kind);
    event.error = reply.error;
  } else {
    reply.kind = ReplyKind::kTransient;
    reply.error = event.sent ? "no_answer" : "unreachable";
    event.outcome = event.sent ? "ambiguous" : "unreachable";
    event.error = std::string(response.status.message());
  }
  breakers_.Record(dc, admission, reply.kind != ReplyKind::kTransient, end);
  spent.latency = event.latency;
  // A success is told when it is stored, by the caller.
  if (reply.kind != ReplyKind::kSuccess) Tell(std::move(event));

  switch (reply.kind) {
    case ReplyKind::kSuccess:
      reply.api_domain = BelievedApiDomain(request.dc, key.environment, reply.api_domain);
      return spent;
    case ReplyKind::kGrantDead:
      spent.failure = FailureKind::kNeedsConsent;
      return spent;
    case ReplyKind::kClientRejected:
      spent.failure = FailureKind::kClientRejected;
      spent.status = ClientRejectedError(dc, key.oauth_client, reply.error, reply.advice);
      return spent;
    case ReplyKind::kThrottled:
      spent.failure = FailureKind::kThrottled;
      spent.status = ZohoThrottledError(limits_.throttle_cooldown);
      return spent;
    case ReplyKind::kTransient:
      break;
  }
  spent.failure = FailureKind::kTransient;
  if (response.delivery == TokenResponse::Delivery::kUnknown) {
    spent.failure = FailureKind::kAmbiguous;
  } else if (response.delivery == TokenResponse::Delivery::kNotSent) {
    spent.failure = FailureKind::kUnreachable;
  }
  spent.status = ZohoUnavailableError(dc, reply.error, limits_.failure_backoff.front());
  return spent;
}

absl::Status Refresher::RevokeUpstream(const GrantKey& key, const std::string& dc,
                                       const Secret& token, int64_t version) {
  const DataCenter* data_center = setup_->data_centers.Find(dc);
  if (data_center == nullptr) return DcNotConfiguredError(dc);
  const MonotonicTime start = clock_.monotonic();
  const absl::Status status = accounts_->RevokeToken(*data_center, token, limits_.response_timeout);
  RefreshEvent event;
  event.key = key;
  event.dc = dc;
  event.purpose = "revoke";
  event.outcome = status.ok() ? "revoked" : "transient";
  event.error = ErrorReason(status);
  event.version = version;
  event.sent = true;
  event.latency = clock_.monotonic() - start;
  Tell(std::move(event));
  return status;
}

}  // namespace tokenbroker
