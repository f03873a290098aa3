// Acquire and mark_sent: who may refresh, and who may send.
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/storage/token_store_contract.h"

namespace tokenbroker {
namespace {

using Outcome = AcquireResult::Outcome;

TEST_P(TokenStoreContract, AcquireOfAnUnknownGrantIsNotFound) {
  EXPECT_EQ(Acquire(Key(), "a").outcome, Outcome::kNotFound);
  // And leaves nothing behind.
  EXPECT_EQ(Acquire(Key(), "a").outcome, Outcome::kNotFound);
  EXPECT_EQ(MarkSent(Key(), "a", 1), MarkSentOutcome::kLost);
}

TEST_P(TokenStoreContract, AcquireGrantsTheLease) {
  const GrantRecord registered = RegisterOrg(Key());
  const AcquireResult result = Acquire(Key(), "a");
  EXPECT_EQ(result.outcome, Outcome::kGranted);
  EXPECT_EQ(result.epoch, registered.epoch + 1);
  EXPECT_FALSE(result.previous_ambiguous);
  EXPECT_EQ(result.record.generation, 1);
  EXPECT_EQ(result.record.phase, LeasePhase::kHeld);
  EXPECT_EQ(result.record.lease_owner, "a");
  EXPECT_TRUE(result.record.refresh_token == Secret("refresh-1"));
  EXPECT_TRUE(About(result.record.lease_end - result.record.store_now, limits_.pre_send_lease));

  const GrantRecord stored = Load(Key());
  EXPECT_EQ(stored.phase, LeasePhase::kHeld);
  EXPECT_EQ(stored.lease_owner, "a");
  EXPECT_EQ(stored.epoch, result.epoch);
  EXPECT_EQ(stored.lease_end, result.record.lease_end);
}

TEST_P(TokenStoreContract, AcquireAgainByTheHolderIsTheSameGrant) {
  RegisterOrg(Key());
  const AcquireResult first = Acquire(Key(), "a");
  const AcquireResult again = Acquire(Key(), "a");
  EXPECT_EQ(again.outcome, Outcome::kGranted);
  EXPECT_EQ(again.epoch, first.epoch);
  EXPECT_EQ(again.record.lease_end, first.record.lease_end);  // not a longer one
  EXPECT_EQ(MarkSent(Key(), "a", again.epoch), MarkSentOutcome::kMarked);
}

TEST_P(TokenStoreContract, AcquireAgainAfterSendingCannotSendAgain) {
  RegisterOrg(Key());
  const int64_t epoch = AcquireAndSend(Key(), "a");
  const AcquireResult again = Acquire(Key(), "a");
  EXPECT_EQ(again.outcome, Outcome::kGranted);
  EXPECT_EQ(again.epoch, epoch);
  EXPECT_EQ(again.record.phase, LeasePhase::kSent);
  EXPECT_EQ(MarkSent(Key(), "a", again.epoch), MarkSentOutcome::kAlreadySent);
}

TEST_P(TokenStoreContract, OthersAreBusyWhileTheLeaseIsHeld) {
  RegisterOrg(Key());
  Acquire(Key(), "a");
  const AcquireResult result = Acquire(Key(), "b");
  EXPECT_EQ(result.outcome, Outcome::kBusy);
  EXPECT_TRUE(About(result.wait, limits_.pre_send_lease));
  EXPECT_EQ(result.record.lease_owner, "a");

  Advance(absl::Seconds(20));
  EXPECT_TRUE(About(Acquire(Key(), "b").wait, limits_.pre_send_lease - absl::Seconds(20)));
}

TEST_P(TokenStoreContract, OthersAreBusyInOtherReplicasToo) {
  RegisterOrg(Key());
  Acquire(Key(), "a");
  const absl::StatusOr<AcquireResult> result = other().Acquire({Key(), "b", 1, Purpose::kCaller});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->outcome, Outcome::kBusy);
}

TEST_P(TokenStoreContract, OthersAreBusyWhileTheRequestIsOut) {
  RegisterOrg(Key());
  AcquireAndSend(Key(), "a");
  const AcquireResult result = Acquire(Key(), "b");
  EXPECT_EQ(result.outcome, Outcome::kBusy);
  EXPECT_TRUE(About(result.wait, limits_.sent_lease));
  // Longer than the lease before sending was.
  Advance(limits_.pre_send_lease + absl::Seconds(20));
  EXPECT_EQ(Acquire(Key(), "b").outcome, Outcome::kBusy);
}

TEST_P(TokenStoreContract, LeaseThatRanOutBeforeSendingIsFreeAndNotAmbiguous) {
  RegisterOrg(Key());
  const AcquireResult first = Acquire(Key(), "a");
  Advance(limits_.pre_send_lease);
  const AcquireResult second = Acquire(Key(), "b");
  EXPECT_EQ(second.outcome, Outcome::kGranted);
  EXPECT_EQ(second.epoch, first.epoch + 1);
  EXPECT_FALSE(second.previous_ambiguous);
  EXPECT_FALSE(Load(Key()).ambiguous);
}

TEST_P(TokenStoreContract, LeaseThatRanOutAfterSendingIsFreeAndAmbiguous) {
  RegisterOrg(Key());
  const int64_t first = AcquireAndSend(Key(), "a");
  Advance(limits_.sent_lease);
  const AcquireResult second = Acquire(Key(), "b");
  EXPECT_EQ(second.outcome, Outcome::kGranted);
  EXPECT_EQ(second.epoch, first + 1);
  EXPECT_TRUE(second.previous_ambiguous);
  // The same answer when the first was lost.
  EXPECT_TRUE(Acquire(Key(), "b").previous_ambiguous);
}

TEST_P(TokenStoreContract, LeaseOfTheSameAttemptThatRanOutIsANewOne) {
  RegisterOrg(Key());
  const AcquireResult first = Acquire(Key(), "a");
  Advance(limits_.pre_send_lease);
  const AcquireResult second = Acquire(Key(), "a");
  EXPECT_EQ(second.outcome, Outcome::kGranted);
  EXPECT_EQ(second.epoch, first.epoch + 1);
  EXPECT_EQ(MarkSent(Key(), "a", first.epoch), MarkSentOutcome::kLost);
  EXPECT_EQ(MarkSent(Key(), "a", second.epoch), MarkSentOutcome::kMarked);
}

TEST_P(TokenStoreContract, LeaseEndTooFarAwayIsVoid) {
  RegisterOrg(Key());
  Acquire(Key(), "a");
  // The clock was a day ahead when the lease was given, and has been set right.
  Advance(-absl::Hours(24));
  EXPECT_EQ(Acquire(Key(), "b").outcome, Outcome::kGranted);
}

TEST_P(TokenStoreContract, LeaseEndTooFarAwayIsVoidForItsHolderToo) {
  RegisterOrg(Key());
  const AcquireResult held = Acquire(Key(), "a");
  Advance(-absl::Hours(24));
  // Anybody else may take it at any moment.
  EXPECT_EQ(MarkSent(Key(), "a", held.epoch), MarkSentOutcome::kLost);
}

TEST_P(TokenStoreContract, SentLeaseTooFarAwayIsVoidAndAmbiguous) {
  RegisterOrg(Key());
  AcquireAndSend(Key(), "a");
  Advance(-absl::Hours(24));
  const AcquireResult result = Acquire(Key(), "b");
  EXPECT_EQ(result.outcome, Outcome::kGranted);
  EXPECT_TRUE(result.previous_ambiguous);
}

TEST_P(TokenStoreContract, SmallStepBackOfTheClockKeepsTheLease) {
  RegisterOrg(Key());
  AcquireAndSend(Key(), "a");
  Advance(-absl::Minutes(1));  // rest is then below MaxLease
  EXPECT_EQ(Acquire(Key(), "b").outcome, Outcome::kBusy);
}

TEST_P(TokenStoreContract, NewerGenerationIsFresh) {
  RegisterOrg(Key());
  AcquireAndSend(Key(), "a");
  Commit(Key(), "a", 1);
  const AcquireResult result = Acquire(Key(), "b", 1);
  EXPECT_EQ(result.outcome, Outcome::kFresh);
  EXPECT_EQ(result.record.generation, 2);
  EXPECT_TRUE(result.record.access_token == Secret("access-2"));
  EXPECT_EQ(Load(Key()).phase, LeasePhase::kNone);
  // Whoever has seen it may refresh.
  EXPECT_EQ(Acquire(Key(), "b", 2).outcome, Outcome::kGranted);
}

// Two answers would fit in each of these; the documented order decides.
TEST_P(TokenStoreContract, RevokedComesBeforeFresh) {
  RegisterOrg(Key());
  Revoke(Key());
  EXPECT_EQ(Acquire(Key(), "a", 0).outcome, Outcome::kRevoked);
  EXPECT_EQ(Acquire(Key(), "a", 2).outcome, Outcome::kRevoked);
}

TEST_P(TokenStoreContract, FreshComesBeforeNeedsConsentAndBusy) {
  RegisterOrg(Key());
  const AcquireResult held = Acquire(Key(), "a");
  EXPECT_EQ(Acquire(Key(), "b", 0).outcome, Outcome::kFresh);
  EXPECT_EQ(Acquire(Key(), "a", 0).outcome, Outcome::kFresh);  // even for the holder
  Fail(Key(), "a", held.epoch, 1, FailureKind::kNeedsConsent);
  EXPECT_EQ(Acquire(Key(), "b", 0).outcome, Outcome::kFresh);
  EXPECT_EQ(Acquire(Key(), "b", 1).outcome, Outcome::kNeedsConsent);
}

TEST_P(TokenStoreContract, FreshComesBeforeCooldown) {
  RegisterOrg(Key());
  FailOnce(Key(), "a", FailureKind::kTransient);
  EXPECT_EQ(Acquire(Key(), "b", 0).outcome, Outcome::kFresh);
  EXPECT_EQ(Acquire(Key(), "b", 1).outcome, Outcome::kCooldown);
}

TEST_P(TokenStoreContract, NeedsConsentComesBeforeCooldown) {
  RegisterOrg(Key());
  FailOnce(Key(), "a", FailureKind::kThrottled);
  Advance(limits_.throttle_cooldown);
  FailOnce(Key(), "b", FailureKind::kNeedsConsent);
  EXPECT_EQ(Acquire(Key(), "c").outcome, Outcome::kNeedsConsent);
}

TEST_P(TokenStoreContract, CooldownComesBeforeBudget) {
  RegisterWithSends(Key(), limits_.budget[0].sends - 1);
  const int64_t epoch = AcquireAndSend(Key(), "a");
  Fail(Key(), "a", epoch, 1, FailureKind::kTransient);
  EXPECT_EQ(Acquire(Key(), "b").outcome, Outcome::kCooldown);
  Advance(limits_.failure_backoff[0]);
  EXPECT_EQ(Acquire(Key(), "b").outcome, Outcome::kBudget);
}

TEST_P(TokenStoreContract, MarkSentCountsAndLengthensTheLease) {
  RegisterOrg(Key());
  const AcquireResult held = Acquire(Key(), "a");
  Advance(absl::Seconds(20));
  EXPECT_EQ(MarkSent(Key(), "a", held.epoch), MarkSentOutcome::kMarked);
  const GrantRecord record = Load(Key());
  EXPECT_EQ(record.phase, LeasePhase::kSent);
  EXPECT_EQ(record.generation, 1);
  EXPECT_EQ(record.epoch, held.epoch);
  ASSERT_EQ(record.sends.size(), 1u);
  EXPECT_TRUE(About(absl::Seconds(20) - (record.store_now - record.sends[0]), absl::Seconds(20)));
  EXPECT_TRUE(About(record.lease_end - record.store_now, limits_.sent_lease));
}

TEST_P(TokenStoreContract, MarkSentTwiceIsNeverTwoSends) {
  RegisterOrg(Key());
  const AcquireResult held = Acquire(Key(), "a");
  EXPECT_EQ(MarkSent(Key(), "a", held.epoch), MarkSentOutcome::kMarked);
  const GrantRecord marked = Load(Key());
  EXPECT_EQ(MarkSent(Key(), "a", held.epoch), MarkSentOutcome::kAlreadySent);
  const GrantRecord again = Load(Key());
  EXPECT_EQ(again.sends, marked.sends);
  EXPECT_EQ(again.lease_end, marked.lease_end);
  // Nor once the lease has run out.
  Advance(limits_.sent_lease);
  EXPECT_EQ(MarkSent(Key(), "a", held.epoch), MarkSentOutcome::kAlreadySent);
}

TEST_P(TokenStoreContract, MarkSentByAnotherOwnerIsLost) {
  RegisterOrg(Key());
  const AcquireResult held = Acquire(Key(), "a");
  EXPECT_EQ(MarkSent(Key(), "b", held.epoch), MarkSentOutcome::kLost);
  EXPECT_EQ(Load(Key()).phase, LeasePhase::kHeld);
  EXPECT_TRUE(Load(Key()).sends.empty());
}

TEST_P(TokenStoreContract, MarkSentWithAnotherEpochIsLost) {
  RegisterOrg(Key());
  const AcquireResult held = Acquire(Key(), "a");
  EXPECT_EQ(MarkSent(Key(), "a", held.epoch - 1), MarkSentOutcome::kLost);
  EXPECT_EQ(MarkSent(Key(), "a", held.epoch + 1), MarkSentOutcome::kLost);
  EXPECT_TRUE(Load(Key()).sends.empty());
}

TEST_P(TokenStoreContract, MarkSentAfterTheLeaseRanOutIsLost) {
  RegisterOrg(Key());
  const AcquireResult held = Acquire(Key(), "a");
  Advance(limits_.pre_send_lease);
  EXPECT_EQ(MarkSent(Key(), "a", held.epoch), MarkSentOutcome::kLost);
  EXPECT_TRUE(Load(Key()).sends.empty());
}

TEST_P(TokenStoreContract, MarkSentAfterTheAttemptFailedIsLost) {
  RegisterOrg(Key());
  const AcquireResult held = Acquire(Key(), "a");
  Fail(Key(), "a", held.epoch, 1, FailureKind::kNotSent);
  EXPECT_EQ(MarkSent(Key(), "a", held.epoch), MarkSentOutcome::kLost);
}

TEST_P(TokenStoreContract, MarkSentAfterARegistrationOrRevocationIsLost) {
  RegisterOrg(Key());
  AcquireResult held = Acquire(Key(), "a");
  Register(Registration(Key(), "register-2"));
  EXPECT_EQ(MarkSent(Key(), "a", held.epoch), MarkSentOutcome::kLost);
  held = Acquire(Key(), "b", 2);
  EXPECT_EQ(held.outcome, Outcome::kGranted);
  Revoke(Key());
  EXPECT_EQ(MarkSent(Key(), "b", held.epoch), MarkSentOutcome::kLost);
}

TEST_P(TokenStoreContract, OneOfManyThreadsAcquires) {
  constexpr int kThreads = 8;
  RegisterOrg(Key());
  std::atomic<int> granted = 0;
  std::atomic<int> busy = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      TokenStore& replica = i % 2 == 0 ? store() : other();
      const absl::StatusOr<AcquireResult> result =
          replica.Acquire({Key(), absl::StrCat("thread-", i), 1, Purpose::kCaller});
      ASSERT_TRUE(result.ok()) << result.status();
      if (result->outcome == Outcome::kGranted) ++granted;
      if (result->outcome == Outcome::kBusy) ++busy;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(granted, 1);
  EXPECT_EQ(busy, kThreads - 1);
}

TEST_P(TokenStoreContract, GrantsDoNotBlockEachOther) {
  const GrantKey production = Key();
  GrantKey sandbox = Key();
  sandbox.environment = Environment::kSandbox;
  GrantKey another_client = Key();
  another_client.oauth_client = "crm-app";
  for (const GrantKey& key : {production, sandbox, another_client}) {
    RegisterOrg(key);
    EXPECT_EQ(Acquire(key, "a").outcome, Outcome::kGranted);
  }
}

}  // namespace
}  // namespace tokenbroker
