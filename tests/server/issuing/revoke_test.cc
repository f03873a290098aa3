// Revoking grants.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/errors.h"
#include "tests/server/issuing/world.h"

namespace tokenbroker {
namespace {

using Op = testing::FakeTokenStore::Op;
using ::testing::Contains;
using ::testing::ElementsAre;

TEST(Revoke, InTheStoreAndAtZoho) {
  World world;
  world.Add({.lifetime = absl::Hours(1)});
  ASSERT_TRUE(world.Get().ok());
  const auto revoked = world.replica().Revoke(Grant().key);
  ASSERT_TRUE(revoked.ok()) << revoked.status();
  EXPECT_TRUE(revoked->revoked_at_zoho);
  EXPECT_EQ(revoked->record.state, GrantState::kRevoked);
  EXPECT_TRUE(revoked->record.refresh_token.empty());
  EXPECT_THAT(world.zoho().revoked(), ElementsAre("rt-acme"));
  EXPECT_TRUE(world.record().refresh_token.empty());
  EXPECT_TRUE(world.record().access_token.empty());
  EXPECT_EQ(Brief(world.Get()), "CONSENT_REQUIRED");
  EXPECT_EQ(GetErrorDetail(world.Get().status())->metadata["cause"], "revoked");
  // Again: nothing is left to do.
  EXPECT_TRUE(world.replica().Revoke(Grant().key)->revoked_at_zoho);
  EXPECT_EQ(world.zoho().revoked().size(), 1u);
}

TEST(Revoke, AnUnknownGrant) {
  World world;
  EXPECT_EQ(ErrorReason(world.replica().Revoke(Grant().key).status()), "ORG_NOT_FOUND");
}

TEST(Revoke, WithoutTheStoreNothingHappens) {
  World world;
  world.Add({});
  world.store().SetUnavailable(true);
  EXPECT_EQ(ErrorReason(world.replica().Revoke(Grant().key).status()), "STORE_UNAVAILABLE");
  EXPECT_TRUE(world.zoho().revoked().empty());
}

TEST(Revoke, WhatZohoDidNotDoCanBeRepeated) {
  World world;
  world.Add({});
  world.zoho().SetRevokeStatus(absl::UnavailableError("down"));
  const auto first = world.replica().Revoke(Grant().key);
  ASSERT_TRUE(first.ok());
  EXPECT_FALSE(first->revoked_at_zoho);
  EXPECT_EQ(Brief(world.Get()), "CONSENT_REQUIRED");
  EXPECT_FALSE(world.record().refresh_token.empty());
  world.zoho().SetRevokeStatus(absl::OkStatus());
  EXPECT_TRUE(world.replica().Revoke(Grant().key)->revoked_at_zoho);
  EXPECT_TRUE(world.record().refresh_token.empty());
}

TEST(Revoke, DoesNotForgetTheTokensOfANewRegistration) {
  World world;
  world.Add({});
  world.store().Before(Op::kForgetTokens, [&] { world.Add({.refresh_token = "rt-new"}); });
  ASSERT_TRUE(world.replica().Revoke(Grant().key).ok());
  EXPECT_EQ(world.record().refresh_token.Reveal(), "rt-new");
  EXPECT_EQ(Brief(world.Get()), "REFRESHED at-1");
}

TEST(Revoke, AClientCredentialsGrantByItsAccessToken) {
  World world;
  world.Add({.refresh_token = "", .lifetime = absl::Hours(1)});
  EXPECT_TRUE(world.replica().Revoke(Grant().key)->revoked_at_zoho);
  EXPECT_THAT(world.zoho().revoked(), ElementsAre("at-old"));
}

TEST(Revoke, WhoseDeadlineComesIsToldWhatWasDone) {
  World world;
  world.Add({});
  world.distance().SetLatency(absl::Seconds(5));
  const auto revoked = world.replica().Revoke(Grant().key, absl::Seconds(1));
  ASSERT_TRUE(revoked.ok()) << revoked.status();
  EXPECT_FALSE(revoked->revoked_at_zoho);
  world.Advance(absl::Seconds(5));
  EXPECT_THAT(world.zoho().revoked(), ElementsAre("rt-acme"));
}

TEST(Revoke, WhenWaitingEndsAllAreToldWhatWasDone) {
  World world;
  world.Add({});
  world.distance().SetLatency(absl::Seconds(5));
  std::optional<absl::StatusOr<Revoked>> revoked;
  world.replica().registrar().Revoke(Grant().key, absl::Seconds(60),
                                     [&](auto answer) { revoked = std::move(answer); });
  world.executor().RunUntilIdle();
  std::optional<absl::StatusOr<Revoked>> begun;
  world.replica().registrar().Revoke(Grant().key, absl::Seconds(60),
                                     [&](auto answer) { begun = std::move(answer); });
  world.replica().registrar().StopWaiting();
  ASSERT_TRUE(revoked && revoked->ok());
  EXPECT_FALSE((*revoked)->revoked_at_zoho);
  ASSERT_TRUE(begun);
  EXPECT_EQ(ErrorReason(begun->status()), "SHUTTING_DOWN");
  EXPECT_EQ(ErrorReason(world.replica().Revoke(Grant().key).status()), "SHUTTING_DOWN");
  EXPECT_TRUE(world.replica().registrar().Drain(absl::Seconds(20)));
  EXPECT_THAT(world.zoho().revoked(), Contains("rt-acme"));
}

TEST(Revoke, SendsNothingThatMightNotEndWithTheProcess) {
  World world;
  world.Add({});
  world.replica().refresher().FinishBy(world.executor().now() + absl::Seconds(10));
  const auto revoked = world.replica().Revoke(Grant().key);
  ASSERT_TRUE(revoked.ok()) << revoked.status();
  EXPECT_FALSE(revoked->revoked_at_zoho);
  EXPECT_TRUE(world.zoho().revoked().empty());
}

TEST(Revoke, ADcThatHangsDelaysNoOther) {
  World world({.executor = {.threads_per_lane = 2}});
  world.distance().SetLatency("eu", absl::Seconds(60));
  int answers = 0;
  for (int i = 0; i < 20; ++i) {
    const GrantKey key{absl::StrCat("org", i), Environment::kProduction, "web"};
    world.Add({.key = key, .dc = "eu"});
    world.replica().registrar().Revoke(key, absl::Seconds(100), [&](auto) { ++answers; });
  }
  world.Add({});
  world.executor().RunUntilIdle();
  // All of them are revoked in the store at once.
  EXPECT_EQ(world.record({"org19", Environment::kProduction, "web"}).state, GrantState::kRevoked);
  const MonotonicTime start = world.executor().now();
  EXPECT_TRUE(world.replica().Revoke(Grant().key)->revoked_at_zoho);
  EXPECT_EQ(world.executor().now(), start);
  world.executor().Shutdown();
  EXPECT_EQ(answers, 20);
}

TEST(Revoke, DelaysNoRefreshOfItsDc) {
  World world({.executor = {.threads_per_lane = 1}});
  world.distance().SetLatency(absl::Seconds(5));
  world.Add({.key = {"old", Environment::kProduction, "web"}, .refresh_token = "rt-old"});
  world.Add({});
  bool revoked = false;
  world.replica().registrar().Revoke({"old", Environment::kProduction, "web"}, absl::Seconds(10),
                                     [&](auto) { revoked = true; });
  world.executor().RunUntilIdle();
  ASSERT_FALSE(revoked) << "Zoho takes 5 s for it";
  const auto call = world.Start();
  world.executor().RunUntilIdle();
  EXPECT_EQ(world.zoho().checks(), 1) << "the refresh waits for the revocation";
  world.Advance(absl::Seconds(5));
  EXPECT_EQ(Brief(call), "REFRESHED at-1");
  EXPECT_TRUE(revoked);
}

}  // namespace
}  // namespace tokenbroker
