// What callers get while Zoho fails, and that nothing is sent meanwhile.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "common/errors.h"
#include "tests/server/issuing/registrations.h"
#include "tests/server/issuing/world.h"

namespace tokenbroker {
namespace {

using Op = testing::FakeTokenStore::Op;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using testing::ScriptedReply;

GrantKey KeyOf(const std::string& org) { return {org, Environment::kProduction, "web"}; }

struct Case {
  const char* name;
  ScriptedReply reply;
  const char* reason;
  absl::Duration cooldown;
  bool sent = true;
};

class EachFailure : public ::testing::TestWithParam<Case> {};

// The caller is told why and for how long; meanwhile nothing is sent, the store is left alone, and
// the wait shrinks; then one request goes out again.
TEST_P(EachFailure, IsAnsweredFromMemoryUntilTheCooldownEnds) {
  const Case& failure = GetParam();
  World world;
  world.Add({});
  world.zoho().Script("rt-acme", failure.reply);
  const auto answer = world.Get();
  EXPECT_EQ(Brief(answer), failure.reason);
  EXPECT_EQ(RetryAfter(answer.status()), failure.cooldown);
  const int checks = world.zoho().checks();
  EXPECT_EQ(world.zoho().sends(), failure.sent ? 1 : 0);

  world.store().ResetCounts();
  for (absl::Duration left = failure.cooldown; left > absl::ZeroDuration();
       left -= absl::Seconds(1)) {
    const auto again = world.Get();
    ASSERT_EQ(Brief(again), failure.reason) << left;
    ASSERT_EQ(RetryAfter(again.status()), left);
    world.Advance(absl::Seconds(1));
  }
  // Looked at again every half minute, in case that a change event got lost.
  EXPECT_LE(world.store().operations(), 2 * (failure.cooldown / absl::Seconds(30) + 1));
  EXPECT_EQ(world.zoho().checks(), checks);
  EXPECT_EQ(Brief(world.Get()), "REFRESHED at-1");
}

INSTANTIATE_TEST_SUITE_P(All, EachFailure,
                         ::testing::Values(Case{"Transient", ScriptedReply::Transient(),
                                                "ZOHO_UNAVAILABLE", absl::Seconds(5)},
                                           Case{"Throttled", ScriptedReply::Throttled(),
                                                "ZOHO_THROTTLED", absl::Seconds(600)},
                                           Case{"Ambiguous", ScriptedReply::Ambiguous(),
                                                "ZOHO_UNAVAILABLE", absl::Seconds(5)},
                                           Case{"Unreachable", ScriptedReply::Unreachable(),
                                                "ZOHO_UNAVAILABLE", absl::Seconds(5), false},
                                           Case{"ClientRejected", ScriptedReply::ClientRejected(),
                                                "CLIENT_REJECTED", absl::Seconds(5)}),
                         [](const auto& info) { return info.param.name; });

TEST(Failures, OtherReplicasObeyTheCooldown) {
  World world({.replicas = 2});
  world.Add({});
  world.zoho().ScriptAll(ScriptedReply::Throttled());
  EXPECT_EQ(Brief(world.replica(0).Get()), "ZOHO_THROTTLED");
  world.Advance(absl::Seconds(10));
  const auto answer = world.replica(1).Get();
  EXPECT_EQ(Brief(answer), "ZOHO_THROTTLED");
  EXPECT_EQ(RetryAfter(answer.status()), absl::Seconds(590));
  EXPECT_EQ(world.zoho().sends(), 1);
}

TEST(Failures, OtherReplicasNameTheOperatorsFaultToo) {
  World world({.replicas = 2});
  world.Add({});
  world.zoho().ScriptAll(ScriptedReply::ClientRejected());
  ASSERT_EQ(Brief(world.replica(0).Get()), "CLIENT_REJECTED");
  const auto other = world.replica(1).Get();
  EXPECT_EQ(Brief(other), "CLIENT_REJECTED");
  EXPECT_EQ(GetErrorDetail(other.status())->metadata["zoho_error"], "invalid_client");
  EXPECT_THAT(std::string(other.status().message()), HasSubstr("wrong DC"));
  EXPECT_LE(RetryAfter(other.status()), absl::Seconds(5));
  EXPECT_EQ(world.zoho().sends(), 1);
}

TEST(Failures, TheTextsNameTheDcAndTheCause) {
  World world;
  world.Add({.dc = "eu"});
  world.zoho().ScriptAll(ScriptedReply::ClientRejected());
  for (int i = 0; i < 2; ++i) {
    // From the reply, then from the record.
    const absl::Status status = world.Get().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(GetErrorDetail(status)->metadata,
                ElementsAre(Pair("dc", "eu"), Pair("oauth_client", "web"),
                            Pair("zoho_error", "invalid_client")));
    world.Advance(absl::Seconds(4));
  }
}

TEST(Failures, BackoffGrowsAndIsForgottenAfterASuccess) {
  World world;
  world.Add({});
  for (const int expected : {5, 15, 60, 300, 300}) {
    world.zoho().Script("rt-acme", ScriptedReply::Unreachable());
    EXPECT_EQ(RetryAfter(world.Get().status()), absl::Seconds(expected));
    world.Advance(absl::Seconds(expected));
  }
  EXPECT_EQ(Brief(world.Get()), "REFRESHED at-1");
  world.zoho().Script("rt-acme", ScriptedReply::Unreachable());
  EXPECT_EQ(RetryAfter(world.Get({.rejected_version = 2}).status()), absl::Seconds(5));
}

TEST(Failures, ADeadGrantNeedsConsentUntilItIsGiven) {
  World world({.replicas = 2});
  world.Add({.lifetime = absl::Seconds(100)});
  ASSERT_EQ(world.replica(1).Get()->token->version, 2);
  world.zoho().ScriptAll(ScriptedReply::Dead());
  const auto answer = world.replica(0).Get({.rejected_version = 2});
  EXPECT_EQ(Brief(answer), "CONSENT_REQUIRED");
  EXPECT_EQ(GetErrorDetail(answer.status())->metadata["cause"], "invalid_code");
  EXPECT_EQ(world.record().state, GrantState::kNeedsConsent);
  // Everywhere, and without further requests.
  EXPECT_EQ(Brief(world.replica(1).Get()), "CONSENT_REQUIRED");
  EXPECT_EQ(world.zoho().sends(), 2);
  world.store().ResetCounts();
  for (int i = 0; i < 100; ++i) EXPECT_EQ(Brief(world.replica(0).Get()), "CONSENT_REQUIRED");
  EXPECT_LE(world.store().operations(), 1);

  world.zoho().ClearScripts();
  world.Add({.refresh_token = "rt-new"});
  EXPECT_EQ(Brief(world.replica(0).Get()), "REFRESHED at-2");
  EXPECT_EQ(Brief(world.replica(1).Get()), "STORE at-2");
}

TEST(Failures, AfterAnAmbiguousAttemptADeadTokenIsDoubtedOnce) {
  World world;
  world.Add({});
  world.zoho().Script("rt-acme", ScriptedReply::Ambiguous());
  world.zoho().Script("rt-acme", ScriptedReply::Dead());
  world.zoho().Script("rt-acme", ScriptedReply::Dead());
  EXPECT_EQ(Brief(world.Get()), "ZOHO_UNAVAILABLE");
  world.Advance(absl::Seconds(5));
  EXPECT_EQ(Brief(world.Get()), "ZOHO_UNAVAILABLE");
  EXPECT_EQ(world.record().state, GrantState::kActive);
  EXPECT_EQ(world.replica().CountOutcome("doubted"), 1);
  world.Advance(absl::Seconds(15));
  EXPECT_EQ(Brief(world.Get()), "CONSENT_REQUIRED");
  EXPECT_EQ(world.record().state, GrantState::kNeedsConsent);
}

TEST(Failures, AHolderThatDiedWhileSendingLeavesDoubt) {
  World world;
  world.Add({});
  // Another process, long gone, had sent.
  const auto lease = world.store().Acquire({Grant().key, "dead", 1, Purpose::kCaller});
  ASSERT_EQ(*world.store().MarkSent({Grant().key, "dead", lease->epoch}), MarkSentOutcome::kMarked);
  world.zoho().Script("rt-acme", ScriptedReply::Dead());
  const auto call = world.Start({.deadline = absl::Seconds(30)});
  world.Advance(absl::Seconds(19));
  EXPECT_EQ(Brief(call), "waiting");
  world.Advance(absl::Seconds(2));
  EXPECT_EQ(Brief(call), "ZOHO_UNAVAILABLE");
  EXPECT_EQ(world.record().state, GrantState::kActive);
}

TEST(Failures, TheOldTokenFlowsWhileItLives) {
  World world;
  world.Add({.lifetime = absl::Seconds(110)});
  world.zoho().ScriptAll(ScriptedReply::Transient());
  EXPECT_EQ(Brief(world.Get()), "STALE at-old");
  world.store().ResetCounts();
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(Brief(world.Get()), "STALE at-old");
    world.Advance(absl::Seconds(1));
  }
  EXPECT_EQ(world.store().operations(), 0);
  world.zoho().ClearScripts();
  world.Advance(absl::Seconds(2));
  EXPECT_EQ(Brief(world.Get()), "REFRESHED at-1");
}

TEST(Failures, WhoRejectsTheOldTokenDoesNotKeepItFromOthers) {
  World world;
  world.Add({.lifetime = absl::Seconds(1000)});
  ASSERT_TRUE(world.Get().ok());
  world.zoho().ScriptAll(ScriptedReply::Throttled());
  EXPECT_EQ(Brief(world.Get({.rejected_version = 1})), "ZOHO_THROTTLED");
  EXPECT_EQ(Brief(world.Get({.min_lifetime = absl::Seconds(1100)})), "ZOHO_THROTTLED");
  EXPECT_EQ(Brief(world.Get()), "CACHE at-old");
}

// A dead shard of a cluster: its grants wait, and one load at a time tries it.
TEST(Failures, APartOfTheStoreThatIsDownTakesOnlyItsOwnGrants) {
  World world;
  for (const auto& [org, part] :
       {std::pair("dead-1", 1), {"dead-2", 1}, {"dead-3", 1}, {"well-1", 2}}) {
    world.store().SetFailureDomain(KeyOf(org), part);
    world.Add({.key = KeyOf(org), .lifetime = absl::Hours(1)});
  }
  ASSERT_EQ(Brief(world.Get({.org_id = "dead-2"})), "STORE at-old");
  world.store().FailNext(Op::kLoad, StoreUnavailableError("x"));
  world.store().ResetCounts();
  EXPECT_EQ(Brief(world.Get({.org_id = "dead-1"})), "STORE_UNAVAILABLE");
  EXPECT_EQ(Brief(world.Get({.org_id = "dead-3"})), "STORE_UNAVAILABLE");
  EXPECT_EQ(world.store().count(Op::kLoad), 1) << "the second one did not queue up";
  EXPECT_EQ(Brief(world.Get({.org_id = "well-1"})), "STORE at-old");
  // What may be outdated is given out only where the newest cannot be had.
  for (const char* org : {"dead-2", "well-1"}) {
    ASSERT_EQ(world.store()
                  .Register({KeyOf(org), "again", world.record(KeyOf(org)).info, Secret("rt-new"),
                             MintedTokens{Secret("at-new"), absl::Hours(1)}})
                  .status(),
              absl::OkStatus());
  }
  EXPECT_EQ(Brief(world.Get({.org_id = "dead-2"})), "STALE at-old");
  EXPECT_EQ(Brief(world.Get({.org_id = "well-1"})), "STORE at-new");
  world.Advance(absl::Milliseconds(500));
  EXPECT_EQ(Brief(world.Get({.org_id = "dead-2"})), "STORE at-new");
  world.Advance(absl::Seconds(1));
  EXPECT_EQ(Brief(world.Get({.org_id = "dead-1"})), "STORE at-old");
}

TEST(Failures, TheBreakerOpensTriesAndCloses) {
  World world({.breaker = {.failures = 3, .open_for = absl::Seconds(10)}});
  world.zoho().ScriptAll(ScriptedReply::Unreachable());
  for (int i = 0; i < 10; ++i) {
    const std::string org = absl::StrCat("org", i);
    world.Add({.key = KeyOf(org), .dc = "eu", .refresh_token = org});
  }
  world.Add({.dc = "us"});
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Brief(world.Get({.org_id = absl::StrCat("org", i)})), "ZOHO_UNAVAILABLE");
  }
  const int acquires = world.store().count(Op::kAcquire);
  const auto turned_away = world.Get({.org_id = "org3"});
  EXPECT_EQ(Brief(turned_away), "ZOHO_UNAVAILABLE");
  EXPECT_EQ(GetErrorDetail(turned_away.status())->metadata["last_error"], "circuit_breaker_open");
  EXPECT_EQ(RetryAfter(turned_away.status()), absl::Seconds(10));
  EXPECT_EQ(world.store().count(Op::kAcquire), acquires);
  // Another DC's goes its way.
  world.zoho().ClearScripts();
  EXPECT_EQ(Brief(world.Get()), "REFRESHED at-1");

  world.zoho().ScriptAll(ScriptedReply::Unreachable());
  world.Advance(absl::Seconds(10));
  EXPECT_EQ(Brief(world.Get({.org_id = "org4"})), "ZOHO_UNAVAILABLE");
  EXPECT_EQ(RetryAfter(world.Get({.org_id = "org5"}).status()), absl::Seconds(10));
  world.zoho().ClearScripts();
  world.Advance(absl::Seconds(10));
  EXPECT_EQ(Brief(world.Get({.org_id = "org6"})).substr(0, 9), "REFRESHED");
  EXPECT_EQ(Brief(world.Get({.org_id = "org7"})).substr(0, 9), "REFRESHED");
  EXPECT_THAT(world.replica().breaker_states(),
              ElementsAre("eu open", "eu half_open", "eu open", "eu half_open", "eu closed"));
}

TEST(Failures, OfTheGrantAreNoFailuresOfTheDc) {
  World world({.breaker = {.failures = 1}});
  world.Add({});
  world.zoho().Script("rt-acme", ScriptedReply::Throttled());
  EXPECT_EQ(Brief(world.Get()), "ZOHO_THROTTLED");
  world.Add({.key = KeyOf("bolt"), .refresh_token = "rt-bolt"});
  world.zoho().Script("rt-bolt", ScriptedReply::Dead());
  EXPECT_EQ(Brief(world.Get({.org_id = "bolt"})), "CONSENT_REQUIRED");
  world.Add({.key = KeyOf("corp"), .refresh_token = "rt-corp"});
  EXPECT_EQ(Brief(world.Get({.org_id = "corp"})), "REFRESHED at-1");
  EXPECT_THAT(world.replica().breaker_states(), ElementsAre());
}

TEST(Failures, OfTheCheckBeforeSendingAreNoFailuresOfTheDc) {
  World world({.breaker = {.failures = 1}});
  world.Add({});
  world.zoho().Script("rt-acme", ScriptedReply::CheckTooSlow());
  EXPECT_EQ(Brief(world.Get()), "REFRESHED at-1");
  EXPECT_EQ(world.replica().CountOutcome("not_sent"), 1);
  EXPECT_EQ(world.record().sends.size(), 1u);
  world.zoho().Script("rt-bolt", ScriptedReply::CheckTooSlow());
  Registration registration = Import("rt-bolt");
  registration.key = KeyOf("bolt");
  EXPECT_EQ(Reason(world.replica().Register(registration)), "STORE_UNAVAILABLE");
  EXPECT_THAT(world.replica().breaker_states(), ElementsAre());

  // The one that tries a DC again makes room for the next.
  world.zoho().Script("rt-acme", ScriptedReply::Unreachable());
  EXPECT_EQ(Brief(world.Get({.rejected_version = 2})), "ZOHO_UNAVAILABLE");
  world.Advance(absl::Seconds(10));
  world.zoho().Script("rt-acme", ScriptedReply::CheckTooSlow());
  EXPECT_EQ(Brief(world.Get({.rejected_version = 2})), "REFRESHED at-2");
  EXPECT_THAT(world.replica().breaker_states(),
              ElementsAre("us open", "us half_open", "us closed"));
}

}  // namespace
}  // namespace tokenbroker
