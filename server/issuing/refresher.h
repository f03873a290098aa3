#ifndef TOKEN_BROKER_SERVER_ISSUING_REFRESHER_H_
#define TOKEN_BROKER_SERVER_ISSUING_REFRESHER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "clients/zoho/accounts_server.h"
#include "clients/zoho/data_center.h"
#include "clients/zoho/oauth_client.h"
#include "common/clock.h"
#include "server/issuing/circuit_breaker.h"
#include "server/issuing/executor.h"
#include "server/issuing/issuing_events.h"
#include "storage/protocol_limits.h"
#include "storage/token_store.h"

namespace tokenbroker {

// What the configuration says about Zoho. Immutable once made; replaced as a whole.
struct ZohoSetup {
  DataCenterTable data_centers;
  OAuthClientRegistry oauth_clients;
};

struct RefreshResult {
  enum class Outcome : uint8_t {
    kRefreshed,  // minted and stored by this call
    kFresh,      // another attempt had stored a newer generation
    kFailed,     // `status` says why
  };
  Outcome outcome = Outcome::kFailed;
  absl::Status status;
  GrantRecord record;  // the newest that was seen
  // Just before `record` was read, so that its lifetimes can be counted from then.
  MonotonicTime read_at;
  absl::Duration retry_after;  // kFailed: nothing will change before; zero: unknown
};

// What one request outside of a refresh brought.
struct Spent {
  absl::Status status;  // not OK: what the caller is told. kGrantDead is left to the caller: OK
  TokenReply reply;     // where Zoho answered
  // What the attempt did to the credential, for the store; kNone when it was honoured. kNotSent:
  // nothing has left.
  FailureKind failure = FailureKind::kNone;
  absl::Duration latency;  // of the request
};

// The refresh protocol from the holder's side: acquire, send, commit or fail. Blocking, linear code
// for the thread of a lane. Thread-safe.
class Refresher {
 public:
  // Everything is borrowed and must outlive the refresher.
  Refresher(ProtocolLimits limits, CircuitBreakers::Options breaker, const ZohoSetup* setup,
            TokenStore* store, AccountsServer* accounts, Executor* executor, Clock clock,
            IssuingEvents* events);

  // Brings the grant beyond `record.generation`, by this call or by waiting for another replica's.
  // `record` was read after `read_at`. `on_late` is called once if Zoho gave tokens and the store
  // has not taken them within the commit budget: whoever waits need not wait longer; the call
  // itself goes on until they are stored or superseded, or are worth nothing any more.
  RefreshResult Refresh(const GrantRecord& record, MonotonicTime read_at, Purpose purpose,
                        const std::function<void(const absl::Status&)>& on_late);

  // One request to Zoho to register a grant. `before_send` counts it, or refuses; its status is
  // then the result's. Keeps to the DC's circuit breaker.
  Spent Spend(const TokenRequest& request, const GrantKey& key, BeforeSend before_send);

  // The last check before the first byte: still ours, journalled, and the lease as long as the
  // request may take. GRANT_CHANGED: do not send. The store's errors.
  absl::Status CheckBeforeSend(MonotonicTime acquired_at, const GrantKey& key,
                               const std::string& attempt_id, int64_t epoch);
  // Records a failure in the store. With some patience unless nothing was sent: what is not
  // recorded, nobody obeys. The store's errors.
  absl::StatusOr<FailResult> Fail(const FailRequest& request);
  // What callers of a grant that cools down for `wait` are told.
  absl::Status CooldownError(const GrantRecord& record, absl::Duration wait) const;

  // The request with DC, client id, secret and timeouts filled in. CLIENT_SECRET_MISSING,
  // OAUTH_CLIENT_NOT_CONFIGURED, DC_NOT_CONFIGURED.
  absl::StatusOr<TokenRequest> PrepareRequest(const std::string& oauth_client,
                                              const std::string& dc) const;

  // Revokes at Zoho, best effort. OK: Zoho no longer honours the token.
  // `version`, for the log, is the revoked record's.
  absl::Status RevokeUpstream(const GrantKey& key, const std::string& dc, const Secret& token,
                              int64_t version);

  // The process ends at `end`: a request that may not have ended and been stored by then is not
  // begun: SHUTTING_DOWN. But a token that nobody else knows of is revoked at any time.
  void FinishBy(MonotonicTime end);
  // Whether that holds for one that would begin now.
  bool TooLate() const;

  // Tells the outside that the store has lost the grant.
  void TellMissing(const GrantKey& key) const;

  const ZohoSetup& setup() const { return *setup_; }
  const ProtocolLimits& limits() const { return limits_; }

 private:
  // A lease, from its acquisition to its end.
  struct Holding {
    const AcquireResult& lease;
    const std::string& attempt_id;
    Purpose purpose;
    MonotonicTime acquired_at;  // just before
    const CircuitBreakers::Admission& admission;
    const std::function<void(const absl::Status&)>& on_late;
    const GrantRecord& record() const { return lease.record; }
  };

  RefreshResult SendAndSettle(const Holding& holding, TokenRequest request);
  RefreshResult SettleReply(const Holding& holding, TokenReply reply, MonotonicTime answered_at,
                            absl::Duration latency);
  RefreshResult CommitUntilDone(const Holding& holding, TokenReply reply,
                                MonotonicTime answered_at);
  RefreshResult SettleCommit(const Holding& holding, CommitResult committed, MonotonicTime read_at,
                             const MintedTokens& tokens);
  RefreshResult RecordFailure(const Holding& holding, FailureKind kind, const std::string& error,
                              absl::Status status);
  void Tell(const GrantRecord& record, Purpose purpose, std::string outcome, std::string error = "",
            bool sent = false, absl::Duration latency = absl::ZeroDuration()) const;
  void Tell(RefreshEvent event) const;

  const ProtocolLimits limits_;
  const ZohoSetup* const setup_;
  TokenStore* const store_;
  AccountsServer* const accounts_;
  Executor* const executor_;
  const Clock clock_;
  IssuingEvents* const events_;
  CircuitBreakers breakers_;
  // No request begins from then on. Of the monotonic clock, in ns.
  std::atomic<int64_t> too_late_{std::numeric_limits<int64_t>::max()};
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_ISSUING_REFRESHER_H_
