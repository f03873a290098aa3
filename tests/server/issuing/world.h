#ifndef TOKEN_BROKER_TESTS_SERVER_ISSUING_WORLD_H_
#define TOKEN_BROKER_TESTS_SERVER_ISSUING_WORLD_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "clients/zoho/accounts_server.h"
#include "common/clock.h"
#include "server/issuing/grant_registrar.h"
#include "server/issuing/org_directory.h"
#include "server/issuing/refresher.h"
#include "server/issuing/token_issuer.h"
#include "tests/testing/fake_accounts_server.h"
#include "tests/testing/fake_token_store.h"
#include "tests/testing/manual_executor.h"

namespace tokenbroker {

// The DCs of Zoho and the OAuth clients "web", "narrow" and "self" (one secret each, "self" for
// "us" only) and "lost" (no secret).
ZohoSetup TestSetup();

// Zoho with distances: requests take their time on the executor's clock, and one that takes longer
// than the caller waits for is carried out and ends without an answer.
class DistantAccountsServer final : public AccountsServer {
 public:
  explicit DistantAccountsServer(testing::ManualExecutor* executor) : executor_(executor) {}

  TokenResponse RequestToken(const TokenRequest& request, BeforeSend before_send) override;
  absl::Status RevokeToken(const DataCenter& dc, const Secret& token,
                           absl::Duration timeout) override;

  testing::FakeAccountsServer& near() { return near_; }
  // To a connection that stands, and from the check to the reply. 0 at first.
  void SetConnectTime(absl::Duration time) { connect_ = time; }
  void SetLatency(absl::Duration time) { latency_.clear(), default_latency_ = time; }
  void SetLatency(const std::string& dc, absl::Duration time) { latency_[dc] = time; }
  // Runs once, when the next request has left and before it is answered.
  void WhenSent(std::function<void()> what) { when_sent_ = std::move(what); }
  // From now on every check before sending is made twice, as by a transport that is about to repeat
  // the request; what the second ones said.
  void CheckTwice() { check_twice_ = true; }
  const std::vector<absl::Status>& second_checks() const { return second_checks_; }
  // The most requests in flight at once with one credential.
  int max_in_flight() const { return max_in_flight_; }

 private:
  absl::Duration LatencyOf(const std::string& dc) const;

  testing::ManualExecutor* const executor_;
  testing::FakeAccountsServer near_;
  absl::Duration connect_;
  absl::Duration default_latency_;
  std::map<std::string, absl::Duration> latency_;
  std::function<void()> when_sent_;
  bool check_twice_ = false;
  std::vector<absl::Status> second_checks_;
  std::map<std::string, int> in_flight_;
  int max_in_flight_ = 0;
};

// A call of GetAccessToken, as the edge makes it.
struct Query {
  std::string org_id = "acme";
  Environment environment = Environment::kProduction;
  std::string oauth_client = "web";
  std::vector<std::string> scopes;
  absl::Duration min_lifetime = absl::Seconds(60);
  int64_t rejected_version = 0;
  absl::Duration deadline = absl::Seconds(10);
};
struct Call {
  std::optional<absl::StatusOr<TokenAnswer>> answer;
  int answers = 0;
  MonotonicTime answered_at;
  bool cached = false;  // TryCached had it
  TokenIssuer::Ticket ticket = 0;
};

struct Grant {
  GrantKey key{"acme", Environment::kProduction, "web"};
  std::string dc = "us";
  std::string refresh_token = "rt-acme";
  std::vector<std::string> scopes;
  absl::Duration lifetime;  // of its access token "at-old"; zero: none
  bool keep_warm = false;
};

// One process of the broker.
class Replica {
 public:
  Replica(const TokenIssuer::Options& options, const ProtocolLimits& limits,
          CircuitBreakers::Options breaker, const ZohoSetup* setup, testing::FakeTokenStore* store,
          AccountsServer* accounts, testing::ManualExecutor* executor);

  std::shared_ptr<Call> Start(const Query& query);
  // Until it is answered, at most a minute.
  absl::StatusOr<TokenAnswer> Get(const Query& query = {});
  absl::StatusOr<Registered> Register(Registration registration,
                                      absl::Duration deadline = absl::Seconds(10));
  absl::StatusOr<Revoked> Revoke(const GrantKey& key, absl::Duration deadline = absl::Seconds(10));

  testing::FakeTokenStore& store() { return *store_; }
  TokenIssuer& issuer() { return issuer_; }
  GrantRegistrar& registrar() { return registrar_; }
  OrgDirectory& directory() { return directory_; }
  Refresher& refresher() { return refresher_; }
  // "outcome" of all refresh events, in order; how often one came; the DC breakers' states.
  const std::vector<std::string>& outcomes() const { return outcomes_; }
  int CountOutcome(const std::string& outcome) const;
  const std::vector<std::string>& breaker_states() const { return breaker_states_; }
  int grants_missing() const { return grants_missing_; }
  int commits_pending() const { return commits_pending_; }

 private:
  std::vector<std::string> outcomes_;
  std::vector<std::string> breaker_states_;
  int grants_missing_ = 0;
  int commits_pending_ = 0;
  testing::ManualExecutor* const executor_;
  testing::FakeTokenStore* const store_;
  IssuingEvents events_;
  Refresher refresher_;
  TokenIssuer issuer_;
  GrantRegistrar registrar_;
  OrgDirectory directory_;
};

// Replicas of the real code on one store and one Zoho, on a virtual clock.
class World {
 public:
  struct Options {
    int replicas = 1;
    uint64_t seed = 0;  // not 0: chance decides about the order of things, and events are late
    testing::ManualExecutor::Options executor;
    TokenIssuer::Options issuer;
    CircuitBreakers::Options breaker;
    ProtocolLimits limits;
  };

  explicit World(const Options& options);
  World() : World(Options()) {}
  ~World();

  testing::ManualExecutor& executor() { return executor_; }
  DistantAccountsServer& distance() { return accounts_; }
  testing::FakeAccountsServer& zoho() { return accounts_.near(); }
  Replica& replica(int i = 0) { return *replicas_[i]; }
  testing::FakeTokenStore& store() { return replica().store(); }
  absl::StatusOr<TokenAnswer> Get(const Query& query = {}) { return replica().Get(query); }
  std::shared_ptr<Call> Start(const Query& query = {}) { return replica().Start(query); }
  void Advance(absl::Duration duration) { executor_.Advance(duration); }

  // Puts a grant into the store.
  void Add(const Grant& grant);
  GrantRecord record(const GrantKey& key = Grant().key) { return store().record(key); }

 private:
  const ZohoSetup setup_ = TestSetup();
  testing::ManualExecutor executor_;
  DistantAccountsServer accounts_;
  testing::FakeTokenStore first_store_;
  std::vector<std::unique_ptr<testing::FakeTokenStore>> more_stores_;
  std::vector<std::unique_ptr<Replica>> replicas_;
};

// For expectations: "CACHE at-1", or the error's reason.
std::string Brief(const absl::StatusOr<TokenAnswer>& answer);
std::string Brief(const std::shared_ptr<Call>& call);
// Of an error's RetryInfo; infinite if it has none.
absl::Duration RetryAfter(const absl::Status& status);

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_TESTS_SERVER_ISSUING_WORLD_H_
