// G3 over registrations and revocations: whichever the store takes first stands; what was begun
// before it and comes later changes nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "common/errors.h"
#include "server/issuing/grant_registrar.h"
#include "tests/server/issuing/registrations.h"
#include "tests/server/issuing/world.h"

namespace tokenbroker {
namespace {

using Op = testing::FakeTokenStore::Op;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Spends a code at replica 0, which cannot store what it brings and says so to its caller.
void SpendWithoutTheStore(World& world, const Registration& registration) {
  world.replica(0).store().SetUnavailable(Op::kRegister, true);
  ASSERT_EQ(Reason(world.replica(0).Register(registration, absl::Seconds(30))),
            "STORE_UNAVAILABLE");
  ASSERT_EQ(world.replica(0).commits_pending(), 1);
}

void BringTheStoreBack(World& world) {
  world.replica(0).store().SetUnavailable(Op::kRegister, false);
  world.Advance(absl::Seconds(3));
  EXPECT_EQ(world.replica(0).commits_pending(), 0);
}

TEST(LateRegistration, RevivesNoRevokedGrant) {
  World world({.replicas = 2});
  world.Add({});
  SpendWithoutTheStore(world, ByCode("code-1"));
  ASSERT_TRUE(world.replica(1).Revoke(Grant().key).ok());
  BringTheStoreBack(world);
  EXPECT_EQ(world.record().state, GrantState::kRevoked);
  EXPECT_EQ(Brief(world.replica(0).Get()), "CONSENT_REQUIRED");
  // Nobody else knows of what the code brought.
  EXPECT_THAT(world.zoho().revoked(), ElementsAre("rt-acme", "rt-1"));
  EXPECT_EQ(world.replica(0).outcomes().back(), "revoked");
  EXPECT_EQ(world.replica(0).CountOutcome("superseded"), 1);
}

// However little is left of a drain: nobody else could make up for it.
TEST(LateRegistration, WhatItBroughtForARevokedGrantIsRevokedWhileDraining) {
  World world({.replicas = 2});
  world.Add({});
  SpendWithoutTheStore(world, ByCode("code-1"));
  ASSERT_TRUE(world.replica(1).Revoke(Grant().key).ok());
  world.replica(0).refresher().FinishBy(world.executor().now());
  BringTheStoreBack(world);
  EXPECT_THAT(world.zoho().revoked(), ElementsAre("rt-acme", "rt-1"));
}

TEST(LateRegistration, OverwritesNoNewerOne) {
  World world({.replicas = 2});
  SpendWithoutTheStore(world, ByCode("code-1"));
  ASSERT_EQ(Reason(world.replica(1).Register(ByCode("code-2"))), "created");
  BringTheStoreBack(world);
  EXPECT_EQ(world.record().refresh_token.Reveal(), "rt-2");
  EXPECT_EQ(world.record().generation, 1);
  // The org has consented to both, and only one is needed: that is no reason to end it.
  EXPECT_THAT(world.zoho().revoked(), IsEmpty());
}

TEST(LateRegistration, IsStoredWhereNobodyElseWas) {
  World world({.replicas = 2});
  world.Add({.lifetime = absl::Hours(1)});
  SpendWithoutTheStore(world, ByCode("code-1"));
  // A refresh leaves the consent as it is.
  world.Advance(absl::Hours(2));
  ASSERT_TRUE(world.replica(1).Get().ok());
  BringTheStoreBack(world);
  EXPECT_EQ(world.record().refresh_token.Reveal(), "rt-1");
}

TEST(LateRegistration, ARevocationDuringTheExchangeStands) {
  World world({.replicas = 2});
  world.Add({});
  world.distance().WhenSent(
      [&] { ASSERT_TRUE(world.replica(1).store().Revoke({Grant().key}).ok()); });
  EXPECT_EQ(Reason(world.replica(0).Register(ByCode("code-1"))), "GRANT_CHANGED");
  EXPECT_EQ(world.record().state, GrantState::kRevoked);
  EXPECT_THAT(world.zoho().revoked(), ElementsAre("rt-1"));
}

TEST(LateRegistration, ARevokedGrantIsRegisteredAnew) {
  World world;
  world.Add({});
  ASSERT_TRUE(world.replica().Revoke(Grant().key).ok());
  EXPECT_EQ(Reason(world.replica().Register(ByCode("code-1"))), "replaced");
  ASSERT_TRUE(world.replica().Revoke(Grant().key).ok());
  EXPECT_EQ(Reason(world.replica().Register(Import("rt-old"))), "replaced");
}

// Each waits for the lease, and finds what the one before it has stored.
TEST(LateRegistration, ImportsAtTheSameTimeFollowOneAnother) {
  World world({.replicas = 2});
  world.distance().SetLatency(absl::Seconds(1));
  Pending pending;
  pending.Start(world, 0, Import("rt-a"));
  pending.Start(world, 1, Import("rt-b"));
  world.Advance(absl::Seconds(10));
  EXPECT_THAT(pending.results(), ::testing::UnorderedElementsAre("created", "replaced"));
}

TEST(LateRevocation, EndsTheConsentThatCameInBetween) {
  World world({.replicas = 2});
  world.Add({});
  world.store().After(Op::kLoad, [&] {
    RegisterRequest request;
    request.key = Grant().key;
    request.attempt_id = "second";
    request.info = world.record().info;
    request.refresh_token = Secret("rt-second");
    ASSERT_TRUE(world.replica(1).store().Register(request).ok());
  });
  const auto revoked = world.replica(0).Revoke(Grant().key);
  ASSERT_TRUE(revoked.ok()) << revoked.status();
  EXPECT_EQ(world.record().state, GrantState::kRevoked);
  EXPECT_EQ(world.record().last_register_attempt, "second");
  EXPECT_THAT(world.zoho().revoked(), ElementsAre("rt-second"));
}

}  // namespace
}  // namespace tokenbroker
