#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/mutex.h"
#include "tests/faults/fault_world.h"

// Redis is killed, emptied, or cannot be reached.
namespace tokenbroker::faults {
namespace {

// Less than the 120 s at which a caller waits for a refresh, more than the 60 s that a token must
// have left: every call wants a refresh and may have the old token.
constexpr absl::Duration kDueButGood = absl::Seconds(110);

std::string Ops(Broker& broker, const std::string& page) {
  return absl::StrCat("http://", broker.ops_address(), page);
}

// Promise: an acknowledged commit survives (G2, G3). Fault: SIGKILL of a Redis with an append-only
// file that is synced always, while callers reject one token after the other at two replicas.
// Asserted: of at least 1,000 tokens that callers were given, the last ones while Redis was gone, 0
// are newer than what is in Redis after the restart, and what a replica without memory reads; no
// version is ever given out twice with another token.
TEST(RedisAway, KilledUnderLoadLosesNoAcknowledgedCommit) {
  constexpr int kGrants = 40;
  constexpr int kAcknowledgedBeforeTheKill = 1000;
  constexpr int kAcknowledgedAfterwards = 50;
  Scale scale;
  scale.failure_backoff = "[50ms]";
  World::Options options = RedisWorld(scale);
  options.behaviour.access_token_life = absl::Hours(1);
  options.behaviour.limits.active_access_tokens = 0;
  options.redis_server.append_only = true;
  World world(options);
  Broker* brokers[] = {&world.StartBroker(), &world.StartBroker()};
  const auto seeded = world.zoho().SeedGrants("us", World::kWebClientId, kGrants);
  ASSERT_TRUE(seeded.ok());

  struct Caller {
    std::string org;
    int64_t version = 0;
    std::string token;
    std::string contradiction;
    std::thread thread;
  };
  std::vector<Caller> callers(kGrants);
  for (int i = 0; i < kGrants; ++i) {
    callers[i].org = absl::StrCat("org-", i);
    const auto registered = brokers[i % 2]->RegisterGrant(
        world.ImportRegistration(callers[i].org, "us", (*seeded)[i].refresh_token));
    ASSERT_TRUE(registered.status.ok()) << registered.status.error_message();
  }
  std::atomic<int> acknowledged{0};
  std::atomic<bool> stop{false};
  const auto start = [&] {
    stop = false;
    for (int i = 0; i < kGrants; ++i) {
      callers[i].thread = std::thread([&, &caller = callers[i], &broker = *brokers[i % 2]] {
        while (!stop) {
          const Broker::Token answer = broker.GetAccessToken(caller.org, Rejecting(caller.version));
          if (!answer.status.ok()) {  // Redis is down
            absl::SleepFor(absl::Milliseconds(10));
            continue;
          }
          if (answer.token.version() < caller.version ||
              (answer.token.version() == caller.version &&
               answer.token.access_token() != caller.token)) {
            caller.contradiction =
                absl::StrCat("version ", answer.token.version(), " after version ", caller.version);
          }
          if (answer.token.version() > caller.version) ++acknowledged;
          caller.version = answer.token.version();
          caller.token = answer.token.access_token();
        }
      });
    }
  };
  // Every caller has its last answer.
  const auto end = [&] {
    stop = true;
    for (Caller& caller : callers) caller.thread.join();
  };
  start();
  EXPECT_TRUE(WaitUntil([&] { return acknowledged >= kAcknowledgedBeforeTheKill; }));
  world.redis().Kill();
  end();
  EXPECT_EQ(world.redis().Restart(), absl::OkStatus());
  // Before callers go on and later commits hide what was lost.
  for (const Caller& caller : callers) {
    EXPECT_GE(Number(world.redis(), caller.org, "g"), caller.version) << caller.org;
  }
  const int before = acknowledged;
  start();
  EXPECT_TRUE(WaitUntil([&] { return acknowledged >= before + kAcknowledgedAfterwards; },
                        absl::Seconds(60)));
  end();

  Broker& forgetful = world.StartBroker();
  for (const Caller& caller : callers) {
    EXPECT_EQ(caller.contradiction, "") << caller.org;
    const Broker::Token stored = forgetful.GetAccessToken(caller.org);
    ASSERT_TRUE(stored.status.ok()) << stored.status.error_message();
    EXPECT_GE(stored.token.version(), caller.version) << caller.org;
    if (stored.token.version() == caller.version) {
      EXPECT_EQ(stored.token.access_token(), caller.token) << caller.org;
    }
  }
  EXPECT_EQ(world.log().MaxInFlightPerGrant(), 1);
}

// Promise: nothing is sent for a grant that nobody knows, and the loss is loud. Fault: FLUSHALL
// under two replicas, one with the grant in its memory. Asserted: NOT_FOUND for all, 0 requests, 1
// grant counted as missing, both replicas live on and serve a grant that is registered then.
TEST(RedisAway, FlushedMeansNotFoundAndAnAlarm) {
  World::Options options = RedisWorld();
  options.behaviour.access_token_life = kDueButGood;
  World world(options);
  Broker& a = world.StartBroker();
  Broker& b = world.StartBroker();
  world.RegisterImported(a, "acme", "us");
  ASSERT_TRUE(a.GetAccessToken("acme").status.ok());
  world.log().Clear();

  ASSERT_TRUE(world.redis().Command({"FLUSHALL"}).ok());
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(Explain(a.GetAccessToken("acme").status).reason, "ORG_NOT_FOUND");
    EXPECT_EQ(Explain(b.GetAccessToken("acme").status).reason, "ORG_NOT_FOUND");
  }
  EXPECT_EQ(world.log().Summary().requests, 0);
  EXPECT_EQ(Metric(a, "tokenbroker_grants_missing_total"), 1);
  EXPECT_EQ(Metric(b, "tokenbroker_grants_missing_total"), 0);  // it never knew of the grant

  world.RegisterImported(b, "acme", "us");
  EXPECT_TRUE(WaitUntil([&] { return a.GetAccessToken("acme").status.ok(); }));
  EXPECT_TRUE(b.GetAccessToken("acme").status.ok());
  EXPECT_EQ(a.Stop(), 0);
  EXPECT_EQ(b.Stop(), 0);
}

// Promise: a Redis that is away takes no living token away, and lets nothing be sent. Fault: the
// network to Redis is down for 60 s. Asserted: every call is served, 0 requests, alive and ready;
// 2 s after the network is back one refresh has been made and changes are heard again.
TEST(RedisAway, CachedTokensAreServedMeanwhile) {
  constexpr absl::Duration kAway = absl::Seconds(60);
  // At the end the token still has the 60 s without which it is not handed out; all the time it has
  // so little that a caller waits for a refresh.
  constexpr absl::Duration kLife = absl::Seconds(170);
  constexpr absl::Duration kRecovery = absl::Seconds(2);
  World::Options options = RedisWorld();
  options.behaviour.access_token_life = kLife;
  World world(options);
  LossyProxy network(world.redis().port());
  std::vector<std::string> flags = RedisAt(network.port());
  flags.insert(flags.end(), {"--set", "issuing.forced_refresh=175s"});
  Broker& broker = world.StartBroker(flags);
  world.RegisterImported(broker, "acme", "us");
  const Broker::Token cached = broker.GetAccessToken("acme");
  ASSERT_TRUE(cached.status.ok()) << cached.status.error_message();
  world.log().Clear();

  network.SetDown(true);
  const absl::Time back_at = absl::Now() + kAway;
  while (absl::Now() < back_at) {
    const Broker::Token answer = broker.GetAccessToken("acme");
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_EQ(answer.token.access_token(), cached.token.access_token());
    EXPECT_EQ(answer.token.source(), v1::TOKEN_SOURCE_STALE);
    absl::SleepFor(absl::Milliseconds(20));  // many callers, not a busy loop
  }
  EXPECT_EQ(world.Refreshes(), 0);
  EXPECT_EQ(Metric(broker, "tokenbroker_store_subscribed"), 0);
  EXPECT_EQ(e2e::HttpGet(Ops(broker, "/livez")).status, 200);
  EXPECT_EQ(e2e::HttpGet(Ops(broker, "/readyz")).status, 200);

  network.SetDown(false);
  const absl::Time up = absl::Now();
  EXPECT_TRUE(WaitUntil(
      [&] { return broker.GetAccessToken("acme").token.source() == v1::TOKEN_SOURCE_REFRESHED; },
      kRecovery));
  EXPECT_TRUE(WaitUntil([&] { return Metric(broker, "tokenbroker_store_subscribed") == 1; },
                        up + kRecovery - absl::Now()));
  EXPECT_GE(world.Refreshes(), 1);
  EXPECT_EQ(world.log().MaxInFlightPerGrant(), 1);
}

}  // namespace
}  // namespace tokenbroker::faults
