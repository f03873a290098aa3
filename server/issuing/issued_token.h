#ifndef TOKEN_BROKER_SERVER_ISSUING_ISSUED_TOKEN_H_
#define TOKEN_BROKER_SERVER_ISSUING_ISSUED_TOKEN_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "common/clock.h"
#include "common/ids.h"
#include "common/secret.h"

namespace tokenbroker {

// Which token a caller wants. The views must outlive the call they are passed to.
struct TokenQuery {
  std::string_view org_id;
  Environment environment = Environment::kProduction;
  std::string_view oauth_client;    // "": the grant with the fewest scopes that covers `scopes`
  std::vector<std::string> scopes;  // that the token must have
  absl::Duration min_lifetime = absl::Seconds(60);
  int64_t rejected_version = 0;  // 0: none
};

enum class TokenSource : uint8_t { kCache, kStore, kRefreshed, kJoined, kStale };
std::string_view TokenSourceName(TokenSource source);

// An access token with all that a caller needs to use it. Immutable, shared by all answers.
struct IssuedToken {
  GrantKey key;
  Secret access_token;
  Secret authorization_header;  // "Zoho-oauthtoken <access token>"
  MonotonicTime expires_at;     // on this process's monotonic clock
  std::string api_domain;
  std::string people_host;
  std::string dc;
  std::vector<std::string> scopes;
  int64_t version = 0;
  bool keep_warm = false;
};

// Those of `wanted` that a grant with these scopes lacks. A grant whose scopes Zoho never named is
// taken at its word.
std::vector<std::string> LackingScopes(const std::vector<std::string>& granted,
                                       const std::vector<std::string>& wanted);

struct TokenAnswer {
  std::shared_ptr<const IssuedToken> token;
  TokenSource source = TokenSource::kCache;
  absl::Duration expires_in;  // at the moment of the answer
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_ISSUING_ISSUED_TOKEN_H_
