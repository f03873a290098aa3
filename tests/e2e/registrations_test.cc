#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/e2e/world.h"

// G6: however a grant is registered, refused, revoked and registered again, Zoho is not sent more
// than the budget allows. Zoho's own record is the judge.
namespace tokenbroker::e2e {
namespace {

constexpr int kLoops = 30;
constexpr int kBudget = 5;  // per 600 s, far more than this test takes

class Registrations : public ::testing::TestWithParam<bool> {
 protected:
  static World::Options Options() {
    World::Options options;
    options.redis = GetParam();
    // Zoho itself is to allow everything: only the broker stops.
    zoho_simulator::Limits& limits = options.behaviour.limits;
    limits.mints = limits.codes_per_window = limits.refresh_tokens_per_window = 1000;
    return options;
  }

  void SetUp() override { broker_ = &world_.StartBroker(); }

  int64_t Sends() {
    zoho_simulator::RequestFilter filter;
    filter.path = "/oauth/v2/token";
    return world_.log().Count(filter);
  }

  std::string SeededToken() {
    const auto seeded = world_.zoho().SeedGrants("us", World::kWebClientId, 1);
    EXPECT_TRUE(seeded.ok()) << seeded.status();
    return seeded.ok() ? (*seeded)[0].refresh_token : "";
  }

  void Revoke() {
    v1::RevokeGrantRequest request;
    request.set_org_id("acme");
    request.set_oauth_client(World::kWebClient);
    v1::RevokeGrantResponse response;
    grpc::ClientContext context;
    broker_->stub().RevokeGrant(&context, request, &response);
  }

  // Registers so often, and expects what the broker refuses by itself to be refused well.
  void Loop(
      const std::function<v1::RegisterGrantRequest()>& next, const std::string& reason,
      const std::function<void()>& between = [] {}) {
    int refused = 0;
    for (int i = 0; i < kLoops; ++i) {
      const CallError error = Explain(broker_->RegisterGrant(next()).status);
      if (error.reason == reason) {
        ++refused;
        EXPECT_EQ(error.code, grpc::StatusCode::RESOURCE_EXHAUSTED);
        EXPECT_GT(error.retry_delay_seconds, 0);
        EXPECT_LE(error.retry_delay_seconds, 600);
      }
      between();
    }
    EXPECT_GE(refused, kLoops - kBudget);
  }

  World world_{Options()};
  Broker* broker_ = nullptr;
};

TEST_P(Registrations, ImportedAndRevokedInALoop) {
  // Revoking kills the token at Zoho: a new one each time.
  Loop([&] { return world_.ImportRegistration("acme", "us", SeededToken()); },
       "MINT_BUDGET_EXHAUSTED", [&] { Revoke(); });
  EXPECT_EQ(Sends(), kBudget);
}

TEST_P(Registrations, FirstImportsThatZohoRefuses) {
  Loop([&] { return world_.ImportRegistration("acme", "us", "1000.wrong.token"); },
       "MINT_BUDGET_EXHAUSTED");
  EXPECT_EQ(Sends(), kBudget);
  EXPECT_EQ(Explain(broker_->GetAccessToken("acme").status).reason, "ORG_NOT_FOUND");
  // Another org has a budget of its own.
  EXPECT_TRUE(
      broker_->RegisterGrant(world_.ImportRegistration("bolt", "us", SeededToken())).status.ok());
}

TEST_P(Registrations, CodesInALoop) {
  Loop([&] { return world_.CodeRegistration("acme", "us", world_.ConsentCode("us", "org-us-1")); },
       "MINT_BUDGET_EXHAUSTED", [&] { Revoke(); });
  EXPECT_EQ(Sends(), kBudget);
}

TEST_P(Registrations, CodesThatZohoRefuses) {
  Loop([&] { return world_.CodeRegistration("acme", "us", "1000.wrong.code"); },
       "MINT_BUDGET_EXHAUSTED");
  EXPECT_EQ(Sends(), kBudget);
}

TEST_P(Registrations, NothingIsSentWhileZohoThrottles) {
  zoho_simulator::FaultRule rule;
  rule.dc = "us";
  rule.path = "/oauth/v2/token";
  rule.fault.kind = zoho_simulator::FaultKind::kThrottle;
  world_.zoho().AddFault(rule);
  EXPECT_EQ(Explain(broker_
                        ->RegisterGrant(world_.CodeRegistration(
                            "acme", "us", world_.ConsentCode("us", "org-us-1")))
                        .status)
                .reason,
            "ZOHO_THROTTLED");
  EXPECT_EQ(Sends(), 1);
  Loop([&] { return world_.CodeRegistration("acme", "us", world_.ConsentCode("us", "org-us-1")); },
       "ZOHO_THROTTLED");
  Loop([&] { return world_.ImportRegistration("acme", "us", SeededToken()); }, "ZOHO_THROTTLED");
  EXPECT_EQ(Sends(), 1) << "sent during a cooldown";
}

INSTANTIATE_TEST_SUITE_P(Stores, Registrations, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Redis" : "Sqlite"; });

}  // namespace
}  // namespace tokenbroker::e2e
