// G6 over registrations: what is sent for them is counted, and stops where Zoho says so.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/errors.h"
#include "tests/server/issuing/registrations.h"
#include "tests/server/issuing/world.h"

namespace tokenbroker {
namespace {

using Op = testing::FakeTokenStore::Op;
using ::testing::ElementsAre;
using testing::ScriptedReply;

// Whatever is done to the grant in between.
class RegistrationsInALoop : public ::testing::TestWithParam<const char*> {
 protected:
  Registration Next() {
    const std::string by = GetParam();
    if (by == "code") return ByCode(absl::StrCat("code-", ++count_));
    if (by == "import") return Import("rt-mine");
    if (by == "otherImport") return Import(absl::StrCat("rt-", ++count_));
    Registration registration = ByClientCredentials();
    registration.key = Grant().key;
    registration.key.oauth_client = "self";
    return registration;
  }
  // 30 of them in 600 s. Returns how many were not refused by the broker itself.
  int Run(World& world, const std::function<void()>& between = nullptr) {
    int sent = 0;
    for (int i = 0; i < 30; ++i) {
      const auto registered = world.replica(i % 2).Register(Next());
      const std::string reason = Reason(registered);
      if (reason == "MINT_BUDGET_EXHAUSTED" || reason == "ZOHO_THROTTLED") {
        EXPECT_GT(RetryAfter(registered.status()), absl::ZeroDuration());
        EXPECT_LE(RetryAfter(registered.status()), absl::Seconds(600));
      } else {
        ++sent;
      }
      if (between) between();
      world.Advance(absl::Seconds(19));
    }
    return sent;
  }

 private:
  int count_ = 0;
};

TEST_P(RegistrationsInALoop, AndRevokedStayInTheBudget) {
  World world({.replicas = 2});
  EXPECT_EQ(Run(world,
                [&] {
                  const GrantKey key = Next().key;
                  if (world.record(key).generation > 0) world.replica().Revoke(key).IgnoreError();
                }),
            5);
  EXPECT_EQ(world.zoho().sends(), 5);
}

TEST_P(RegistrationsInALoop, RefusedFromTheFirstStayInTheBudget) {
  World world({.replicas = 2});
  world.zoho().ScriptAll(ScriptedReply::Dead());
  EXPECT_EQ(Run(world), 5);
  EXPECT_EQ(world.zoho().sends(), 5);
  EXPECT_EQ(Brief(world.Get()), "ORG_NOT_FOUND");
}

TEST_P(RegistrationsInALoop, WithoutAnswersStayInTheBudget) {
  World world({.replicas = 2, .breaker = {.failures = 1000}});
  world.zoho().ScriptAll(ScriptedReply::Ambiguous());
  Run(world);
  EXPECT_EQ(world.zoho().sends(), 5);
}

TEST_P(RegistrationsInALoop, SendNothingWhileZohoThrottles) {
  World world({.replicas = 2});
  world.zoho().Script(Next().credential.index() == 0 ? TokenRequest::GrantType::kAuthorizationCode
                      : Next().credential.index() == 1
                          ? TokenRequest::GrantType::kRefreshToken
                          : TokenRequest::GrantType::kClientCredentials,
                      ScriptedReply::Throttled());
  Run(world);
  EXPECT_EQ(world.zoho().sends(), 1);
  world.Advance(absl::Seconds(30));
  EXPECT_EQ(Reason(world.replica().Register(Next())), "created");
}

TEST_P(RegistrationsInALoop, SendNothingWhileARevokedGrantIsThrottled) {
  World world({.replicas = 2});
  ASSERT_EQ(Reason(world.replica().Register(Next())), "created");
  const GrantKey key = Next().key;
  world.zoho().Script(key.oauth_client == "self" ? TokenRequest::GrantType::kClientCredentials
                                                 : TokenRequest::GrantType::kRefreshToken,
                      ScriptedReply::Throttled());
  EXPECT_EQ(Brief(world.Get({.oauth_client = key.oauth_client, .rejected_version = 1})),
            "ZOHO_THROTTLED");
  ASSERT_TRUE(world.replica().Revoke(key).ok());
  Run(world);
  EXPECT_EQ(world.zoho().sends(), 2);
}

INSTANTIATE_TEST_SUITE_P(By, RegistrationsInALoop,
                         ::testing::Values("code", "import", "otherImport", "clientCredentials"),
                         [](const auto& info) { return std::string(info.param); });

TEST(RegistrationBudget, ACodeWaitsForNobodysLease) {
  World world;
  world.Add({});
  world.distance().SetLatency(absl::Seconds(5));
  const auto call = world.Start({});
  world.Advance(absl::Seconds(1));
  Pending pending;
  pending.Start(world, 0, ByCode("code-1"));
  world.Advance(absl::Seconds(1));
  // Both are with Zoho, with credentials of their own.
  EXPECT_EQ(world.record().sends.size(), 2u);
  world.Advance(absl::Seconds(5));
  EXPECT_THAT(pending.results(), ElementsAre("replaced"));
  EXPECT_EQ(world.distance().max_in_flight(), 1);
}

TEST(RegistrationBudget, FirstImportsOfOneTokenAreOneRequestAtATime) {
  World world({.replicas = 2});
  world.distance().SetLatency(absl::Milliseconds(500));
  Pending pending;
  pending.Start(world, 0, Import("rt-mine"));
  pending.Start(world, 1, Import("rt-mine"));
  world.Advance(absl::Seconds(3));
  EXPECT_THAT(pending.results(), ElementsAre("created", "replaced"));
  EXPECT_EQ(world.distance().max_in_flight(), 1);
  EXPECT_EQ(world.record().sends.size(), 2u);
}

TEST(RegistrationBudget, ARefusedForeignImportCountsAndSaysNothingOfTheGrant) {
  World world;
  world.Add({.lifetime = absl::Hours(1)});
  for (const ScriptedReply& reply : {ScriptedReply::Dead(), ScriptedReply::Transient(),
                                     ScriptedReply::Ambiguous(), ScriptedReply::ClientRejected()}) {
    world.zoho().Script("rt-other", reply);
    EXPECT_FALSE(world.replica().Register(Import("rt-other")).ok());
  }
  // What never left is not counted.
  world.zoho().Script("rt-other", ScriptedReply::Unreachable());
  EXPECT_EQ(Reason(world.replica().Register(Import("rt-other"))), "ZOHO_UNAVAILABLE");
  const GrantRecord record = world.record();
  EXPECT_EQ(record.sends.size(), 4u);
  EXPECT_EQ(record.state, GrantState::kActive);
  EXPECT_EQ(record.consecutive_failures, 0);
  EXPECT_FALSE(record.ambiguous);
  EXPECT_EQ(Brief(world.Get()), "STORE at-old");
}

TEST(RegistrationBudget, ACodeThatCannotBeCountedIsNotSpent) {
  World world;
  world.store().SetUnavailable(Op::kCountSend, true);
  EXPECT_EQ(Reason(world.replica().Register(ByCode("code-1"))), "STORE_UNAVAILABLE");
  EXPECT_EQ(world.zoho().sends(), 0);
  world.store().SetUnavailable(Op::kCountSend, false);
  EXPECT_EQ(Reason(world.replica().Register(ByCode("code-1"))), "created");
}

TEST(RegistrationBudget, AThrottleThatTheStoreDidNotTakeIsRepeated) {
  World world;
  world.zoho().Script("code-1", ScriptedReply::Throttled());
  world.store().FailNext(Op::kFail, StoreUnavailableError("x"), 3);
  EXPECT_EQ(Reason(world.replica().Register(ByCode("code-1"))), "ZOHO_THROTTLED");
  EXPECT_EQ(Reason(world.replica().Register(ByCode("code-2"))), "ZOHO_THROTTLED");
  EXPECT_EQ(world.zoho().sends(), 1);
}

}  // namespace
}  // namespace tokenbroker
