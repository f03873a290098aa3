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
  RegisterWithSends(Key(), 3);
  EXPECT_EQ(Acquire(Key(), "a", 1, Purpose::kBackground).outcome, Outcome::kGranted);
  Revoke(Key());
  CountSends(Key(), 1);  // the fourth
  Register(Registration(Key(), "register-2"));
  const AcquireResult background = Acquire(Key(), "b", 3, Purpose::kBackground);
  EXPECT_EQ(background.outcome, Outcome::kBudget);
  EXPECT_TRUE(About(background.wait, limits_.budget[0].length));
  EXPECT_EQ(Acquire(Key(), "b", 3, Purpose::kCaller).outcome, Outcome::kGranted);
}

TEST_P(TokenStoreContract, BackgroundLeavesTheLastSendOfTheLongWindowToo) {
  RegisterWithSends(Key(), 4);
  Advance(limits_.budget[0].length);
  CountSends(Key(), 3);
  Advance(limits_.budget[0].length);
  EXPECT_EQ(Acquire(Key(), "b", 1, Purpose::kBackground).outcome, Outcome::kBudget);
  EXPECT_EQ(Acquire(Key(), "b", 1, Purpose::kCaller).outcome, Outcome::kGranted);
}

TEST_P(TokenStoreContract, SendThatWasTakenBackDoesNotCount) {
  RegisterWithSends(Key(), 4);
  const size_t before = Load(Key()).sends.size();
  const int64_t epoch = AcquireAndSend(Key(), "a");
  EXPECT_EQ(Load(Key()).sends.size(), before + 1);
  Fail(Key(), "a", epoch, 1, FailureKind::kNotSent);
  EXPECT_EQ(Load(Key()).sends.size(), before);
  EXPECT_EQ(Acquire(Key(), "b").outcome, Outcome::kGranted);
}

TEST_P(TokenStoreContract, ReleaseBeforeMarkSentTakesNothingBack) {
  RegisterWithSends(Key(), 4);
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
  EXPECT_EQ(RegisterWithSends(Key(), 2).sends.size(), 2u);
  for (int i = 0; i < 3; ++i) {
    AcquireAndSend(Key(), absl::StrCat("a", i), 1 + i);
    Commit(Key(), absl::StrCat("a", i), 1 + i);
  }
  EXPECT_EQ(Acquire(Key(), "b", 4).outcome, Outcome::kBudget);
}

TEST_P(TokenStoreContract, RegisteringAndRevokingKeepTheJournal) {
  RegisterWithSends(Key(), 5);
  Revoke(Key());
  EXPECT_EQ(Load(Key()).sends.size(), 5u);
  Register(Registration(Key(), "register-2"));
  EXPECT_EQ(Load(Key()).sends.size(), 5u);
  EXPECT_EQ(Acquire(Key(), "a", 3).outcome, Outcome::kBudget);
}

TEST_P(TokenStoreContract, RegistrationsAreGrantedOutOfTheBudgetOfARevokedGrant) {
  for (int i = 0; i < limits_.budget[0].sends; ++i) {
    const std::string attempt = absl::StrCat("a", i);
    const AcquireResult acquired = Acquire(Key(), attempt, 0, Purpose::kRegistration);
    ASSERT_EQ(acquired.outcome, Outcome::kGranted) << i;
    ASSERT_EQ(MarkSent(Key(), attempt, acquired.epoch), MarkSentOutcome::kMarked) << i;
    Register(Registration(Key(), absl::StrCat("register-", i)));
    Revoke(Key());
  }
  const AcquireResult refused = Acquire(Key(), "b", 0, Purpose::kRegistration);
  EXPECT_EQ(refused.outcome, Outcome::kBudget);
  EXPECT_TRUE(About(refused.wait, limits_.budget[0].length));
  EXPECT_EQ(CountSend(Key(), "b").outcome, CountSendResult::Outcome::kBudget);
}

TEST_P(TokenStoreContract, RefusedRegistrationsOfNoGrantCount) {
  for (int i = 0; i < limits_.budget[0].sends; ++i) {
    const std::string attempt = absl::StrCat("a", i);
    const AcquireResult acquired = Acquire(Key(), attempt, 0, Purpose::kRegistration);
    ASSERT_EQ(acquired.outcome, Outcome::kGranted) << i;
    ASSERT_EQ(MarkSent(Key(), attempt, acquired.epoch), MarkSentOutcome::kMarked) << i;
    Fail(Key(), attempt, acquired.epoch, 0, FailureKind::kOtherCredential);
  }
  EXPECT_EQ(Acquire(Key(), "b", 0, Purpose::kRegistration).outcome, Outcome::kBudget);
  EXPECT_EQ(CountSend(Key(), "b").outcome, CountSendResult::Outcome::kBudget);
  // The grant that comes of it in the end has had them.
  EXPECT_EQ(RegisterOrg(Key()).sends.size(), 5u);
  EXPECT_EQ(Acquire(Key(), "c").outcome, Outcome::kBudget);
}

TEST_P(TokenStoreContract, CountedSendsObeyTheBudget) {
  CountSends(Key(), limits_.budget[0].sends);
  const CountSendResult refused = CountSend(Key(), "b");
  EXPECT_EQ(refused.outcome, CountSendResult::Outcome::kBudget);
  EXPECT_TRUE(About(refused.wait, limits_.budget[0].length));
  EXPECT_EQ(other().CountSend({Key(), "c"})->outcome, CountSendResult::Outcome::kBudget);
  Advance(limits_.budget[0].length);
  CountSends(Key(), limits_.budget[1].sends - limits_.budget[0].sends);
  EXPECT_EQ(CountSend(Key(), "b").outcome, CountSendResult::Outcome::kBudget);
}

TEST_P(TokenStoreContract, CountedSendAgainCountsOnce) {
  EXPECT_EQ(CountSend(Key(), "a").outcome, CountSendResult::Outcome::kCounted);
  EXPECT_EQ(CountSend(Key(), "a").outcome, CountSendResult::Outcome::kCounted);
  EXPECT_EQ(RegisterOrg(Key()).sends.size(), 1u);
  // Its answer was lost, and it may have been the last one that there was room for.
  CountSends(Key(), 3);
  EXPECT_EQ(CountSend(Key(), "b").outcome, CountSendResult::Outcome::kCounted);
  EXPECT_EQ(CountSend(Key(), "b").outcome, CountSendResult::Outcome::kCounted);
  EXPECT_EQ(Load(Key()).sends.size(), 5u);
}

TEST_P(TokenStoreContract, HeldLeaseHasItsPlaceInTheBudget) {
  RegisterWithSends(Key(), 4);
  const AcquireResult held = Acquire(Key(), "a");
  ASSERT_EQ(held.outcome, Outcome::kGranted);
  // The fifth is the holder's.
  EXPECT_EQ(CountSend(Key(), "b").outcome, CountSendResult::Outcome::kBudget);
  EXPECT_EQ(MarkSent(Key(), "a", held.epoch), MarkSentOutcome::kMarked);
  EXPECT_EQ(Load(Key()).sends.size(), 5u);
}

TEST_P(TokenStoreContract, LeaseThatRanOutHasNoPlaceInTheBudget) {
  RegisterWithSends(Key(), 4);
  ASSERT_EQ(Acquire(Key(), "a").outcome, Outcome::kGranted);
  Advance(limits_.pre_send_lease);
  EXPECT_EQ(CountSend(Key(), "b").outcome, CountSendResult::Outcome::kCounted);
}

TEST_P(TokenStoreContract, OnlyTheOwnSendIsTakenBack) {
  RegisterOrg(Key());
  const int64_t epoch = AcquireAndSend(Key(), "a");
  Advance(absl::Seconds(30));
  CountSends(Key(), 1);
  Fail(Key(), "a", epoch, 1, FailureKind::kNotSent);
  const GrantRecord record = Load(Key());
  ASSERT_EQ(record.sends.size(), 1u);
  // The one that is left is the code's.
  EXPECT_TRUE(About(absl::Seconds(20) - (record.store_now - record.sends[0]), absl::Seconds(20)));
}

TEST_P(TokenStoreContract, JournalStaysShort) {
  RegisterWithSends(Key(), 5);
  Advance(limits_.budget[0].length);
  CountSends(Key(), 3);
  // What has left the longest window goes with the next entry.
  Advance(limits_.budget[1].length);
  AcquireAndSend(Key(), "a");
  EXPECT_EQ(Load(Key()).sends.size(), 1u);
  Advance(limits_.budget[1].length);
  CountSends(Key(), 1);
  EXPECT_EQ(Load(Key()).sends.size(), 1u);
}

TEST_P(TokenStoreContract, BudgetHoldsAcrossReplicas) {
  RegisterWithSends(Key(), 4);
  AcquireAndSend(Key(), "a");
  Commit(Key(), "a", 1);
  const absl::StatusOr<AcquireResult> result = other().Acquire({Key(), "b", 2, Purpose::kCaller});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->outcome, Outcome::kBudget);
}

TEST_P(TokenStoreContract, SendsFromFarInTheFutureAreVoid) {
  RegisterWithSends(Key(), 5);
  // The clock was wrong by days when they were written. A grant must not be stuck until then.
  Advance(-absl::Hours(72));
  EXPECT_EQ(Acquire(Key(), "a").outcome, Outcome::kGranted);
}

TEST_P(TokenStoreContract, SmallStepBackOfTheClockKeepsTheSends) {
  RegisterWithSends(Key(), 5);
  Advance(-absl::Minutes(10));
  const AcquireResult refused = Acquire(Key(), "a");
  EXPECT_EQ(refused.outcome, Outcome::kBudget);
  EXPECT_TRUE(About(refused.wait, limits_.budget[0].length + absl::Minutes(10)));
}

TEST_P(TokenStoreContract, BudgetsOfGrantsAreSeparate) {
  RegisterWithSends(Key("org-1"), 5);
  RegisterOrg(Key("org-2"));
  EXPECT_EQ(Acquire(Key("org-1"), "a").outcome, Outcome::kBudget);
  EXPECT_EQ(Acquire(Key("org-2"), "a").outcome, Outcome::kGranted);
}

}  // namespace
}  // namespace tokenbroker
