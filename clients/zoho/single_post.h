#ifndef TOKEN_BROKER_CLIENTS_ZOHO_SINGLE_POST_H_
#define TOKEN_BROKER_CLIENTS_ZOHO_SINGLE_POST_H_

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "clients/zoho/accounts_server.h"
#include "clients/zoho/trust_anchors.h"
#include "common/secret.h"

namespace tokenbroker {

struct FormPost {
  std::string url;  // https://, or http:// on a loopback address with allow_plaintext_loopback
  Secret body;      // application/x-www-form-urlencoded
  std::string user_agent;
  size_t max_reply_bytes = 0;  // of the head, and again of the body
  bool allow_plaintext_loopback = false;
  // Of name resolution, TCP and TLS together.
  absl::Duration connect_timeout;
  // Of the check before sending and everything after it together: the lease for sent requests
  // begins in the check, so what it takes counts.
  absl::Duration response_timeout;
  absl::Duration total_timeout = absl::InfiniteDuration();  // of everything together
};

struct PostResult {
  TokenResponse::Delivery delivery = TokenResponse::Delivery::kNotSent;
  // Not kAnswered: what went wrong, one word from a fixed list ("connect_failed"); "" where the
  // check refused.
  std::string error;
  absl::Status refused;  // the check's own status, where it refused
  // kAnswered
  int http_status = 0;
  Secret body;
  // The reply told its own length. If not, its end is where the connection was closed, and a reply
  // that was cut off looks like a whole one.
  bool length_known = false;
};

// Sends one POST at most once, on a connection of its own that is closed afterwards: no redirect,
// no repetition, no proxy, no cookies. `before_send` is called once, after TCP and TLS stand and
// before the first byte of the request. Blocks for at most the two timeouts plus what `before_send`
// takes beyond its own. Thread-safe.
PostResult PostOnce(const FormPost& post, const TrustAnchors& anchors, BeforeSend before_send);

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_CLIENTS_ZOHO_SINGLE_POST_H_
