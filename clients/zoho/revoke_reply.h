#ifndef TOKEN_BROKER_CLIENTS_ZOHO_REVOKE_REPLY_H_
#define TOKEN_BROKER_CLIENTS_ZOHO_REVOKE_REPLY_H_

#include <string>
#include <string_view>

namespace tokenbroker {

// What a reply of the revocation endpoint means.
struct RevokeReply {
  // The token is dead at this DC: revoked now, or not known to it (any more).
  bool dead = false;
  // Where it may still live: what was seen, as in TokenReply::error.
  std::string error;
};

// Classifies a reply of `POST …/oauth/v2/token/revoke` (facts, section 6): HTTP 200 is a revocation
// unless the body tells of an error (Zoho's errors come with HTTP 200 elsewhere), HTTP 400 an
// unknown token, unless it is the throttle, a page, or an error of the server's own. Pure; takes
// any bytes; never fails.
RevokeReply ClassifyRevokeReply(int http_status, std::string_view body);

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_CLIENTS_ZOHO_REVOKE_REPLY_H_
