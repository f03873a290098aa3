#ifndef TOKEN_BROKER_SERVER_CONSENT_CONSENT_STATE_H_
#define TOKEN_BROKER_SERVER_CONSENT_CONSENT_STATE_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/secret.h"
#include "server/consent/authorization_url.h"
#include "storage/sealing/keyring.h"

namespace tokenbroker {

// What the callback has to know about the consent that comes back, carried by the browser in the
// `state` parameter: encrypted and authenticated, so that nobody on the way reads or changes it.
struct ConsentState {
  AuthorizationRequest request;
  Secret code_verifier;    // PKCE
  absl::Time expire_time;  // whole seconds
  std::string request_id;  // of this authorization request
};

// base64url without padding. INTERNAL: the system has no random numbers.
absl::StatusOr<std::string> SealConsentState(const ConsentState& state, const Keyring& keys);

// INVALID_ARGUMENT: not sealed with one of these keys, or altered. OUT_OF_RANGE: it has expired at
// `now`. The text says which, for people.
absl::StatusOr<ConsentState> OpenConsentState(std::string_view state, const Keyring& keys,
                                              absl::Time now);

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_CONSENT_CONSENT_STATE_H_
