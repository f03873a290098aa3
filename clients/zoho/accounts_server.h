#ifndef TOKEN_BROKER_CLIENTS_ZOHO_ACCOUNTS_SERVER_H_
#define TOKEN_BROKER_CLIENTS_ZOHO_ACCOUNTS_SERVER_H_

#include <optional>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "clients/zoho/data_center.h"
#include "clients/zoho/token_reply.h"
#include "common/secret.h"

namespace tokenbroker {

// One request to the token endpoint.
struct TokenRequest {
  enum class GrantType { kAuthorizationCode, kRefreshToken, kClientCredentials };
  GrantType grant_type = GrantType::kRefreshToken;
  DataCenter dc;
  std::string client_id;
  Secret client_secret;

  Secret refresh_token;                 // kRefreshToken
  Secret code;                          // kAuthorizationCode
  std::string redirect_uri;             // kAuthorizationCode; "" for a Self Client
  std::optional<Secret> code_verifier;  // kAuthorizationCode with PKCE
  std::string scope;                    // kClientCredentials: comma separated
  std::string soid;                     // kClientCredentials: "Service.<zsoid>"

  absl::Duration connect_timeout = absl::Seconds(3);
  absl::Duration response_timeout = absl::Seconds(10);  // from the check before sending
};

struct TokenResponse {
  enum class Delivery {
    // Provably no byte of the request left; `status` says why. Where the check had passed: it took
    // the whole response timeout.
    kNotSent,
    kAnswered,  // a whole HTTP reply came: `reply` is its meaning
    kUnknown,   // the request may have left and no whole reply came; `status` says why
  };
  Delivery delivery = Delivery::kNotSent;
  absl::Status status;  // OK when kAnswered. When the check refused: the check's own status
  TokenReply reply;     // `api_domain` only where it is one of the request's DC
};

// Called once, after the connection (and TLS) stands and before the first byte of the request is
// sent. Not OK: nothing is sent. Blocks no longer than the pre-send lease.
using BeforeSend = absl::FunctionRef<absl::Status()>;

// Zoho's accounts servers as the broker sees them. Blocking; thread-safe.
class AccountsServer {
 public:
  virtual ~AccountsServer() = default;

  // Sends the request at most once: never repeats a POST that may have left.
  virtual TokenResponse RequestToken(const TokenRequest& request, BeforeSend before_send) = 0;

  // Revokes a refresh token (and with it its access tokens) or an access token at the DC that
  // issued it. OK also when Zoho no longer knows the token. UNAVAILABLE ZOHO_UNAVAILABLE otherwise.
  virtual absl::Status RevokeToken(const DataCenter& dc, const Secret& token,
                                   absl::Duration timeout) = 0;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_CLIENTS_ZOHO_ACCOUNTS_SERVER_H_
