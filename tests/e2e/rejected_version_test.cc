#include <gtest/gtest.h>

#include <atomic>
#include <map>

#include "common/mutex.h"
#include "tests/e2e/load.h"
#include "tests/e2e/world.h"

// G6: a caller that is refused everywhere and reports each token as dead cannot make the broker
// exceed the grant's budget, which is half of what Zoho allows.
namespace tokenbroker::e2e {
namespace {

constexpr int kBudget = 5;  // per 600 s, the registration's own request included

TEST(RejectedVersion, AThousandReportsASecondStayWithinTheBudget) {
  World world;
  Broker& broker = world.StartBroker();
  world.RegisterImported(broker, "acme", "us");

  std::atomic<int64_t> newest{1};
  std::atomic<int> tokens{0};
  Mutex mutex;
  std::map<std::string, int> reasons;
  double longest_retry_delay = 0;
  CallAtRate(
      broker, 1000, absl::Seconds(20),
      [&] {
        v1::GetAccessTokenRequest request;
        request.set_org_id("acme");
        request.set_oauth_client(World::kWebClient);
        request.set_rejected_version(newest);
        return request;
      },
      [&](const CallResult& result) {
        if (result.status.ok()) {
          ++tokens;
          int64_t seen = newest;
          while (seen < result.version && !newest.compare_exchange_weak(seen, result.version)) {
          }
          return;
        }
        const CallError error = Explain(result.status);
        MutexLock lock(mutex);
        ++reasons[error.reason];
        longest_retry_delay = std::max(longest_retry_delay, error.retry_delay_seconds);
      });

  EXPECT_LE(world.Refreshes(), kBudget);
  EXPECT_GE(world.Refreshes(), 2) << "the reports were not believed at all";
  EXPECT_EQ(world.Refreshes("throttled"), 0);
  MutexLock lock(mutex);
  EXPECT_EQ(reasons.size(), 1u);
  EXPECT_GT(reasons["MINT_BUDGET_EXHAUSTED"], 10'000);
  EXPECT_GT(longest_retry_delay, 0);
  EXPECT_LE(longest_retry_delay, 600);
  EXPECT_GT(tokens, 0);
}

TEST(RejectedVersion, OnlyTheCurrentVersionIsBelieved) {
  World world;
  Broker& broker = world.StartBroker();
  world.RegisterImported(broker, "acme", "us");
  const Broker::Token first = broker.GetAccessToken("acme");
  ASSERT_TRUE(first.status.ok());
  const int64_t before = world.Refreshes();

  const Broker::Token second = broker.GetAccessToken(
      "acme", [&](auto& request) { request.set_rejected_version(first.token.version()); });
  ASSERT_TRUE(second.status.ok()) << second.status.error_message();
  EXPECT_GT(second.token.version(), first.token.version());
  EXPECT_NE(second.token.access_token(), first.token.access_token());
  EXPECT_EQ(second.token.source(), v1::TOKEN_SOURCE_REFRESHED);
  EXPECT_EQ(world.Refreshes(), before + 1);

  // A thousand callers still hold the first one.
  std::vector<v1::GetAccessTokenRequest> requests(1000);
  for (v1::GetAccessTokenRequest& request : requests) {
    request.set_org_id("acme");
    request.set_oauth_client(World::kWebClient);
    request.set_rejected_version(first.token.version());
  }
  for (const CallResult& result : CallAllAtOnce({&broker}, requests)) {
    ASSERT_TRUE(result.status.ok());
    EXPECT_EQ(result.version, second.token.version());
  }
  EXPECT_EQ(world.Refreshes(), before + 1);
}

}  // namespace
}  // namespace tokenbroker::e2e
