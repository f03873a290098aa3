#ifndef TOKEN_BROKER_STORAGE_GRANT_RECORD_H_
#define TOKEN_BROKER_STORAGE_GRANT_RECORD_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/ids.h"
#include "common/secret.h"

// What the store keeps of one grant. All times are on the *store's* clock (the Redis server's, or
// the machine's for SQLite), rounded to milliseconds; a reader compares them with `store_now` of
// the same record and with nothing else.
namespace tokenbroker {

enum class GrantState : uint8_t {
  kActive = 1,        // tokens can be had
  kNeedsConsent = 2,  // Zoho no longer honours the refresh token
  kRevoked = 3,  // revoked through the broker; the record stays, so that nothing old comes back
  // No grant yet, only the lease and the journal of registrations that have not succeeded. Nobody
  // but a registration sees it, and it goes away by itself (ProtocolLimits::ReservedLife).
  kReserved = 4,
};

enum class GrantType : uint8_t {
  kRefreshToken = 1,       // from an authorization code, or imported
  kClientCredentials = 2,  // a Self Client with soid: no refresh token
};

enum class LeasePhase : uint8_t {
  kNone = 0,  // nobody refreshes
  kHeld = 1,  // a holder prepares its request; nothing was sent
  kSent = 2,  // the request may have left
};

// Why the last attempt failed. Decides what waiting callers are told.
enum class FailureKind : uint8_t {
  kNone = 0,
  kNotSent = 1,         // released before sending: no cooldown, the send is not counted
  kUnreachable = 2,     // no connection: provably not sent; backs off
  kTransient = 3,       // an answer that says nothing about the grant (5xx, HTML, general_error)
  kAmbiguous = 4,       // sent, and no answer came: the next invalid_code is not believed at once
  kThrottled = 5,       // Zoho throttles: cooldown to the end of its window
  kClientRejected = 6,  // the operator's configuration; backs off
  kDoubtedInvalid = 7,  // invalid_code after an ambiguous attempt: cools down once, then believed
  kNeedsConsent = 8,    // invalid_code, believed
  // Sent with a credential that is not the grant's: counted, and says nothing about the grant.
  kOtherCredential = 9,
};

// What registering sets and refreshing leaves alone.
struct GrantInfo {
  GrantType type = GrantType::kRefreshToken;
  std::string dc;                   // name in the DC table, e.g. "eu"
  std::vector<std::string> scopes;  // as granted, sorted, upper and lower case as Zoho gave them
  std::string soid;                 // kClientCredentials only, e.g. "ZohoPeople.12345"
  std::string display_name;
  std::map<std::string, std::string> labels;
  bool keep_warm = false;  // refreshed ahead even when nobody asks
};

// Which of its consents a grant has. Refreshes leave it as it is, registrations and revocations
// change it.
struct Consent {
  std::string registered_by;  // attempt id; "" where there was no registration yet
  bool revoked = false;

  friend bool operator==(const Consent&, const Consent&) = default;
};

struct GrantRecord {
  GrantKey key;
  GrantInfo info;
  GrantState state = GrantState::kActive;
  // Successful changes: register, commit, revoke. Each either stores a new access token or clears
  // it, so the generation is also the access token's version.
  int64_t generation = 0;
  int64_t epoch = 0;  // leases

  Secret refresh_token;  // empty: client credentials, or forgotten after a revocation
  // The store would seal it otherwise today: committing it again does so. Never with listed
  // records.
  bool refresh_token_outdated = false;
  Secret access_token;  // empty: none yet
  absl::Time access_expiry = absl::InfinitePast();
  // Infinite past: not known, in a record from before there was this field.
  absl::Time access_stored = absl::InfinitePast();
  std::string api_domain;  // as Zoho last answered; "" before the first token

  LeasePhase phase = LeasePhase::kNone;
  std::string lease_owner;  // attempt id; kept after its failure, to know the failure's repetition
  absl::Time lease_end = absl::InfinitePast();

  absl::Time not_before = absl::InfinitePast();  // no acquire before
  // Zoho throttles: nothing is sent before. It is not the grant's own: successes, registrations and
  // revocations leave it.
  absl::Time throttled_until = absl::InfinitePast();
  FailureKind last_failure = FailureKind::kNone;
  std::string last_error;  // Zoho's code or the transport's; never a secret; at most 200 bytes
  absl::Time last_failure_time = absl::InfinitePast();
  int32_t consecutive_failures = 0;
  bool ambiguous = false;  // an attempt's fate is unknown; see FailureKind::kAmbiguous
  // Journal of the longest budget window, oldest first; no more entries than a window allows sends.
  std::vector<absl::Time> sends;

  std::string last_commit_attempt;    // makes commit idempotent
  std::string last_register_attempt;  // makes register idempotent
  std::string last_counted_attempt;   // makes count_send idempotent
  absl::Time created = absl::InfinitePast();
  absl::Time updated = absl::InfinitePast();

  absl::Time store_now;  // the store's clock when this record was read

  Consent consent() const { return {last_register_attempt, state == GrantState::kRevoked}; }
  // When the access token runs out, by the store's clock. nullopt: there was none yet, or it was
  // stored in the store's future. Its clock was set back since then, by more than clocks differ,
  // and how long the token will live cannot be told. Once the clock has caught up, this can no
  // longer be seen.
  std::optional<absl::Time> AccessEnd() const {
    const bool age_unknown = access_stored > store_now + absl::Seconds(5);
    if (access_expiry == absl::InfinitePast() || age_unknown) return std::nullopt;
    return access_expiry;
  }
  // Remaining life of the access token when the record was read; zero or less: none.
  absl::Duration AccessLifetime() const {
    if (access_token.empty()) return absl::ZeroDuration();
    return AccessEnd().value_or(store_now) - store_now;
  }
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_STORAGE_GRANT_RECORD_H_
