// Refreshing before anybody has to wait for it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/server/issuing/world.h"

namespace tokenbroker {
namespace {

using Op = testing::FakeTokenStore::Op;
using testing::ScriptedReply;

GrantKey KeyOf(const std::string& org) { return {org, Environment::kProduction, "web"}; }

// When after the start the grant is refreshed for the second time, to the second.
int SecondRefresh(World& world, int from = 2600, int until = 3100) {
  world.Advance(absl::Seconds(from));
  for (int second = from; second <= until; ++second) {
    if (world.zoho().sends() > 1) return second;
    world.Advance(absl::Seconds(1));
  }
  return -1;
}

TEST(RefreshAhead, UsedGrantsAreRefreshedAtTenMinutesAndJitter) {
  World world;
  world.Add({});
  EXPECT_EQ(Brief(world.Get()), "REFRESHED at-1");
  const int second = SecondRefresh(world);
  EXPECT_GE(second, 3600 - 900);
  EXPECT_LE(second, 3600 - 600 + 1);
  // Nobody had to wait for it.
  EXPECT_EQ(Brief(world.Get()), "CACHE at-2");
}

TEST(RefreshAhead, TheJitterIsTheGrantsOwn) {
  std::vector<int> seconds;
  for (const char* org : {"a", "b", "c", "d", "a"}) {
    World world;
    world.Add({.key = KeyOf(org)});
    ASSERT_EQ(Brief(world.Get({.org_id = org})), "REFRESHED at-1");
    seconds.push_back(SecondRefresh(world));
  }
  // The same grant at the same time in every process, different ones at different times.
  EXPECT_EQ(seconds.front(), seconds.back());
  seconds.pop_back();
  std::sort(seconds.begin(), seconds.end());
  EXPECT_GT(std::unique(seconds.begin(), seconds.end()) - seconds.begin(), 2);
}

TEST(RefreshAhead, IdleOrgsCostNothing) {
  World world;
  world.Add({});
  ASSERT_TRUE(world.Get().ok());
  world.Advance(absl::Hours(24));
  // Used in the first token's lifetime: refreshed once. Not used in the second one's: no more.
  EXPECT_EQ(world.zoho().sends(), 2);
  world.store().ResetCounts();
  world.Advance(absl::Hours(24));
  EXPECT_EQ(world.store().operations(), 0);
}

TEST(RefreshAhead, BusyOrgsGoOnForever) {
  World world;
  world.Add({});
  ASSERT_TRUE(world.Get().ok());
  for (int i = 0; i < 24 * 12; ++i) {
    world.Advance(absl::Minutes(5));
    EXPECT_EQ(world.Get()->source, TokenSource::kCache);
  }
  // 24 h, 45 to 50 minutes each.
  EXPECT_GE(world.zoho().sends(), 28);
  EXPECT_LE(world.zoho().sends(), 33);
}

TEST(RefreshAhead, WhoComesBackLateStillDoesNotWait) {
  World world;
  world.Add({});
  ASSERT_TRUE(world.Get().ok());
  // The second token becomes due unused.
  ASSERT_GT(SecondRefresh(world), 0);
  world.Advance(absl::Seconds(3100));
  ASSERT_EQ(world.zoho().sends(), 2);
  // Its first use from then on fetches the next one in the background.
  EXPECT_EQ(Brief(world.Get()), "CACHE at-2");
  world.executor().RunUntilIdle();
  EXPECT_EQ(world.zoho().sends(), 3);
  EXPECT_EQ(Brief(world.Get()), "CACHE at-3");
  EXPECT_EQ(Brief(world.Get()), "CACHE at-3");
  world.executor().RunUntilIdle();
  EXPECT_EQ(world.zoho().sends(), 3);
}

TEST(RefreshAhead, WarmOrgsNeedNobodyToAsk) {
  World world;
  world.Add({.keep_warm = true});
  world.Add({.key = KeyOf("idle"), .refresh_token = "rt-idle"});
  world.replica().issuer().StartKeepingWarm();
  world.Advance(absl::Seconds(1));
  // An imported one that never had a token gets it.
  EXPECT_EQ(world.zoho().sends("rt-acme"), 1);
  EXPECT_EQ(Brief(world.Get()), "CACHE at-1");
  world.Advance(absl::Hours(24));
  EXPECT_GE(world.zoho().sends("rt-acme"), 28);
  EXPECT_LE(world.zoho().sends("rt-acme"), 33);
  EXPECT_EQ(world.zoho().sends("rt-idle"), 0);
}

TEST(RefreshAhead, TheSweepReadsPageByPageAndSurvivesTheStore) {
  World world;
  for (int i = 0; i < 2500; ++i) {
    world.Add({.key = KeyOf(absl::StrCat("org", i)),
               .refresh_token = absl::StrCat("rt-", i),
               .keep_warm = i % 500 == 0});
  }
  world.store().SetUnavailable(Op::kListPage, true);
  world.replica().issuer().StartKeepingWarm();
  world.Advance(absl::Seconds(30));
  EXPECT_EQ(world.zoho().sends(), 0);
  world.store().SetUnavailable(Op::kListPage, false);
  world.Advance(absl::Seconds(10));
  EXPECT_EQ(world.zoho().sends(), 5);
}

TEST(RefreshAhead, TheSweepGoesOnPastWhatCannotBeRead) {
  World world;
  for (int i = 0; i < 2500; ++i) {
    world.Add({.key = KeyOf(absl::StrCat("org", 1000 + i)),
               .refresh_token = absl::StrCat("rt-", i),
               .keep_warm = i % 500 == 0});
  }
  // A page of nothing else, the end of another, and a warm one.
  for (int i = 1; i < 1600; ++i) {
    if (i % 500 != 0) world.store().Damage(KeyOf(absl::StrCat("org", 1000 + i)));
  }
  world.store().Damage(KeyOf("org3000"));
  world.store().AddStrayKey("org2");
  world.replica().issuer().StartKeepingWarm();
  world.Advance(absl::Seconds(10));
  EXPECT_EQ(world.zoho().sends(), 4);
  // And it comes round again.
  world.store().Edit(KeyOf("org3400"), [](GrantRecord& record) { record.info.keep_warm = true; });
  world.Advance(absl::Seconds(70));
  EXPECT_EQ(world.zoho().sends("rt-2400"), 1);
}

TEST(RefreshAhead, AFailureIsRepeatedWhileTheTokenLives) {
  World world;
  world.Add({});
  ASSERT_TRUE(world.Get().ok());
  world.zoho().Script("rt-acme", ScriptedReply::Transient());
  world.zoho().Script("rt-acme", ScriptedReply::Transient());
  ASSERT_GT(SecondRefresh(world), 0);
  EXPECT_EQ(Brief(world.Get()), "CACHE at-1");
  world.Advance(absl::Minutes(2));
  EXPECT_EQ(world.zoho().sends(), 4);
  EXPECT_EQ(Brief(world.Get()), "CACHE at-2");
}

TEST(RefreshAhead, TheLastSendIsForACaller) {
  World world;
  world.Add({.lifetime = absl::Seconds(1000)});
  ASSERT_EQ(Brief(world.Get()), "STORE at-old");
  world.store().Edit(Grant().key, [&](GrantRecord& record) {
    record.sends.assign(4, world.executor().clock().wall());
  });
  world.Advance(absl::Seconds(510));
  EXPECT_EQ(world.zoho().sends(), 0);
  EXPECT_GT(world.replica().CountOutcome("budget"), 0);
  EXPECT_EQ(Brief(world.Get({.min_lifetime = absl::Seconds(900)})), "REFRESHED at-1");
}

TEST(RefreshAhead, WhoJoinsBackgroundWorkIsNotRefusedLikeIt) {
  World world;
  world.Add({.lifetime = absl::Seconds(500)});
  world.store().Edit(Grant().key, [&](GrantRecord& record) {
    record.sends.assign(4, world.executor().clock().wall());
    record.updated = record.access_expiry - absl::Hours(1);
  });
  world.replica().issuer().RefreshInBackground(Grant().key);
  const auto call = world.Start({.min_lifetime = absl::Seconds(600)});
  world.executor().RunUntilIdle();
  EXPECT_EQ(world.replica().CountOutcome("budget"), 1);
  EXPECT_EQ(Brief(call).substr(Brief(call).size() - 4), "at-1");
}

TEST(RefreshAhead, ShortLivedTokensAreNotMintedInARow) {
  World world;
  world.zoho().SetLifetime(absl::Seconds(400));
  world.Add({});
  ASSERT_EQ(Brief(world.Get()), "REFRESHED at-1");
  for (int i = 0; i < 10; ++i) {
    world.Advance(absl::Seconds(10));
    EXPECT_EQ(world.Get()->source, TokenSource::kCache);
  }
  EXPECT_EQ(world.zoho().sends(), 1);
  world.Advance(absl::Seconds(101));
  EXPECT_EQ(world.zoho().sends(), 2);
}

TEST(RefreshAhead, ASecondReplicaThatIsLateOnlyListens) {
  World world({.replicas = 2});
  world.distance().SetLatency(absl::Milliseconds(200));
  world.Add({});
  ASSERT_EQ(Brief(world.replica(0).Get()), "REFRESHED at-1");
  ASSERT_EQ(Brief(world.replica(1).Get()), "STORE at-1");
  // Both are due at the same moment; one refreshes.
  world.Advance(absl::Seconds(3100));
  EXPECT_EQ(world.zoho().sends(), 2);
  EXPECT_EQ(Brief(world.replica(0).Get()).substr(6), "at-2");
  EXPECT_EQ(world.replica(1).Get()->token->access_token.Reveal(), "at-2");
  EXPECT_EQ(world.zoho().sends(), 2);
}

// However often a token comes and goes, it has one timer, and that only while it is here.
TEST(RefreshAhead, IsDueOncePerTokenInTheCache) {
  World world({.issuer = {.cache_entries = 1}});  // per shard of it
  constexpr int kOrgs = 200;
  for (int i = 0; i < kOrgs; ++i) {
    world.Add({.key = KeyOf(absl::StrCat("org", i)), .lifetime = absl::Hours(1)});
  }
  for (int i = 0; i < 10 * kOrgs; ++i) {
    ASSERT_TRUE(world.Get({.org_id = absl::StrCat("org", i % kOrgs)}).ok());
  }
  world.Advance(absl::Minutes(1));  // beyond the callers' deadlines
  ASSERT_GT(world.store().count(Op::kLoad), kOrgs) << "some were here and went";
  EXPECT_EQ(world.executor().timers(), world.replica().issuer().cached());
  // Those that are here are refreshed all the same.
  world.Advance(absl::Minutes(50));
  EXPECT_EQ(world.zoho().sends(), static_cast<int>(world.replica().issuer().cached()));
}

TEST(RefreshAhead, IsDueOnceWhateverElseRefreshesTheToken) {
  World world;
  world.Add({.lifetime = absl::Hours(1)});
  for (int64_t version = 1; version <= 4; ++version) {
    ASSERT_EQ(world.Get()->token->version, version);
    ASSERT_TRUE(world.Get({.rejected_version = version}).ok());
    world.Advance(absl::Minutes(1));
    EXPECT_EQ(world.executor().timers(), 1u);
  }
  ASSERT_TRUE(world.store().Revoke({Grant().key}).ok());
  world.executor().RunUntilIdle();
  EXPECT_EQ(world.executor().timers(), 0u);
}

TEST(RefreshAhead, RefreshInBackgroundLooksAtTheClock) {
  World world;
  world.Add({.lifetime = absl::Seconds(3000)});
  world.replica().issuer().RefreshInBackground(Grant().key);
  world.executor().RunUntilIdle();
  EXPECT_EQ(world.zoho().sends(), 0);
  world.Advance(absl::Seconds(2450));
  world.replica().issuer().RefreshInBackground(Grant().key);
  world.executor().RunUntilIdle();
  EXPECT_EQ(world.zoho().sends(), 1);
}

TEST(RefreshAhead, DoesNotWaitForAnotherReplica) {
  World world({.replicas = 2});
  world.Add({});
  ASSERT_TRUE(world.replica(0).Get().ok());
  ASSERT_TRUE(world.replica(1).Get().ok());
  // Both find it due at the same time; one refreshes, and the other has better things to do.
  world.distance().SetLatency(absl::Seconds(5));
  ASSERT_TRUE(
      world.executor().RunUntil([&] { return world.zoho().checks() == 2; }, absl::Hours(1)));
  world.executor().RunUntilIdle();
  EXPECT_EQ(world.replica(0).CountOutcome("busy") + world.replica(1).CountOutcome("busy"), 1);
  EXPECT_EQ(world.zoho().sends(), 1) << "the second one is not answered yet";
}

}  // namespace
}  // namespace tokenbroker
