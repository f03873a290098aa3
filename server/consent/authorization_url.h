#ifndef TOKEN_BROKER_SERVER_CONSENT_AUTHORIZATION_URL_H_
#define TOKEN_BROKER_SERVER_CONSENT_AUTHORIZATION_URL_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/ids.h"
#include "server/issuing/refresher.h"
#include "storage/sealing/keyring.h"

namespace tokenbroker {

// Whose consent is wanted, and what the grant will be registered with.
struct AuthorizationRequest {
  GrantKey key;
  std::string dc;  // where the consent starts
  std::vector<std::string> scopes;
  std::string display_name;
  std::map<std::string, std::string> labels;
  bool keep_warm = false;
};

struct AuthorizationUrl {
  std::string url;
  absl::Time expire_time;  // when the callback stops accepting its state
};

// Makes the URLs that people of an org open to consent. Everything that the callback will need
// travels, sealed, in the URL's `state`: any replica that has the key can finish what another one
// began, and nothing is stored. Immutable; thread-safe; does no I/O.
class AuthorizationUrls {
 public:
  struct Options {
    std::string callback_url;
    absl::Duration state_lifetime = absl::Hours(1);
  };
  // The longest URL: what servers and browsers on the way take without thinking. Org id, scopes,
  // display name and labels make it long.
  static constexpr size_t kMaxUrlBytes = 4096;

  // What is borrowed must outlive this object.
  AuthorizationUrls(Options options, const Keyring* state_keys, const ZohoSetup* setup,
                    Clock clock);

  // FAILED_PRECONDITION CONSENT_NOT_CONFIGURED: the callback URL is not among the client's redirect
  // URIs; OAUTH_CLIENT_NOT_CONFIGURED, DC_NOT_CONFIGURED, CLIENT_SECRET_MISSING. INVALID_ARGUMENT
  // INVALID_REQUEST naming the longest field: the URL would be too long.
  absl::StatusOr<AuthorizationUrl> Create(const AuthorizationRequest& request) const;

 private:
  const Options options_;
  const Keyring* const state_keys_;
  const ZohoSetup* const setup_;
  const Clock clock_;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_CONSENT_AUTHORIZATION_URL_H_
