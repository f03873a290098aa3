#ifndef TOKEN_BROKER_CLIENTS_ZOHO_TOKEN_REPLY_H_
#define TOKEN_BROKER_CLIENTS_ZOHO_TOKEN_REPLY_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "common/secret.h"

namespace tokenbroker {

// What a reply of the token endpoint means for the grant.
enum class ReplyKind {
  kSuccess,         // access_token present
  kGrantDead,       // invalid_code, invalid_grant: consent is needed again
  kClientRejected,  // invalid_client, invalid_client_secret, invalid_redirect_uri, invalid_scope,
                    // missing_org_info: the operator's configuration
  kThrottled,       // HTTP 400 with "status":"failure" in whatever language, or 429
  kTransient,       // everything else: says nothing about the grant
};
std::string_view ReplyKindName(ReplyKind kind);

struct TokenReply {
  ReplyKind kind = ReplyKind::kTransient;

  // kSuccess
  Secret access_token;
  Secret refresh_token;             // empty: none in the reply
  absl::Duration lifetime;          // of the access token, from the reply on; > 0
  std::vector<std::string> scopes;  // sorted; empty: the reply named none
  std::string api_domain;           // "": none
  // Otherwise
  std::string error;   // Zoho's code where it is one of the known ones, else what was seen
                       // ("http_502", "not_json", "unknown_error"): never text of the reply
  std::string advice;  // for the operator: the guide's resolution
  int http_status = 0;
};

// Classifies a reply of `POST …/oauth/v2/token` (facts, section 4; guide, steps 3 and 4). Pure;
// takes any bytes; never fails. Zoho answers errors with HTTP 200; `expires_in` is in milliseconds
// when `expires_in_sec` is there or the value is over 86400. Where the two leave something open:
// - A lifetime that is missing, not a number or under a second counts as the guide's hour: nothing
//   would be refreshed at once, again and again. One over a day counts as a day.
// - An access token beside an error, a failure status or an HTTP error is a contradiction and not
//   taken (kTransient): an error's reply must never replace a good token.
// - An access token that no header can carry is not taken either. Such a refresh token counts as
//   none, and an `api_domain` that is no URL of a server as none.
// - Zoho's verdicts are believed with HTTP 2xx and 4xx only, not from a server that is failing
// (5xx).
TokenReply ClassifyTokenReply(int http_status, std::string_view body);

// What an operator can do about an error: the guide's resolution for Zoho's codes
// ("invalid_client"), those of the authorization page included, and for the words that
// TokenReply::error may hold. Never empty: other codes get a general text.
std::string_view ZohoErrorAdvice(std::string_view code);

// Scopes as Zoho and people write them: separated by commas and white space. Sorted, without
// duplicates (compared without regard to case; the first spelling stays).
std::vector<std::string> ParseScopes(std::string_view text);
// Whether `granted` covers `wanted`: equal without regard to case, or `service.name.ALL` for any of
// the four operations of the same name (facts, section 9).
bool ScopeCovers(std::string_view granted, std::string_view wanted);
// Those of `wanted` that none of `granted` covers.
std::vector<std::string> MissingScopes(const std::vector<std::string>& granted,
                                       const std::vector<std::string>& wanted);

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_CLIENTS_ZOHO_TOKEN_REPLY_H_
