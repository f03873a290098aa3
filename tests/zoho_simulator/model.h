// The plain data of the simulated Zoho: data centres, OAuth clients, users and their orgs, and what
// can be tuned. No behaviour, no sockets, no clock. Facts are marked with where they come from:
// "guide" is the vendor's OAuth guide, "observed" is what SDKs, captures and integrations show.

#ifndef TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_MODEL_H_
#define TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_MODEL_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"

namespace tokenbroker::zoho_simulator {

// One row of Zoho's table of data centres (DC).
struct DataCentre {
  std::string name;             // `location` in redirects: "us", "eu", ...
  std::string accounts_server;  // "https://accounts.zoho.com"
  std::string api_domain;       // "https://www.zohoapis.com"
  std::string people_host;      // "people.zoho.com"
};

// The eleven real data centres. The simulator answers with their API domains unless told otherwise.
const std::vector<DataCentre>& RealDataCentres();

// The row of `name`, or nullptr.
const DataCentre* FindRealDataCentre(std::string_view name);

enum class Environment { kProduction, kSandbox, kDeveloper };

// "PRODUCTION", "SANDBOX" or "DEVELOPER".
std::string_view EnvironmentName(Environment environment);
std::optional<Environment> ParseEnvironment(std::string_view name);

enum class ClientType { kServerBased, kClientBased, kMobile, kNonBrowser, kSelfClient };

// "server_based", "client_based", "mobile", "non_browser" or "self_client".
std::string_view ClientTypeName(ClientType type);
std::optional<ClientType> ParseClientType(std::string_view name);

// An OAuth client as Zoho's developer console holds it.
struct ClientConfig {
  std::string client_id;
  ClientType type = ClientType::kServerBased;
  // The DC of the console that made the client. Elsewhere it is unknown, unless `multi_dc`.
  std::string home_dc;
  // With Multi-DC the client is known in each DC that `secrets` names (in all DCs if
  // `same_secret_everywhere`). Not available to Self Clients.
  bool multi_dc = false;
  bool same_secret_everywhere = false;
  // Client secret by DC; must have the home DC.
  std::map<std::string, std::string> secrets;
  // Compared exactly. Self Clients have none.
  std::vector<std::string> redirect_uris;
};

struct OrgConfig {
  std::string org_id;
  std::string name;
  // The environments that the org has, with the zsoid that `soid=<Service>.<zsoid>` names in
  // client_credentials. Empty: PRODUCTION only, with the org_id as zsoid.
  std::map<Environment, std::string> environments;
};

// A user lives in one DC and may consent for each of the orgs.
struct UserConfig {
  std::string user_id;
  std::string dc;
  std::vector<OrgConfig> orgs;
};

// What a user answers on the consent page.
struct ConsentChoice {
  std::string user_id;
  std::string org_id;  // empty: the user's first org
  Environment environment = Environment::kProduction;
  bool accept = true;
};

// How `expires_in` is told. Observed: where `expires_in_sec` is present it has the seconds and
// `expires_in` is in milliseconds.
enum class ExpiresInStyle { kSeconds, kMillisecondsWithSeconds, kMillisecondsOnly, kAbsent };

// "seconds", "milliseconds_with_seconds", "milliseconds_only" or "absent".
std::string_view ExpiresInStyleName(ExpiresInStyle style);
std::optional<ExpiresInStyle> ParseExpiresInStyle(std::string_view name);

// The language of the throttle's texts. Zoho localises them.
enum class Language { kEnglish, kChinese };

// "en" or "zh".
std::string_view LanguageName(Language language);
std::optional<Language> ParseLanguage(std::string_view name);

// Zoho's limits. A count of 0 switches a limit off.
struct Limits {
  int active_access_tokens = 10;       // per refresh token; the next one kills the oldest, silently
  int mints = 10;                      // by refresh token, per refresh token and window
  int refresh_tokens = 20;             // per user and client; the next one evicts the oldest
  int refresh_tokens_per_window = 10;  // made, per user and client
  int codes_per_window = 10;           // made, per client and DC
  absl::Duration window = absl::Seconds(600);
};

// How one DC behaves. All of it can be changed while the simulator runs.
struct Behaviour {
  absl::Duration access_token_life = absl::Seconds(3600);
  absl::Duration code_life = absl::Seconds(60);               // guide: one minute by redirect
  absl::Duration self_client_code_life = absl::Seconds(180);  // observed: 3 to 10 minutes
  ExpiresInStyle expires_in = ExpiresInStyle::kSeconds;
  bool scope_in_replies = true;  // space separated; some replies have none
  std::string api_domain;        // empty: the real one of the DC and of the grant's environment
  std::string wrong_secret_error = "invalid_client_secret";  // the guide says "invalid_client"
  Language throttle_language = Language::kEnglish;
  bool retries_extend_block = false;  // one report: a retry while throttled starts a new window
  // Zoho does not rotate refresh tokens. Where this is on, each refresh reply carries a new one,
  // and the old one dies after `rotation_leeway`.
  bool rotate_refresh_tokens = false;
  absl::Duration rotation_leeway = absl::ZeroDuration();
  bool rotation_reuse_revokes = false;  // a dead predecessor's use kills the whole grant
  // Observed: a refresh token comes at a user's first offline consent to a client, and later only
  // with prompt=consent. True: the first consent of each org and environment counts as a first.
  bool first_consent_per_org = false;
  // The consent redirect. Empty: the truth. Other values are for attacks.
  std::string redirect_location;
  std::string redirect_accounts_server;
  std::map<std::string, std::string> extra_redirect_parameters;
  absl::Duration device_code_life = absl::Seconds(300);
  absl::Duration device_interval = absl::Seconds(5);
  Limits limits;
};

// Whose tokens a request is about. Never holds a token. `number` identifies the grant (the refresh
// token's lineage) for the simulator's life; 0 means none was recognised.
struct GrantIdentity {
  uint64_t number = 0;
  std::string user_id;
  std::string org_id;
  Environment environment = Environment::kProduction;
};

// A grant made without a consent page.
struct SeededGrant {
  GrantIdentity identity;
  std::string dc;
  std::string client_id;
  std::string refresh_token;
};

}  // namespace tokenbroker::zoho_simulator

#endif  // TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_MODEL_H_
