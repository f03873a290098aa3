#include <gtest/gtest.h>

#include <map>
#include <set>

#include "tests/e2e/load.h"
#include "tests/e2e/world.h"

// G1: one refresh per token generation, however many callers and replicas ask at once.
namespace tokenbroker::e2e {
namespace {

using zoho_simulator::Behaviour;
using zoho_simulator::FaultRule;

class Storm : public ::testing::Test {
 protected:
  // Tokens that registration brings have expired when callers come.
  static World::Options Options() {
    World::Options options;
    options.redis = true;
    options.behaviour.access_token_life = absl::Seconds(1);
    return options;
  }

  void SetUp() override {
    for (int i = 0; i < 3; ++i) brokers_.push_back(&world_.StartBroker());
  }

  // From here on Zoho's tokens live an hour, and an answer takes 300 ms: time for everybody to ask.
  void LetTokensLive() {
    Behaviour behaviour;
    ASSERT_TRUE(world_.zoho().accounts().SetBehaviour("", behaviour).ok());
    FaultRule slow;
    slow.path = "/oauth/v2/token";
    slow.fault.delay = absl::Milliseconds(300);
    world_.zoho().AddFault(slow);
    world_.log().Clear();
  }

  World world_{Options()};
  std::vector<Broker*> brokers_;
};

v1::GetAccessTokenRequest RequestFor(const std::string& org_id) {
  v1::GetAccessTokenRequest request;
  request.set_org_id(org_id);
  request.set_oauth_client(World::kWebClient);
  return request;
}

TEST_F(Storm, TenThousandCallersOfThreeReplicasCauseOneRefresh) {
  world_.RegisterImported(*brokers_[0], "acme", "eu");
  LetTokensLive();

  const std::vector<CallResult> results =
      CallAllAtOnce(brokers_, std::vector<v1::GetAccessTokenRequest>(10'000, RequestFor("acme")));

  EXPECT_EQ(world_.Refreshes(), 1);
  EXPECT_EQ(world_.Refreshes("minted"), 1);
  std::set<int64_t> versions;
  std::map<std::string, int> errors;
  for (const CallResult& result : results) {
    if (result.status.ok()) {
      versions.insert(result.version);
    } else {
      ++errors[Explain(result.status).reason + ": " + result.status.error_message()];
    }
  }
  EXPECT_EQ(versions.size(), 1u);
  for (const auto& [error, count] : errors) ADD_FAILURE() << count << " times " << error;
}

TEST_F(Storm, AThousandGrantsCauseAThousandRefreshes) {
  constexpr int kGrants = 1000;
  const auto seeded = world_.zoho().SeedGrants("us", World::kWebClientId, kGrants);
  ASSERT_TRUE(seeded.ok());
  std::vector<v1::GetAccessTokenRequest> requests;
  for (int i = 0; i < kGrants; ++i) {
    const std::string org = "org-" + std::to_string(i);
    const Broker::Registered registered = brokers_[i % 3]->RegisterGrant(
        world_.ImportRegistration(org, "us", (*seeded)[i].refresh_token));
    ASSERT_TRUE(registered.status.ok()) << registered.status.error_message();
    // Every replica is asked for every grant.
    for (int call = 0; call < 10; ++call) requests.push_back(RequestFor(org));
  }
  LetTokensLive();

  const std::vector<CallResult> results = CallAllAtOnce(brokers_, requests);

  EXPECT_EQ(world_.Refreshes(), kGrants);
  EXPECT_EQ(world_.Refreshes("minted"), kGrants);
  EXPECT_EQ(world_.log().MaxInFlightPerGrant(), 1);
  std::map<std::string, std::set<int64_t>> versions;
  for (size_t i = 0; i < results.size(); ++i) {
    ASSERT_TRUE(results[i].status.ok()) << results[i].status.error_message();
    versions[requests[i].org_id()].insert(results[i].version);
  }
  for (const auto& [org, seen] : versions) EXPECT_EQ(seen.size(), 1u) << org;
}

}  // namespace
}  // namespace tokenbroker::e2e
