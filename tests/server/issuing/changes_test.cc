// What other replicas, revocations and registrations change under a flight or a cached token.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "common/errors.h"
#include "tests/server/issuing/world.h"

namespace tokenbroker {
namespace {

using Op = testing::FakeTokenStore::Op;
using testing::ScriptedReply;

TEST(Changes, OneRefreshServesBothReplicas) {
  World world({.replicas = 2});
  world.distance().SetLatency(absl::Milliseconds(200));
  world.Add({});
  const auto one = world.replica(0).Start({});
  const auto two = world.replica(1).Start({});
  world.Advance(absl::Milliseconds(200));
  EXPECT_EQ(Brief(one), "REFRESHED at-1");
  EXPECT_EQ(Brief(two), "JOINED at-1");
  EXPECT_EQ(world.zoho().sends(), 1);
  EXPECT_EQ(world.distance().max_in_flight(), 1);
}

TEST(Changes, ACachedTokenIsReplacedAsSoonAsTheChangeIsHeard) {
  World world({.replicas = 2});
  world.Add({.lifetime = absl::Hours(1)});
  ASSERT_EQ(Brief(world.replica(1).Get()), "STORE at-old");
  ASSERT_EQ(Brief(world.replica(0).Get({.rejected_version = 1})), "REFRESHED at-1");
  EXPECT_EQ(Brief(world.replica(1).Get()), "STORE at-1");
  EXPECT_EQ(Brief(world.replica(1).Get()), "CACHE at-1");
}

TEST(Changes, ARevocationElsewhereIsHeard) {
  World world({.replicas = 2});
  world.Add({.lifetime = absl::Hours(1)});
  ASSERT_TRUE(world.replica(1).Get().ok());
  ASSERT_TRUE(world.replica(0).Revoke(Grant().key).ok());
  EXPECT_EQ(Brief(world.replica(1).Get()), "CONSENT_REQUIRED");
  EXPECT_EQ(Brief(world.replica(0).Get()), "CONSENT_REQUIRED");
}

TEST(Changes, ARevocationWhileTheRecordIsReadIsNotOverlooked) {
  World world;
  world.Add({.lifetime = absl::Hours(1)});
  world.store().After(Op::kLoad, [&] { (void)world.store().Revoke({Grant().key}); });
  EXPECT_EQ(Brief(world.Get()), "CONSENT_REQUIRED");
  EXPECT_EQ(world.replica()
                .issuer()
                .TryCached({.org_id = "acme", .oauth_client = "web"})
                ->status()
                .code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST(Changes, ANewGenerationWhileTheRecordIsReadIsLookedUpNext) {
  World world;
  world.Add({.lifetime = absl::Hours(1)});
  world.store().After(Op::kLoad, [&] {
    world.store().Edit(Grant().key, [](GrantRecord&) {});
    RegisterRequest request;
    request.key = Grant().key;
    request.attempt_id = "another";
    request.info.dc = "us";
    request.tokens.emplace();
    request.tokens->access_token = Secret("at-new");
    request.tokens->lifetime = absl::Hours(1);
    (void)world.store().Register(request);
  });
  EXPECT_EQ(Brief(world.Get()), "STORE at-old");
  EXPECT_EQ(Brief(world.Get()), "STORE at-new");
  EXPECT_EQ(Brief(world.Get()), "CACHE at-new");
}

TEST(Changes, ATokenForARevokedGrantIsRevokedUpstreamAndNotGivenOut) {
  World world;
  world.distance().SetLatency(absl::Milliseconds(200));
  world.zoho().SetRotates(true);
  world.Add({});
  world.distance().WhenSent([&] { (void)world.store().Revoke({Grant().key}); });
  EXPECT_EQ(Brief(world.Get()), "CONSENT_REQUIRED");
  ASSERT_EQ(world.zoho().revoked().size(), 1u);
  EXPECT_EQ(world.zoho().revoked()[0], "rt-1");
  EXPECT_EQ(world.record().state, GrantState::kRevoked);
}

TEST(Changes, ARegistrationInFlightSupersedesTheOldTokens) {
  World world;
  world.distance().SetLatency(absl::Milliseconds(200));
  world.Add({});
  world.distance().WhenSent(
      [&] { world.Add({.refresh_token = "rt-new", .lifetime = absl::Hours(1)}); });
  const auto answer = world.Get();
  // at-1 was minted for the old refresh token.
  EXPECT_EQ(Brief(answer), "JOINED at-old");
  EXPECT_EQ(answer->token->version, 2);
  EXPECT_EQ(world.record().refresh_token.Reveal(), "rt-new");
  EXPECT_EQ(world.replica().CountOutcome("superseded"), 1);
}

TEST(Changes, AStaleFailureDoesNotKillTheNewGrant) {
  World world;
  world.distance().SetLatency(absl::Milliseconds(200));
  world.Add({});
  world.zoho().Script("rt-acme", ScriptedReply::Dead());
  world.distance().WhenSent([&] { world.Add({.refresh_token = "rt-new"}); });
  EXPECT_EQ(Brief(world.Get()), "REFRESHED at-1");
  EXPECT_EQ(world.record().state, GrantState::kActive);
}

// Also where this replica does not hear that it is new.
TEST(Changes, AStaleFailureIsNoFailure) {
  World world;
  world.distance().SetLatency(absl::Milliseconds(200));
  world.Add({});
  world.store().HoldEvents();
  world.zoho().Script("rt-acme", ScriptedReply::Dead());
  world.distance().WhenSent([&] { world.Add({.refresh_token = "rt-new"}); });
  EXPECT_EQ(Brief(world.Get()), "REFRESHED at-1");
}

TEST(Changes, WhatIsReadBeforeARevocationIsNotGivenOutAfterIt) {
  World world({.executor = {.threads_per_lane = 1}});
  world.Add({.lifetime = absl::Hours(1)});
  world.Add({.key = {"bolt", Environment::kProduction, "web"}, .refresh_token = "rt-bolt"});
  // The flight has read the record, and waits for its DC's only thread.
  world.distance().SetLatency(absl::Seconds(5));
  (void)world.Start({.org_id = "bolt"});
  world.executor().RunUntilIdle();
  world.store().After(Op::kLoad, [&] { (void)world.store().Revoke({Grant().key}); });
  const auto call = world.Start({.rejected_version = 1});
  world.executor().RunUntilIdle();
  ASSERT_EQ(Brief(call), "waiting");
  EXPECT_FALSE(world.Start()->cached);
  world.Advance(absl::Seconds(6));
  EXPECT_EQ(Brief(call), "CONSENT_REQUIRED");
}

TEST(Changes, ARefusalEndsWithTheRegistrationThatMendsIt) {
  World world;
  world.Add({});
  world.zoho().Script("rt-acme", ScriptedReply::ClientRejected());
  ASSERT_EQ(Brief(world.Get()), "CLIENT_REJECTED");
  world.Add({.refresh_token = "rt-new"});
  EXPECT_EQ(Brief(world.Get()), "REFRESHED at-1");
}

// The failure is found out, and mended before it is remembered: its refusal must not outlive that.
TEST(Changes, ARefusalThatIsMendedBeforeItIsRememberedIsNotHeld) {
  World world;
  world.Add({});
  world.zoho().Script("rt-acme", ScriptedReply::Throttled());
  world.store().After(Op::kFail,
                      [&] { world.Add({.refresh_token = "rt-new", .lifetime = absl::Hours(1)}); });
  // Whoever waited gets the new one as well.
  EXPECT_EQ(Brief(world.Get()), "STORE at-old");
  EXPECT_EQ(Brief(world.Get()), "CACHE at-old");
}

TEST(Changes, NorWhenNobodyWaitedForIt) {
  World world;
  world.Add({});
  std::shared_ptr<Call> call;
  world.zoho().Script("rt-acme", ScriptedReply::Throttled());
  world.store().After(Op::kFail, [&] {
    world.replica().issuer().Cancel(call->ticket);
    world.Add({.refresh_token = "rt-new", .lifetime = absl::Hours(1)});
  });
  call = world.Start();
  world.executor().RunUntilIdle();
  ASSERT_EQ(call->answers, 1);
  EXPECT_EQ(Brief(world.Get()), "STORE at-old");
}

TEST(Changes, ANewConsentWhileAnUnknownOrgIsLookedUpIsSeen) {
  World world;
  world.store().After(Op::kLoad, [&] { world.Add({.lifetime = absl::Hours(1)}); });
  EXPECT_EQ(Brief(world.Get()), "STORE at-old");
  world.store().After(Op::kListPage, [&] {
    world.Add({.key = {"bolt", Environment::kProduction, "web"}, .lifetime = absl::Hours(1)});
  });
  // This caller may hear either; the next one must find it.
  (void)world.Get({.org_id = "bolt", .oauth_client = ""});
  EXPECT_EQ(Brief(world.Get({.org_id = "bolt", .oauth_client = ""})).substr(6), "at-old");
}

TEST(Changes, OwnFailureEventsDoNotDropTheRefusal) {
  World world;
  world.Add({});
  world.store().HoldEvents();
  world.zoho().Script("rt-acme", ScriptedReply::Dead());
  ASSERT_EQ(Brief(world.Get()), "CONSENT_REQUIRED");
  world.store().ReleaseEvents();
  world.store().ResetCounts();
  EXPECT_EQ(Brief(world.Get()), "CONSENT_REQUIRED");
  EXPECT_EQ(world.store().operations(), 0);
}

TEST(Changes, LateNewsOfAnOlderGenerationChangesNothing) {
  World world;
  world.Add({});
  world.store().HoldEvents();
  world.zoho().Script("rt-acme", ScriptedReply::Dead());
  ASSERT_EQ(Brief(world.Get()), "CONSENT_REQUIRED");
  world.Add({.refresh_token = "rt-new"});
  world.Advance(absl::Seconds(5));
  ASSERT_EQ(Brief(world.Get()), "REFRESHED at-1");
  world.store().ResetCounts();
  world.store().ReleaseEvents();
  EXPECT_EQ(Brief(world.Get()), "CACHE at-1");
}

TEST(Changes, WhileTheSubscriptionIsDownTokensAreCheckedEveryFiveSeconds) {
  World world({.replicas = 2});
  world.Add({.lifetime = absl::Hours(1)});
  ASSERT_EQ(Brief(world.replica(1).Get()), "STORE at-old");
  world.Advance(absl::Minutes(10));
  world.replica(1).store().SetSession(0);
  world.replica(1).store().ResetCounts();
  // What was read before may have changed unheard.
  EXPECT_EQ(Brief(world.replica(1).Get()), "STORE at-old");
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(world.replica(1).Get().ok());
    world.Advance(absl::Milliseconds(200));
  }
  EXPECT_EQ(world.replica(1).store().count(Op::kLoad), 2);
  // So a revocation is noticed in that time.
  ASSERT_TRUE(world.replica(0).Revoke(Grant().key).ok());
  world.Advance(absl::Seconds(5));
  EXPECT_EQ(Brief(world.replica(1).Get()), "CONSENT_REQUIRED");
}

TEST(Changes, WhileTheSubscriptionIsDownRefusalsAreCheckedToo) {
  World world({.replicas = 2});
  world.Add({});
  // So that the cooldown lasts for minutes.
  world.store().Edit(Grant().key, [](GrantRecord& record) { record.consecutive_failures = 10; });
  world.replica(1).store().SetSession(0);
  world.zoho().Script("rt-acme", ScriptedReply::ClientRejected());
  ASSERT_EQ(Brief(world.replica(1).Get()), "CLIENT_REJECTED");
  world.Add({.refresh_token = "rt-new"});
  EXPECT_EQ(Brief(world.replica(1).Get()), "CLIENT_REJECTED");
  world.Advance(absl::Seconds(5));
  EXPECT_EQ(Brief(world.replica(1).Get()), "REFRESHED at-1");
}

TEST(Changes, ANewSubscriptionMeansThatAnythingMayHaveChanged) {
  World world({.replicas = 2});
  world.Add({.lifetime = absl::Hours(1)});
  ASSERT_TRUE(world.replica(1).Get().ok());
  world.replica(1).store().SetSession(0);
  ASSERT_TRUE(world.replica(0).Revoke(Grant().key).ok());
  world.replica(1).store().SetSession(7);
  EXPECT_EQ(Brief(world.replica(1).Get()), "CONSENT_REQUIRED");
}

TEST(Changes, WhileTheStoreIsDownTokensAreServedUntilTheyExpire) {
  World world;
  world.Add({.lifetime = absl::Seconds(3600)});
  ASSERT_TRUE(world.Get({.oauth_client = ""}).ok());
  world.store().SetUnavailable(true);
  world.store().SetSession(0);
  int calls = 0;
  world.store().ResetCounts();
  for (; calls < 3540; ++calls) {
    ASSERT_EQ(Brief(world.Get()).substr(6), "at-old") << calls;
    ASSERT_EQ(Brief(world.Get({.oauth_client = ""})).substr(6), "at-old") << calls;
    world.Advance(absl::Seconds(1));
  }
  // Tried again now and then, by one at a time.
  EXPECT_LE(world.store().operations(), 2 * calls);
  world.Advance(absl::Seconds(1));
  const auto answer = world.Get();
  EXPECT_EQ(Brief(answer), "STORE_UNAVAILABLE");
  EXPECT_LE(RetryAfter(answer.status()), absl::Seconds(1));
  EXPECT_EQ(Brief(world.Get({.org_id = "unknown"})), "STORE_UNAVAILABLE");
  world.store().SetUnavailable(false);
  world.store().SetSession(2);
  world.Advance(absl::Seconds(1));
  EXPECT_EQ(Brief(world.Get()), "REFRESHED at-1");
}

TEST(Changes, WhileTheStoreIsDownCallersDoNotQueueForIt) {
  World world;
  const auto query = [](int i) {
    return Query{.org_id = absl::StrCat("org", i), .oauth_client = i % 2 == 0 ? "web" : ""};
  };
  for (int i = 0; i < 200; ++i) {
    world.Add(
        {.key = {query(i).org_id, Environment::kProduction, "web"}, .lifetime = absl::Hours(1)});
    ASSERT_TRUE(world.Get(query(i)).ok());
  }
  world.store().SetUnavailable(true);
  world.store().SetSession(0);
  world.Advance(absl::Seconds(60));
  world.store().ResetCounts();
  int cached = 0;
  for (int i = 0; i < 200; ++i) {
    const auto call = world.Start(query(i));
    cached += call->cached ? 1 : 0;
    world.executor().RunUntilIdle();
    ASSERT_EQ(Brief(call).substr(6), "at-old") << i;
  }
  // The first one found out.
  EXPECT_EQ(cached, 199);
  EXPECT_EQ(world.store().operations(), 1);
}

TEST(Changes, ATokenOlderThanTheRejectedOneIsNoSubstitute) {
  World world({.replicas = 2});
  world.Add({.lifetime = absl::Hours(1)});
  ASSERT_TRUE(world.replica(1).Get().ok());
  world.replica(1).store().HoldEvents();
  ASSERT_EQ(world.replica(0).Get({.rejected_version = 1})->token->version, 2);
  world.Advance(absl::Seconds(1));
  world.replica(1).store().SetUnavailable(true);
  EXPECT_EQ(Brief(world.replica(1).Get({.rejected_version = 2})), "STORE_UNAVAILABLE");
  EXPECT_EQ(world.replica(1).Get()->token->version, 1);
}

TEST(Changes, AStoreThatIsDownIsNotAskedByEverybody) {
  World world;
  world.store().SetUnavailable(true);
  for (int i = 0; i < 1000; ++i) {
    EXPECT_EQ(Brief(world.Get({.org_id = std::to_string(i)})), "STORE_UNAVAILABLE");
  }
  EXPECT_EQ(world.store().operations(), 1);
  world.Advance(absl::Milliseconds(500));
  EXPECT_EQ(Brief(world.Get({.org_id = "x"})), "STORE_UNAVAILABLE");
  EXPECT_EQ(world.store().operations(), 2);
}

TEST(Changes, AStoreThatWasSetBackIsBelieved) {
  World world;
  world.Add({.lifetime = absl::Hours(1)});
  ASSERT_TRUE(world.Get().ok());
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(world.Get({.rejected_version = world.record().generation}).ok());
  }
  ASSERT_EQ(world.Get()->token->version, 4);
  // An old copy of the database came back; its subscribers had to come back too.
  world.store().Edit(Grant().key, [](GrantRecord& record) {
    record.generation = 2;
    record.access_token = Secret("at-backup");
  });
  world.store().SetSession(2);
  EXPECT_EQ(Brief(world.Get()), "STORE at-backup");
  EXPECT_EQ(Brief(world.Get()), "CACHE at-backup");
}

TEST(Changes, NothingIsSentForAnotherGrantThanTheOneThatWasRead) {
  World world;
  world.Add({});
  world.store().Edit(Grant().key, [](GrantRecord& record) { record.generation = 5; });
  // Set back between the load and the lease, and of another DC.
  world.store().Before(Op::kAcquire, [&] {
    world.store().Edit(Grant().key, [](GrantRecord& record) {
      record.generation = 1;
      record.info.dc = "eu";
    });
  });
  ASSERT_EQ(Brief(world.Get()), "REFRESHED at-1");
  ASSERT_EQ(world.zoho().requests().size(), 1u);
  EXPECT_EQ(world.zoho().requests()[0].dc.name, "eu");
}

TEST(Changes, TheResolverForgetsADeadGrant) {
  World world({.replicas = 2});
  world.Add({.scopes = {"A.b.READ"}, .lifetime = absl::Hours(1)});
  world.Add({.key = {"acme", Environment::kProduction, "narrow"},
             .refresh_token = "rt-narrow",
             .scopes = {"A.b.READ", "A.c.READ"},
             .lifetime = absl::Hours(1)});
  const Query any{.oauth_client = ""};
  EXPECT_EQ(world.replica(1).Get(any)->token->key.oauth_client, "web");
  ASSERT_TRUE(world.replica(0).Revoke(Grant().key).ok());
  EXPECT_EQ(world.replica(1).Get(any)->token->key.oauth_client, "narrow");
  // And notices a better one.
  world.Add({.key = {"acme", Environment::kProduction, "self"},
             .refresh_token = "rt-self",
             .scopes = {"A.b.READ"},
             .lifetime = absl::Hours(1)});
  EXPECT_EQ(world.replica(1).Get(any)->token->key.oauth_client, "self");
}

TEST(Changes, ARevocationWhileTheNewTokenIsKeptIsNotOverlooked) {
  World world;
  world.Add({});
  world.distance().WhenSent(
      [&] { world.executor().WithinRunAfter([&] { (void)world.store().Revoke({Grant().key}); }); });
  EXPECT_EQ(Brief(world.Get()), "CONSENT_REQUIRED");
  EXPECT_EQ(world.zoho().sends(), 1);
}

TEST(Changes, TheResolverForgetsAGrantThatIsFoundDead) {
  World world;
  world.Add({.scopes = {"A.b.READ"}, .lifetime = absl::Hours(1)});
  world.Add({.key = {"acme", Environment::kProduction, "narrow"},
             .refresh_token = "rt-narrow",
             .scopes = {"A.b.READ", "A.c.READ"},
             .lifetime = absl::Hours(1)});
  Query any{.oauth_client = ""};
  EXPECT_EQ(world.Get(any)->token->key.oauth_client, "web");
  // Revoked, and nobody hears of it: the first one to look finds out, for all others too.
  world.store().HoldEvents();
  ASSERT_TRUE(world.store().Revoke({Grant().key}).ok());
  any.rejected_version = 1;
  EXPECT_EQ(Brief(world.Get(any)), "CONSENT_REQUIRED");
  any.rejected_version = 0;
  const auto next = world.Get(any);
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_EQ(next->token->key.oauth_client, "narrow");
}

}  // namespace
}  // namespace tokenbroker
