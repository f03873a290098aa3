// The simulated Zoho without its network: OAuth clients, users, consents, codes, tokens, limits.
// One object holds all data centres, as codes, clients and device flows cross them. Every operation
// takes the time as an argument. Thread-safe.
//
// Parameters are what came in form body and query together. A reply is exactly what Zoho would
// send, with the name of what happened (`outcome`) and whose tokens it was about for the request
// log.

#ifndef TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_ACCOUNTS_STATE_H_
#define TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_ACCOUNTS_STATE_H_

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/mutex.h"
#include "tests/zoho_simulator/model.h"
#include "tests/zoho_simulator/reply.h"

namespace tokenbroker::zoho_simulator {

struct SeedOptions {
  std::string scopes = "ZOHOPEOPLE.forms.ALL";
  Environment environment = Environment::kProduction;
  // Orgs are called <prefix><n> and users <prefix>user-<n>; n counts up over all calls.
  std::string prefix = "org-";
};

// For CreateCode: a code without a consent page.
struct CodeRequest {
  std::string client_id;
  std::string user_id;
  std::string org_id;  // empty: the user's first
  Environment environment = Environment::kProduction;
  std::string scopes = "ZOHOPEOPLE.forms.ALL";
  std::string redirect_uri;            // the client's first one if empty; none for Self Clients
  std::optional<absl::Duration> life;  // default: Behaviour's, by client type
  bool offline = true;
  bool prompt_consent = true;
};

// What the simulator knows about a grant; for tests.
struct GrantReport {
  GrantIdentity identity;
  std::string dc;
  std::string client_id;
  bool alive = false;              // its refresh token works
  bool has_refresh_token = false;  // false: online consent or client_credentials
  int64_t mints = 0;               // access tokens that refreshes or client_credentials made, ever
  int active_access_tokens = 0;
  std::optional<absl::Time> throttled_until;
};

class AccountsState {
 public:
  explicit AccountsState(uint64_t seed = 0);  // 0: random tokens

  // ---- Set-up ----

  // Adds a DC. `accounts_server` is the URL that redirects and serverinfo name; may be set later.
  // AlreadyExists: the name is taken.
  absl::Status AddDc(std::string name, Behaviour behaviour);
  void SetAccountsServer(std::string_view dc, std::string url);
  std::vector<std::string> dc_names() const;

  // InvalidArgument: no id, no home DC or its secret, unknown DC, a Self Client with Multi-DC or
  // redirect URIs. AlreadyExists: the id is taken.
  absl::Status AddClient(ClientConfig client);
  // Kills its tokens and codes. NotFound.
  absl::Status DeleteClient(std::string_view client_id);

  // InvalidArgument: no id, unknown DC, no org. AlreadyExists: the id is taken.
  absl::Status AddUser(UserConfig user);

  // NotFound: no such DC.
  absl::StatusOr<Behaviour> GetBehaviour(std::string_view dc) const;
  absl::Status SetBehaviour(std::string_view dc, Behaviour behaviour);  // all DCs if `dc` is empty

  // Who answers consent pages that are opened without sim_... parameters.
  void SetDefaultConsent(std::optional<ConsentChoice> choice);

  // Makes `count` orgs, each with a user and a living refresh token of its own. NotFound: no such
  // DC or client. FailedPrecondition: the client is unknown in that DC.
  absl::StatusOr<std::vector<SeededGrant>> SeedGrants(std::string_view dc,
                                                      std::string_view client_id, int count,
                                                      SeedOptions options, absl::Time now);

  // What 'Generate Code' in the console does for Self Clients; for others, a consent without a
  // page. NotFound: client, user or org. FailedPrecondition: the client is unknown in the user's
  // DC. InvalidArgument: scope. ResourceExhausted: Zoho's limit of codes.
  absl::StatusOr<std::string> CreateCode(const CodeRequest& request, absl::Time now);

  // ---- What Zoho does behind an app's back ----

  // Password change with 'terminate tokens'. Returns how many grants died.
  int TerminateUserTokens(std::string_view user_id);
  // The user removes the connected app: its grants die, its next consent is a first one.
  int RemoveConnectedApp(std::string_view user_id, std::string_view client_id);
  // Kills the access tokens, not the grants, of an org in all DCs; all orgs' if empty.
  int KillAccessTokens(std::string_view org_id);
  // Kills one grant, as its revocation would. NotFound.
  absl::Status KillGrant(uint64_t grant_number);

  // ---- The endpoints ----

  // GET /oauth/serverinfo
  AccountsReply ServerInfo(std::string_view dc) const;
  // GET /oauth/v2/auth, sim_... parameters included. `path_and_query` is what links of the HTML
  // page lead back to.
  AccountsReply Authorize(std::string_view dc, const Parameters& parameters,
                          std::string_view path_and_query, absl::Time now);
  // POST /oauth/v2/token
  AccountsReply Token(std::string_view dc, const Parameters& parameters, absl::Time now);
  // POST /oauth/v2/token/revoke
  AccountsReply Revoke(std::string_view dc, const Parameters& parameters, absl::Time now);
  // POST /oauth/v2/revoke/token; `authorization` is the header's value.
  AccountsReply RevokeWithBasicAuth(std::string_view dc, std::string_view authorization,
                                    const Parameters& parameters, absl::Time now);
  // POST /oauth/v3/device/code
  AccountsReply DeviceCode(std::string_view dc, const Parameters& parameters, absl::Time now);
  // POST /oauth/v3/device/token
  AccountsReply DeviceToken(std::string_view dc, const Parameters& parameters, absl::Time now);
  // GET /oauth/v3/device?user_code=..., where the user decides; sim_... parameters as in Authorize.
  AccountsReply DevicePage(std::string_view dc, const Parameters& parameters,
                           std::string_view path_and_query, absl::Time now);
  // /people/api/...; `authorization` is the header's value, empty if there was none.
  AccountsReply People(std::string_view dc, std::string_view method, std::string_view path,
                       std::string_view authorization, absl::Time now);
  // The throttle's reply in the DC's language.
  AccountsReply Throttled(std::string_view dc) const;

  // ---- For the request log and for tests ----

  // Whose tokens the request is about, before it is processed. Number 0 if that is not known.
  GrantIdentity Identify(std::string_view dc, const Parameters& parameters,
                         std::string_view authorization) const;

  std::optional<GrantReport> FindGrant(uint64_t grant_number, absl::Time now) const;
  // The newest grant of the org, in `dc` to `client_id`.
  std::optional<GrantReport> FindGrant(std::string_view dc, std::string_view client_id,
                                       std::string_view org_id, Environment environment,
                                       absl::Time now) const;
  // The refresh token that works now. For tests that hand a grant to the code under test.
  std::optional<std::string> RefreshTokenOf(uint64_t grant_number) const;
  // "live", "expired" or "unknown" (revoked, evicted, never made).
  std::string_view AccessTokenState(std::string_view access_token, absl::Time now) const;

 private:
  // A refresh token's lineage, or the equivalent for tokens that have none.
  struct Grant {
    uint64_t number = 0;
    std::string dc;
    std::string client_id;
    std::string user_id;  // empty: client_credentials
    std::string org_id;
    Environment environment = Environment::kProduction;
    std::vector<std::string> scopes;
    std::string prefix;         // of its tokens: "1000" or "1004"
    std::string refresh_token;  // empty: none
    bool alive = true;
    absl::Time create_time;
    std::deque<std::string> access_tokens;  // oldest first
    std::optional<absl::Time> window_start;
    int window_mints = 0;
    absl::Time blocked_until = absl::InfinitePast();
    int64_t mints = 0;
  };
  struct AccessToken {
    uint64_t grant = 0;
    absl::Time expire_time;
  };
  // A refresh token string that works or worked: the current one (works for ever) or, with
  // rotation, a predecessor.
  struct RefreshToken {
    uint64_t grant = 0;
    absl::Time valid_until = absl::InfiniteFuture();
  };
  struct Code {
    std::string dc;
    std::string client_id;
    std::string user_id;
    std::string org_id;
    Environment environment = Environment::kProduction;
    std::vector<std::string> scopes;
    std::string redirect_uri;  // empty: Self Client
    bool gives_refresh_token = false;
    std::string code_challenge;
    bool challenge_is_s256 = false;
    absl::Time expire_time;
    bool used = false;
  };
  struct DeviceRequest {
    std::string user_code;
    std::string client_id;
    std::vector<std::string> scopes;
    bool offline = false;
    absl::Time expire_time;
    absl::Time last_poll = absl::InfinitePast();
    enum class Decision { kPending, kAccepted, kRefused, kUsed } decision = Decision::kPending;
    ConsentChoice choice;
  };
  // The times of the last events of one kind, for limits of N per window.
  struct Recent {
    std::deque<absl::Time> times;
    // False if the limit is reached; otherwise counts one more.
    bool Admit(int limit, absl::Duration window, absl::Time now);
  };
  struct Dc {
    std::string accounts_server;
    Behaviour behaviour;
  };
  struct UserAndOrg {
    const UserConfig* user = nullptr;
    const OrgConfig* org = nullptr;
  };
  using ClientAndUser = std::pair<std::string, std::string>;

  const Dc& DcOf(std::string_view name) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  const ClientConfig* ClientIn(std::string_view dc, std::string_view client_id) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  const std::string& SecretIn(std::string_view dc, const ClientConfig& client) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Checks client_id and client_secret; a reply if they are refused.
  std::optional<AccountsReply> RefuseClient(std::string_view dc, const Parameters& parameters) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<UserAndOrg> FindUser(const ConsentChoice& choice) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  AccountsReply ThrottledLocked(std::string_view dc) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Codes and consents.
  std::string NewCode(Code code, bool offline, bool prompt_consent, std::string_view prefix)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::string ConsentKey(const Behaviour& behaviour, const Code& code) const;
  std::string ConsentPage(const ClientConfig& client, std::string_view dc,
                          const std::vector<std::string>& scopes,
                          std::string_view path_and_query) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::optional<ConsentChoice> ChoiceOf(const Parameters& parameters) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Grants and tokens.
  AccountsReply ExchangeCode(std::string_view dc, const Parameters& parameters, absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  AccountsReply RefreshGrant(std::string_view dc, const Parameters& parameters, absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  AccountsReply ClientCredentials(std::string_view dc, const Parameters& parameters, absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Grant& NewGrant(Grant grant, bool with_refresh_token, absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // False if the grant is throttled; otherwise counts one more mint.
  bool AdmitMint(Grant& grant, const Behaviour& behaviour, absl::Time now);
  std::string NewAccessToken(Grant& grant, const Behaviour& behaviour, absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  AccountsReply TokenReply(const Grant& grant, const Dc& dc, const std::string& access_token,
                           const std::string& refresh_token) const;
  void Kill(Grant& grant) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DropAccessTokens(Grant& grant) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  AccountsReply RevokeToken(std::string_view dc, std::string_view client_id,
                            const Parameters& parameters, absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  GrantReport Report(const Grant& grant, absl::Time now) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static GrantIdentity IdentityOf(const Grant& grant);
  std::string RandomHex(int digits) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::string RandomToken(std::string_view prefix) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable Mutex mutex_;
  std::mt19937_64 random_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Dc, std::less<>> dcs_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, ClientConfig, std::less<>> clients_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, UserConfig, std::less<>> users_ ABSL_GUARDED_BY(mutex_);
  std::optional<ConsentChoice> default_consent_ ABSL_GUARDED_BY(mutex_);

  uint64_t next_grant_ ABSL_GUARDED_BY(mutex_) = 1;
  uint64_t next_seed_ ABSL_GUARDED_BY(mutex_) = 1;
  std::unordered_map<uint64_t, Grant> grants_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<std::string, RefreshToken> refresh_tokens_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<std::string, AccessToken> access_tokens_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<std::string, Code> codes_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<std::string, DeviceRequest> devices_ ABSL_GUARDED_BY(mutex_);

  // Living grants with a refresh token, oldest first.
  std::map<ClientAndUser, std::deque<uint64_t>> grants_of_ ABSL_GUARDED_BY(mutex_);
  std::map<ClientAndUser, Recent> recent_refresh_tokens_ ABSL_GUARDED_BY(mutex_);
  std::map<std::pair<std::string, std::string>, Recent> recent_codes_
      ABSL_GUARDED_BY(mutex_);  // by client and DC
  std::set<std::string> consents_ ABSL_GUARDED_BY(mutex_);
  // By DC and zsoid.
  std::map<std::pair<std::string, std::string>, std::pair<std::string, Environment>> zsoids_
      ABSL_GUARDED_BY(mutex_);
  // The stand-in grants of client_credentials, by DC, client, org, environment and scopes.
  std::map<std::string, uint64_t> credential_grants_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tokenbroker::zoho_simulator

#endif  // TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_ACCOUNTS_STATE_H_
