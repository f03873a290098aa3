#ifndef TOKEN_BROKER_CLIENTS_ZOHO_OAUTH_CLIENT_H_
#define TOKEN_BROKER_CLIENTS_ZOHO_OAUTH_CLIENT_H_

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/secret.h"

namespace tokenbroker {

// The client types of Zoho's developer console (guide, step 1).
enum class OAuthClientType {
  kServerBased,  // "Web Based" in the guide
  kClientBased,  // "Java Script"
  kMobile,
  kNonBrowser,  // "Non-browser Mobile Applications", device flow
  kSelfClient,  // back-end jobs of one's own org; one DC only, no redirect URI
};
std::string_view OAuthClientTypeName(OAuthClientType type);

// A client registered in Zoho's console, as the configuration declares it.
struct OAuthClient {
  std::string name;  // the broker's own name for it: what requests and grants say
  OAuthClientType type = OAuthClientType::kServerBased;
  std::string client_name;  // as in the console
  std::string client_id;
  std::string homepage_url;
  std::vector<std::string> redirect_uris;
  std::vector<std::string> javascript_domains;

  // Either one secret for all DCs ("use the same OAuth credentials for all data centers") …
  std::optional<Secret> shared_secret;
  // … or one per DC, by DC name. A DC that is absent has no secret: calls to it are refused.
  std::map<std::string, Secret, std::less<>> secrets;

  // nullptr: no secret for this DC.
  const Secret* SecretFor(std::string_view dc) const;
};

// One rule of the console that a client breaks, with the guide's resolution.
struct OAuthClientProblem {
  std::string field;        // e.g. "redirect_uris[1]"
  std::string description;  // the rule
};

// Checks the guide's mandatory entries per client type, its rules for names, homepage URLs,
// redirect URIs and JavaScript domains, and that a Self Client has the secret of exactly one DC.
// All problems at once; empty: fine. `known_dcs`: names that `secrets` may use.
std::vector<OAuthClientProblem> CheckOAuthClient(const OAuthClient& client,
                                                 const std::vector<std::string>& known_dcs);
// Of a client whose type is not known: what holds for all types.
std::vector<OAuthClientProblem> CheckUntypedOAuthClient(const OAuthClient& client,
                                                        const std::vector<std::string>& known_dcs);

// The configured clients. Immutable; thread-safe.
class OAuthClientRegistry {
 public:
  // INVALID_ARGUMENT: two clients of one name.
  static absl::StatusOr<OAuthClientRegistry> Create(std::vector<OAuthClient> clients);
  // nullptr: no such client.
  const OAuthClient* Find(std::string_view name) const;
  const std::map<std::string, OAuthClient, std::less<>>& all() const { return by_name_; }

 private:
  std::map<std::string, OAuthClient, std::less<>> by_name_;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_CLIENTS_ZOHO_OAUTH_CLIENT_H_
