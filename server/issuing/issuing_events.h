#ifndef TOKEN_BROKER_SERVER_ISSUING_ISSUING_EVENTS_H_
#define TOKEN_BROKER_SERVER_ISSUING_ISSUING_EVENTS_H_

#include <functional>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "common/ids.h"

namespace tokenbroker {

// One try to refresh, register or revoke, as operators see it.
struct RefreshEvent {
  GrantKey key;
  std::string dc;
  std::string_view purpose;  // "caller", "background", "register", "revoke"
  // "refreshed", "fresh" (another replica had done it), "superseded", "busy", "cooldown", "budget",
  // "throttled", "transient", "ambiguous", "unreachable", "client_rejected", "needs_consent",
  // "doubted", "revoked", "not_sent", "store_unavailable", "breaker_open"; of registrations
  // "registered" (stored) and "grant_dead" (Zoho refused the credential)
  std::string outcome;
  std::string error;  // Zoho's code or the transport's; never a secret
  int64_t version = 0;
  bool sent = false;       // a request to Zoho may have left
  absl::Duration latency;  // of the request to Zoho; zero if none
};

// What issuing tells the outside. Functions may be empty; they are called on any thread and must
// not block.
struct IssuingEvents {
  std::function<void(const RefreshEvent&)> on_refresh;
  // A result that Zoho gave waits for the store (+1) or no longer waits (-1).
  std::function<void(int)> on_commit_pending;
  // A DC's circuit breaker: "closed", "open", "half_open".
  std::function<void(std::string_view dc, std::string_view state)> on_breaker;
  // The store no longer has a grant that this process knew: records are never deleted, so it has
  // lost data.
  std::function<void(const GrantKey&)> on_grant_missing;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_ISSUING_ISSUING_EVENTS_H_
