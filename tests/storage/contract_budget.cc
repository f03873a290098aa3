// The budget of sends per grant.
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/storage/token_store_contract.h"

namespace tokenbroker {
namespace {

using Outcome = AcquireResult::Outcome;

TEST_P(TokenStoreContract, ShortWindowAllowsFiveSends) {
  ASSERT_EQ(limits_.budget[0].sends, 5);
  RegisterOrg(Key());
  int64_t generation = 1;
  for (int i = 0; i < 5; ++i, ++generation) {
    AcquireAndSend(Key(), absl::StrCat("a", i), generation);
    Commit(Key(), absl::StrCat("a", i), generation);
    Advance(absl::Minutes(1));
  }
  // The first send leaves the window first.
  const AcquireResult refused = Acquire(Key(), "b", generation);
  EXPECT_EQ(refused.outcome, Outcome::kBudget);
  EXPECT_TRUE(About(refused.wait, limits_.budget[0].length - absl::Minutes(5)));
  EXPECT_EQ(refused.record.generation, generation);
  EXPECT_EQ(Load(Key()).phase, LeasePhase::kNone);

  Advance(refused.wait);
  AcquireAndSend(Key(), "b", generation);
  Commit(Key(), "b", generation++);
  // Now the second one.
  const AcquireResult again = Acquire(Key(), "c", generation);
  EXPECT_EQ(again.outcome, Outcome::kBudget);
  // The clock may also have gone on between the first send and the second.
  EXPECT_TRUE(About(again.wait, absl::Minutes(1) + absl::Seconds(10)));
}

TEST_P(TokenStoreContract, LongWindowAllowsEightSends) {
  ASSERT_EQ(limits_.budget[1].sends, 8);
  RegisterOrg(Key());
  int64_t generation = 1;
  for (int i = 0; i < 8; ++i, ++generation) {
    // So slowly that the short window never fills.
    AcquireAndSend(Key(), absl::StrCat("a", i), generation);
    Commit(Key(), absl::StrCat("a", i), generation);
    Advance(limits_.budget[0].length / 4);
  }
  const AcquireResult refused = Acquire(Key(), "b", generation);
  EXPECT_EQ(refused.outcome, Outcome::kBudget);
  EXPECT_TRUE(About(refused.wait, limits_.budget[1].length - 2 * limits_.budget[0].length));
  Advance(refused.wait);
  EXPECT_EQ(Acquire(Key(), "b", generation).outcome, Outcome::kGranted);
}

TEST_P(TokenStoreContract, BackgroundLeavesTheLastSendToCallers) {
  ASSERT_EQ(limits_.background_reserve, 1);
  RegisterRequest registration = Registration(Key());
  registration.sends = 3;
  Register(registration);
  EXPECT_EQ(Acquire(Key(), "a", 1, Purpose::kBackground).outcome, Outcome::kGranted);
  Revoke(Key());
  registration.attempt_id = "register-2";
  registration.sends = 1;  // the fourth
  Register(registration);
  const AcquireResult background = Acquire(Key(), "b", 3, Purpose::kBackground);
  EXPECT_EQ(background.outcome, Outcome::kBudget);
  EXPECT_TRUE(About(background.wait, limits_.budget[0].length));
  EXPECT_EQ(Acquire(Key(), "b", 3, Purpose::kCaller).outcome, Outcome::kGranted);
}

TEST_P(TokenStoreContract, BackgroundLeavesTheLastSendOfTheLongWindowToo) {
  RegisterRequest registration = Registration(Key());
  registration.sends = 4;
  Register(registration);
  Advance(limits_.budget[0].length);
  registration.attempt_id = "register-2";
  registration.sends = 3;
  Register(registration);
  Advance(limits_.budget[0].length);
  EXPECT_EQ(Acquire(Key(), "b", 2, Purpose::kBackground).outcome, Outcome::kBudget);
  EXPECT_EQ(Acquire(Key(), "b", 2, Purpose::kCaller).outcome, Outcome::kGranted);
}

TEST_P(TokenStoreContract, SendThatWasTakenBackDoesNotCount) {
  RegisterRequest registration = Registration(Key());
  registration.sends = 4;
  Register(registration);
  const size_t before = Load(Key()).sends.size();
  const int64_t epoch = AcquireAndSend(Key(), "a");
  EXPECT_EQ(Load(Key()).sends.size(), before + 1);
  Fail(Key(), "a", epoch, 1, FailureKind::kNotSent);
  EXPECT_EQ(Load(Key()).sends.size(), before);
  EXPECT_EQ(Acquire(Key(), "b").outcome, Outcome::kGranted);
}

TEST_P(TokenStoreContract, ReleaseBeforeMarkSentTakesNothingBack) {
  RegisterRequest registration = Registration(Key());
  registration.sends = 4;
  Register(registration);
  const AcquireResult held = Acquire(Key(), "a");
  Fail(Key(), "a", held.epoch, 1, FailureKind::kNotSent);
  EXPECT_EQ(Load(Key()).sends.size(), 4u);
}

TEST_P(TokenStoreContract, EveryOtherFailureCounts) {
  for (FailureKind kind :
       {FailureKind::kUnreachable, FailureKind::kTransient, FailureKind::kAmbiguous,
        FailureKind::kThrottled, FailureKind::kClientRejected, FailureKind::kDoubtedInvalid,
        FailureKind::kNeedsConsent}) {
    const GrantKey key = Key(absl::StrCat("org-", static_cast<int>(kind)));
    RegisterOrg(key);
    const int64_t epoch = AcquireAndSend(key, "a");
    Fail(key, "a", epoch, 1, kind);
    EXPECT_EQ(Load(key).sends.size(), 1u) << static_cast<int>(kind);
  }
}

TEST_P(TokenStoreContract, SendsOfARegistrationCount) {
  RegisterRequest registration = Registration(Key());
  registration.sends = 2;
  const RegisterResult registered = Register(registration);
  EXPECT_EQ(registered.record.sends.size(), 2u);
  for (int i = 0; i < 3; ++i) {
    AcquireAndSend(Key(), absl::StrCat("a", i), 1 + i);
    Commit(Key(), absl::StrCat("a", i), 1 + i);
  }
  EXPECT_EQ(Acquire(Key(), "b", 4).outcome, Outcome::kBudget);
}

TEST_P(TokenStoreContract, RegisteringAndRevokingKeepTheJournal) {
  RegisterRequest registration = Registration(Key());
  registration.sends = 5;
  Register(registration);
  Revoke(Key());
  EXPECT_EQ(Load(Key()).sends.size(), 5u);
  Register(Registration(Key(), "register-2"));
  EXPECT_EQ(Load(Key()).sends.size(), 5u);
  EXPECT_EQ(Acquire(Key(), "a", 3).outcome, Outcome::kBudget);
}

TEST_P(TokenStoreContract, RepeatedRegistrationCountsOnce) {
  RegisterRequest registration = Registration(Key());
  registration.sends = 3;
  Register(registration);
  Register(registration);
  EXPECT_EQ(Load(Key()).sends.size(), 3u);
}

TEST_P(TokenStoreContract, JournalStaysShort) {
  for (int i = 0; i < 5; ++i) {
    RegisterRequest registration = Registration(Key(), absl::StrCat("register-", i));
    registration.sends = 100;
    Register(registration);
  }
  EXPECT_LE(Load(Key()).sends.size(), 8u);
  EXPECT_EQ(Acquire(Key(), "a", 5).outcome, Outcome::kBudget);
  // What has left the longest window goes with the next entry.
  Advance(limits_.budget[1].length);
  AcquireAndSend(Key(), "a", 5);
  EXPECT_EQ(Load(Key()).sends.size(), 1u);
}

TEST_P(TokenStoreContract, BudgetHoldsAcrossReplicas) {
  RegisterRequest registration = Registration(Key());
  registration.sends = 4;
  Register(registration);
  AcquireAndSend(Key(), "a");
  Commit(Key(), "a", 1);
  const absl::StatusOr<AcquireResult> result = other().Acquire({Key(), "b", 2, Purpose::kCaller});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->outcome, Outcome::kBudget);
}

TEST_P(TokenStoreContract, SendsFromFarInTheFutureAreVoid) {
  RegisterRequest registration = Registration(Key());
  registration.sends = 5;
  Register(registration);
  // The clock was wrong by days when they were written. A grant must not be stuck until then.
  Advance(-absl::Hours(72));
  EXPECT_EQ(Acquire(Key(), "a").outcome, Outcome::kGranted);
}

TEST_P(TokenStoreContract, SmallStepBackOfTheClockKeepsTheSends) {
  RegisterRequest registration = Registration(Key());
  registration.sends = 5;
  Register(registration);
  Advance(-absl::Minutes(10));
  const AcquireResult refused = Acquire(Key(), "a");
  EXPECT_EQ(refused.outcome, Outcome::kBudget);
  EXPECT_TRUE(About(refused.wait, limits_.budget[0].length + absl::Minutes(10)));
}

TEST_P(TokenStoreContract, BudgetsOfGrantsAreSeparate) {
  RegisterRequest registration = Registration(Key("org-1"));
  registration.sends = 5;
  Register(registration);
  RegisterOrg(Key("org-2"));
  EXPECT_EQ(Acquire(Key("org-1"), "a").outcome, Outcome::kBudget);
  EXPECT_EQ(Acquire(Key("org-2"), "a").outcome, Outcome::kGranted);
}

}  // namespace
}  // namespace tokenbroker
