// Callers that wait for a flight, and how they leave.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "absl/strings/str_cat.h"
#include "common/errors.h"
#include "tests/server/issuing/world.h"

namespace tokenbroker {
namespace {

using Op = testing::FakeTokenStore::Op;
using testing::ScriptedReply;

GrantKey KeyOf(const std::string& org) { return {org, Environment::kProduction, "web"}; }

TEST(Waiting, ManyCallersCostOneRefresh) {
  World world;
  world.distance().SetLatency(absl::Milliseconds(200));
  world.Add({});
  std::vector<std::shared_ptr<Call>> calls;
  for (int i = 0; i < 1000; ++i) calls.push_back(world.Start());
  world.executor().RunUntilIdle();
  // Some come while the request is under way.
  for (int i = 0; i < 1000; ++i) calls.push_back(world.Start());
  world.Advance(absl::Milliseconds(200));
  EXPECT_EQ(Brief(calls[0]), "REFRESHED at-1");
  for (size_t i = 1; i < calls.size(); ++i) ASSERT_EQ(Brief(calls[i]), "JOINED at-1") << i;
  EXPECT_EQ(world.zoho().sends(), 1);
  EXPECT_EQ(world.store().count(Op::kLoad), 1);
  EXPECT_EQ(world.store().count(Op::kAcquire), 1);
  EXPECT_EQ(world.replica().issuer().flights(), 0u);
}

TEST(Waiting, EveryCallerLeavesOnItsOwnDeadlineAndTheFlightGoesOn) {
  World world;
  world.distance().SetLatency(absl::Seconds(8));
  world.Add({});
  const MonotonicTime start = world.executor().now();
  const auto hurried = world.Start({.deadline = absl::Milliseconds(300)});
  const auto patient = world.Start({.deadline = absl::Seconds(9)});
  const auto later = world.Start({.deadline = absl::Seconds(5)});
  world.Advance(absl::Seconds(6));
  EXPECT_EQ(Brief(hurried), "DEADLINE_EXCEEDED");
  EXPECT_EQ(hurried->answered_at - start, absl::Milliseconds(300));
  EXPECT_EQ(Brief(later), "DEADLINE_EXCEEDED");
  EXPECT_EQ(later->answered_at - start, absl::Seconds(5));
  EXPECT_EQ(Brief(patient), "waiting");
  world.Advance(absl::Seconds(4));
  EXPECT_EQ(Brief(patient), "JOINED at-1");
  EXPECT_EQ(hurried->answers + later->answers + patient->answers, 3);
}

TEST(Waiting, WhoseDeadlineComesGetsTheOldTokenWhileItLives) {
  World world;
  world.distance().SetLatency(absl::Seconds(8));
  world.Add({.lifetime = absl::Seconds(100)});
  const auto modest = world.Start({.deadline = absl::Seconds(1)});
  const auto hungry =
      world.Start({.min_lifetime = absl::Seconds(100), .deadline = absl::Seconds(1)});
  const auto wary = world.Start({.rejected_version = 1, .deadline = absl::Seconds(1)});
  world.Advance(absl::Seconds(1));
  EXPECT_EQ(Brief(modest), "STALE at-old");
  EXPECT_EQ(Brief(hungry), "DEADLINE_EXCEEDED");
  EXPECT_EQ(Brief(wary), "DEADLINE_EXCEEDED");
}

// What a store says in quarantine, after its primary has changed, is what it says while somebody
// else's lease has its longest time to go.
TEST(Waiting, WhatLastsTwentySecondsHoldsNobodyLonger) {
  World world;
  world.Add({.lifetime = absl::Seconds(100)});
  world.store().Edit(Grant().key, [&](GrantRecord& record) {
    record.phase = LeasePhase::kHeld;
    record.lease_owner = "nobody";
    record.lease_end = world.executor().clock().wall() + absl::Seconds(20);
  });
  const MonotonicTime start = world.executor().now();
  const auto modest = world.Start({.deadline = absl::Seconds(1)});
  const auto hungry =
      world.Start({.min_lifetime = absl::Seconds(200), .deadline = absl::Seconds(1)});
  const auto patient =
      world.Start({.min_lifetime = absl::Seconds(200), .deadline = absl::Seconds(30)});
  world.Advance(absl::Seconds(1));
  EXPECT_EQ(Brief(modest), "STALE at-old");
  EXPECT_EQ(Brief(hungry), "DEADLINE_EXCEEDED");
  EXPECT_EQ(world.zoho().sends(), 0);
  world.Advance(absl::Seconds(29));
  EXPECT_EQ(Brief(patient), "JOINED at-1");
  EXPECT_GE(patient->answered_at - start, absl::Seconds(20));
  EXPECT_LE(patient->answered_at - start, absl::Seconds(21));
  EXPECT_EQ(world.zoho().sends(), 1);
  // Once a second somebody looked again, and no more often.
  EXPECT_LE(world.store().count(Op::kAcquire), 25);
}

TEST(Waiting, AFlightWithoutCallersStillLands) {
  World world;
  world.distance().SetLatency(absl::Seconds(8));
  world.Add({});
  const auto call = world.Start({.deadline = absl::Seconds(1)});
  world.Advance(absl::Seconds(9));
  EXPECT_EQ(Brief(call), "DEADLINE_EXCEEDED");
  EXPECT_EQ(Brief(world.Get()), "CACHE at-1");
  EXPECT_EQ(world.zoho().sends(), 1);
}

TEST(Waiting, WhoHasNoTimeDoesNotStart) {
  World world;
  world.Add({});
  EXPECT_EQ(Brief(world.Start({.deadline = absl::ZeroDuration()})), "DEADLINE_EXCEEDED");
  EXPECT_EQ(Brief(world.Start({.deadline = -absl::Seconds(1)})), "DEADLINE_EXCEEDED");
  world.executor().RunUntilIdle();
  EXPECT_EQ(world.zoho().sends(), 0);
}

TEST(Waiting, CancelledCallersAreToldAtOnceAndOnce) {
  World world;
  world.distance().SetLatency(absl::Seconds(1));
  world.Add({});
  const auto gone = world.Start();
  const auto stays = world.Start();
  world.executor().RunUntilIdle();
  world.replica().issuer().Cancel(gone->ticket);
  ASSERT_EQ(gone->answers, 1);
  EXPECT_TRUE(absl::IsCancelled(gone->answer->status()));
  world.replica().issuer().Cancel(gone->ticket);
  world.replica().issuer().Cancel(0);
  world.replica().issuer().Cancel(123456789);
  world.Advance(absl::Seconds(20));
  EXPECT_EQ(gone->answers, 1);
  EXPECT_EQ(Brief(stays), "JOINED at-1");
  world.replica().issuer().Cancel(stays->ticket);
  EXPECT_EQ(stays->answers, 1);
}

TEST(Waiting, CancellingBetweenTwoFlightsIsNotLost) {
  World world;
  world.distance().SetLatency(absl::Seconds(1));
  world.Add({.lifetime = absl::Seconds(1000)});
  // The flight brings version 2, which the second caller does not want: it goes on to another
  // flight, and is cancelled on the way.
  std::shared_ptr<Call> second;
  TokenQuery query{.org_id = "acme", .oauth_client = "web", .rejected_version = 1};
  int first = 0;
  world.replica().issuer().GetAccessToken(query, absl::Seconds(10),
                                          [&](absl::StatusOr<TokenAnswer>) {
                                            ++first;
                                            world.replica().issuer().Cancel(second->ticket);
                                          });
  second = world.Start({.rejected_version = 2});
  const auto third = world.Start({.rejected_version = 2});
  world.Advance(absl::Seconds(1));
  EXPECT_EQ(first, 1);
  ASSERT_EQ(second->answers, 1);
  EXPECT_TRUE(absl::IsCancelled(second->answer->status()));
  world.Advance(absl::Seconds(1));
  EXPECT_EQ(Brief(third), "REFRESHED at-2");
  EXPECT_EQ(second->answers, 1);
}

TEST(Waiting, TheDeadlineBetweenTwoFlightsIsNotLost) {
  World world;
  world.distance().SetLatency(absl::Seconds(1));
  world.Add({.lifetime = absl::Seconds(1000)});
  const auto first = world.Start({.rejected_version = 1});
  const auto second = world.Start({.rejected_version = 2, .deadline = absl::Seconds(1)});
  const auto third = world.Start({.rejected_version = 2, .deadline = absl::Milliseconds(1500)});
  world.Advance(absl::Seconds(10));
  EXPECT_EQ(Brief(first), "REFRESHED at-1");
  EXPECT_EQ(Brief(second), "DEADLINE_EXCEEDED");
  EXPECT_EQ(Brief(third), "DEADLINE_EXCEEDED");
  EXPECT_EQ(third->answered_at - second->answered_at, absl::Milliseconds(500));
}

TEST(Waiting, WithoutAnOAuthClientOneLookupServesAll) {
  World world;
  world.distance().SetLatency(absl::Milliseconds(200));
  world.Add({.scopes = {"A.b.READ", "A.c.READ"}});
  world.Add({.key = {"acme", Environment::kProduction, "narrow"},
             .refresh_token = "rt-narrow",
             .scopes = {"A.b.READ"}});
  std::vector<std::shared_ptr<Call>> narrow;
  std::vector<std::shared_ptr<Call>> wide;
  std::vector<std::shared_ptr<Call>> none;
  for (int i = 0; i < 100; ++i) {
    narrow.push_back(world.Start({.oauth_client = "", .scopes = {"A.b.READ"}}));
    wide.push_back(world.Start({.oauth_client = "", .scopes = {"A.c.READ"}}));
    none.push_back(world.Start({.oauth_client = "", .scopes = {"A.x.READ"}}));
  }
  world.Advance(absl::Seconds(1));
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ((*narrow[i]->answer)->token->key.oauth_client, "narrow");
    ASSERT_EQ((*wide[i]->answer)->token->key.oauth_client, "web");
    ASSERT_EQ(Brief(none[i]), "SCOPE_NOT_GRANTED");
  }
  EXPECT_EQ(world.store().count(Op::kListPage), 1);
  EXPECT_EQ(world.zoho().sends(), 2);
  // A change of one grant makes the other's callers look once more.
  ASSERT_TRUE(world.Get({.oauth_client = "", .scopes = {"A.b.READ"}}).ok());
  world.store().ResetCounts();
  EXPECT_EQ(Brief(world.Get({.oauth_client = "", .scopes = {"A.b.READ"}})).substr(0, 5), "CACHE");
  EXPECT_EQ(world.store().operations(), 0);
}

TEST(Waiting, WithoutAnOAuthClientDeadlineAndCancelHoldAllTheSame) {
  World world;
  world.distance().SetLatency(absl::Seconds(5));
  world.Add({});
  const auto hurried = world.Start({.oauth_client = "", .deadline = absl::Seconds(1)});
  const auto gone = world.Start({.oauth_client = ""});
  const auto gone_early = world.Start({.oauth_client = ""});
  ASSERT_NE(gone->ticket, 0u);
  world.replica().issuer().Cancel(gone_early->ticket);
  EXPECT_EQ(gone_early->answers, 1);
  world.executor().RunUntilIdle();
  // By now they wait for the grant's own flight, under the same tickets.
  EXPECT_EQ(world.zoho().checks(), 1);
  world.replica().issuer().Cancel(gone->ticket);
  EXPECT_EQ(gone->answers, 1);
  world.Advance(absl::Seconds(2));
  EXPECT_EQ(Brief(hurried), "DEADLINE_EXCEEDED");
  world.Advance(absl::Seconds(60));
  EXPECT_EQ(hurried->answers + gone->answers + gone_early->answers, 3);
}

TEST(Waiting, AFullLaneRefusesAtOnce) {
  World world({.executor = {.threads_per_lane = 1, .queue_per_lane = 2}});
  world.distance().SetLatency(absl::Seconds(5));
  std::vector<std::shared_ptr<Call>> calls;
  for (int i = 0; i < 5; ++i) {
    const std::string org = absl::StrCat("org", i);
    world.Add({.key = KeyOf(org),
               .refresh_token = absl::StrCat("rt-", org),
               .lifetime = i == 4 ? absl::Seconds(100) : absl::ZeroDuration()});
    calls.push_back(world.Start({.org_id = org, .deadline = absl::Seconds(60)}));
    world.executor().RunUntilIdle();
  }
  // One runs, two wait.
  EXPECT_EQ(Brief(calls[3]), "OVERLOADED");
  EXPECT_EQ(RetryAfter(calls[3]->answer->status()), absl::Seconds(1));
  // A token that lives is better than nothing.
  EXPECT_EQ(Brief(calls[4]), "STALE at-old");
  world.Advance(absl::Seconds(15));
  EXPECT_EQ(Brief(calls[2]), "REFRESHED at-3");
  EXPECT_EQ(Brief(world.Get({.org_id = "org3"})), "REFRESHED at-4");
}

TEST(Waiting, ADcThatHangsStarvesNoOther) {
  World world({.executor = {.threads_per_lane = 2}});
  world.distance().SetLatency("eu", absl::Seconds(60));
  for (int i = 0; i < 50; ++i) {
    const std::string org = absl::StrCat("org", i);
    world.Add({.key = KeyOf(org), .dc = "eu", .refresh_token = org});
    world.Start({.org_id = org});
  }
  world.Add({.dc = "us"});
  world.executor().RunUntilIdle();
  const MonotonicTime start = world.executor().now();
  EXPECT_EQ(Brief(world.Get()), "REFRESHED at-1");
  EXPECT_EQ(world.executor().now(), start);
}

TEST(Waiting, DrainLetsFlightsLandAndTakesNoNewOnes) {
  World world;
  world.distance().SetLatency(absl::Seconds(2));
  world.Add({});
  world.Add({.key = KeyOf("cached"), .lifetime = absl::Seconds(3000)});
  ASSERT_EQ(Brief(world.Get({.org_id = "cached"})), "STORE at-old");
  const auto call = world.Start();
  world.executor().RunUntilIdle();
  EXPECT_TRUE(world.replica().issuer().Drain(absl::Seconds(5)));
  EXPECT_EQ(Brief(call), "REFRESHED at-1");
  EXPECT_EQ(Brief(world.Start({.org_id = "new"})), "SHUTTING_DOWN");
  EXPECT_EQ(Brief(world.Start({.org_id = "new", .oauth_client = ""})), "SHUTTING_DOWN");
  // What is in memory still flows, also to who would have waited for something better.
  EXPECT_EQ(Brief(world.Get({.org_id = "cached"})), "CACHE at-old");
  world.Advance(absl::Seconds(2900));
  EXPECT_EQ(Brief(world.Get({.org_id = "cached"})), "STALE at-old");
  EXPECT_EQ(world.zoho().sends(), 1);
}

TEST(Waiting, DrainGivesUpAndTellsWhoWaits) {
  World world;
  world.distance().SetLatency(absl::Seconds(8));
  world.Add({});
  world.Add({.key = KeyOf("old"), .refresh_token = "rt-old", .lifetime = absl::Seconds(100)});
  const auto call = world.Start({.deadline = absl::Seconds(60)});
  const auto old = world.Start({.org_id = "old", .deadline = absl::Seconds(60)});
  world.executor().RunUntilIdle();
  ASSERT_EQ(world.zoho().checks(), 2);
  EXPECT_FALSE(world.replica().issuer().Drain(absl::Seconds(1)));
  EXPECT_EQ(Brief(call), "SHUTTING_DOWN");
  EXPECT_EQ(Brief(old), "STALE at-old");
  world.executor().Shutdown();
  EXPECT_EQ(call->answers, 1);
}

TEST(Waiting, WhenWaitingEndsAllAreAnsweredAndTheFlightsGoOn) {
  World world;
  world.distance().SetLatency(absl::Seconds(8));
  world.Add({.key = KeyOf("warm"), .refresh_token = "rt-warm", .lifetime = absl::Seconds(400)});
  world.Advance(absl::Seconds(300));
  world.Add({});
  world.Add({.key = KeyOf("old"), .refresh_token = "rt-old", .lifetime = absl::Seconds(100)});
  const auto call = world.Start({.deadline = absl::Seconds(60)});
  const auto any = world.Start({.oauth_client = "", .deadline = absl::Seconds(60)});
  const auto old = world.Start({.org_id = "old", .deadline = absl::Seconds(60)});
  world.replica().issuer().RefreshInBackground(KeyOf("warm"));
  world.executor().RunUntilIdle();
  ASSERT_EQ(world.zoho().checks(), 3);
  const auto resolving = world.Start({.org_id = "old", .oauth_client = "", .scopes = {"A.b.READ"}});

  world.replica().issuer().StopWaiting();
  EXPECT_EQ(Brief(call), "SHUTTING_DOWN");
  EXPECT_EQ(RetryAfter(call->answer->status()), absl::Milliseconds(100));
  EXPECT_EQ(Brief(any), "SHUTTING_DOWN");
  EXPECT_EQ(Brief(old), "STALE at-old");
  EXPECT_EQ(resolving->answers, 1);
  EXPECT_EQ(Brief(world.Start()), "SHUTTING_DOWN");
  EXPECT_EQ(Brief(world.Start({.org_id = "old"})), "STALE at-old");

  // Nothing that was sent is lost.
  EXPECT_TRUE(world.replica().issuer().Drain(absl::Seconds(10)));
  EXPECT_EQ(world.zoho().sends(), 3);
  for (const GrantKey& key : {Grant().key, KeyOf("old"), KeyOf("warm")}) {
    EXPECT_EQ(world.record(key).generation, 2) << key.org_id;
  }
  EXPECT_EQ(call->answers + any->answers + old->answers + resolving->answers, 4);
}

TEST(Waiting, WhenWaitingEndsBetweenTwoFlightsNobodyIsForgotten) {
  World world;
  world.distance().SetLatency(absl::Seconds(1));
  world.Add({.lifetime = absl::Seconds(1000)});
  TokenQuery query{.org_id = "acme", .oauth_client = "web", .rejected_version = 1};
  world.replica().issuer().GetAccessToken(
      query, absl::Seconds(10),
      [&](const absl::StatusOr<TokenAnswer>&) { world.replica().issuer().StopWaiting(); });
  const auto second = world.Start({.rejected_version = 2});
  world.Advance(absl::Seconds(1));
  EXPECT_EQ(Brief(second), "SHUTTING_DOWN");
  EXPECT_EQ(world.replica().issuer().flights(), 0u);
}

TEST(Waiting, WhoIsDroppedByTheExecutorIsAnsweredAllTheSame) {
  std::shared_ptr<Call> call;
  std::shared_ptr<Call> resolving;
  {
    World world;
    world.Add({});
    call = world.Start();
    resolving = world.Start({.org_id = "bolt", .oauth_client = ""});
    world.executor().Shutdown();
    EXPECT_EQ(Brief(world.Start({.org_id = "late"})), "SHUTTING_DOWN");
  }
  EXPECT_EQ(Brief(call), "SHUTTING_DOWN");
  EXPECT_EQ(Brief(resolving), "SHUTTING_DOWN");
}

}  // namespace
}  // namespace tokenbroker
