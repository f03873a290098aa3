// Callers whose token Zoho refused.
#include <gtest/gtest.h>

#include <vector>

#include "common/errors.h"
#include "tests/server/issuing/world.h"

namespace tokenbroker {
namespace {

using Op = testing::FakeTokenStore::Op;
using testing::ScriptedReply;

TEST(RejectedVersion, OfTheCurrentTokenMintsANewOne) {
  World world;
  world.Add({.lifetime = absl::Hours(1)});
  ASSERT_EQ(world.Get()->token->version, 1);
  const auto answer = world.Get({.rejected_version = 1});
  EXPECT_EQ(Brief(answer), "REFRESHED at-1");
  EXPECT_EQ(answer->token->version, 2);
  EXPECT_EQ(world.zoho().sends(), 1);
}

TEST(RejectedVersion, OfAnOlderTokenMintsNothing) {
  World world;
  world.Add({});
  ASSERT_EQ(world.Get()->token->version, 2);
  EXPECT_EQ(Brief(world.Get({.rejected_version = 1})), "CACHE at-1");
  EXPECT_EQ(world.zoho().sends(), 1);
}

TEST(RejectedVersion, BeyondWhatThisReplicaKnowsMakesItLook) {
  World world({.replicas = 2});
  world.Add({.lifetime = absl::Hours(1)});
  ASSERT_EQ(Brief(world.replica(1).Get()), "STORE at-old");
  // This replica does not hear of the next version.
  world.replica(1).store().HoldEvents();
  ASSERT_EQ(world.replica(0).Get({.rejected_version = 1})->token->version, 2);
  ASSERT_EQ(Brief(world.replica(1).Get()), "CACHE at-old");
  world.Advance(absl::Seconds(1));
  EXPECT_EQ(Brief(world.replica(1).Get({.rejected_version = 2})), "REFRESHED at-2");
  EXPECT_EQ(world.zoho().sends(), 2);
}

TEST(RejectedVersion, OfNoTokenThatEverWasMintsNothingAndIsLookedForOnceASecond) {
  World world;
  world.Add({.lifetime = absl::Hours(1)});
  ASSERT_EQ(Brief(world.Get()), "STORE at-old");
  world.Advance(absl::Seconds(1));
  for (int second = 0; second < 3; ++second) {
    world.store().ResetCounts();
    EXPECT_EQ(Brief(world.Get({.rejected_version = 1'000'000})), "STORE at-old");
    for (int i = 0; i < 99; ++i) {
      EXPECT_EQ(Brief(world.Get({.rejected_version = 1'000'000})), "CACHE at-old");
    }
    EXPECT_EQ(world.store().operations(), 1);
    world.Advance(absl::Seconds(1));
  }
  EXPECT_EQ(world.zoho().sends(), 0);
}

TEST(RejectedVersion, TenThousandCallersWithOneDeadTokenCostOneRefresh) {
  World world({.replicas = 2});
  world.distance().SetLatency(absl::Milliseconds(200));
  world.Add({.lifetime = absl::Hours(1)});
  ASSERT_TRUE(world.replica(0).Get().ok());
  ASSERT_TRUE(world.replica(1).Get().ok());
  std::vector<std::shared_ptr<Call>> calls;
  for (int i = 0; i < 10'000; ++i) {
    calls.push_back(world.replica(i % 2).Start({.rejected_version = 1}));
    // Spread over the time before, while and after it is refreshed.
    if (i % 100 == 0) world.Advance(absl::Milliseconds(5));
  }
  world.Advance(absl::Seconds(1));
  for (const auto& call : calls) {
    ASSERT_EQ(call->answers, 1);
    ASSERT_EQ((*call->answer)->token->version, 2);
  }
  EXPECT_EQ(world.zoho().sends(), 1);
}

TEST(RejectedVersion, NeverGetsBackWhatWasRejected) {
  World world;
  world.Add({.lifetime = absl::Hours(1)});
  ASSERT_TRUE(world.Get().ok());
  world.zoho().ScriptAll(ScriptedReply::Transient());
  EXPECT_EQ(Brief(world.Get({.rejected_version = 1})), "ZOHO_UNAVAILABLE");
  // Others, who have not complained, are served all the same.
  EXPECT_EQ(Brief(world.Get()), "CACHE at-old");
}

TEST(RejectedVersion, AFloodStaysWithinTheBudgetAndOutOfTheStore) {
  World world;
  world.Add({.lifetime = absl::Hours(1)});
  // Callers whose every token is refused, a thousand a second for 20 s.
  int64_t version = world.Get()->token->version;
  int refused = 0;
  absl::Duration last = absl::InfiniteDuration();
  for (int i = 0; i < 20'000; ++i) {
    world.Advance(absl::Milliseconds(1));
    const auto answer = world.Get({.rejected_version = version});
    if (answer.ok()) {
      version = answer->token->version;
      continue;
    }
    if (refused++ == 0) world.store().ResetCounts();
    ASSERT_EQ(ErrorReason(answer.status()), "MINT_BUDGET_EXHAUSTED");
    const absl::Duration retry = RetryAfter(answer.status());
    ASSERT_LE(retry, last);
    ASSERT_GT(retry, absl::Seconds(570));
    last = retry;
  }
  EXPECT_EQ(world.zoho().sends(), 5);
  EXPECT_GT(refused, 19'900);
  EXPECT_EQ(world.store().operations(), 0);
  // Within the hour's budget too.
  for (int minute = 0; minute < 58; ++minute) {
    world.Advance(absl::Minutes(1));
    const auto answer = world.Get({.rejected_version = version});
    if (answer.ok()) version = answer->token->version;
  }
  EXPECT_LE(world.zoho().sends(), 8);
}

TEST(RejectedVersion, OfWhatTheFlightBringsTakesAnotherFlight) {
  World world;
  world.distance().SetLatency(absl::Seconds(1));
  world.Add({});
  const auto first = world.Start();
  world.executor().RunUntilIdle();
  // Another replica's caller had it already, and it is dead.
  const auto second = world.Start({.rejected_version = 2});
  world.Advance(absl::Seconds(2));
  EXPECT_EQ(Brief(first), "REFRESHED at-1");
  EXPECT_EQ(Brief(second), "REFRESHED at-2");
}

}  // namespace
}  // namespace tokenbroker
