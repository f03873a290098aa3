// Fail: cooldowns, doubt, and that a stale failure changes nothing.
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/storage/token_store_contract.h"

namespace tokenbroker {
namespace {

using Outcome = FailResult::Outcome;

// Everything that a stale failure must not touch.
void ExpectUnchanged(const GrantRecord& before, const GrantRecord& after) {
  EXPECT_EQ(after.state, before.state);
  EXPECT_EQ(after.generation, before.generation);
  EXPECT_EQ(after.epoch, before.epoch);
  EXPECT_EQ(after.phase, before.phase);
  EXPECT_EQ(after.lease_owner, before.lease_owner);
  EXPECT_EQ(after.lease_end, before.lease_end);
  EXPECT_EQ(after.not_before, before.not_before);
  EXPECT_EQ(after.last_failure, before.last_failure);
  EXPECT_EQ(after.consecutive_failures, before.consecutive_failures);
  EXPECT_EQ(after.ambiguous, before.ambiguous);
  EXPECT_EQ(after.sends, before.sends);
}

TEST_P(TokenStoreContract, FailureIsRecorded) {
  RegisterOrg(Key());
  const int64_t epoch = AcquireAndSend(Key(), "a");
  const FailResult result = Fail(Key(), "a", epoch, 1, FailureKind::kTransient);
  EXPECT_EQ(result.outcome, Outcome::kRecorded);
  EXPECT_TRUE(About(result.wait, limits_.failure_backoff[0]));
  const GrantRecord record = Load(Key());
  EXPECT_EQ(record.state, GrantState::kActive);
  EXPECT_EQ(record.generation, 1);
  EXPECT_EQ(record.epoch, epoch);
  EXPECT_EQ(record.phase, LeasePhase::kNone);
  EXPECT_EQ(record.last_failure, FailureKind::kTransient);
  EXPECT_EQ(record.last_error, "connection reset");
  EXPECT_EQ(record.consecutive_failures, 1);
  EXPECT_TRUE(About(record.not_before - record.store_now, limits_.failure_backoff[0]));
  EXPECT_TRUE(About(record.last_failure_time - record.store_now, absl::ZeroDuration()));

  const AcquireResult next = Acquire(Key(), "b");
  EXPECT_EQ(next.outcome, AcquireResult::Outcome::kCooldown);
  EXPECT_TRUE(About(next.wait, limits_.failure_backoff[0]));
  EXPECT_EQ(next.record.last_failure, FailureKind::kTransient);
}

TEST_P(TokenStoreContract, FailureOfAnotherOwnerIsStale) {
  RegisterOrg(Key());
  const int64_t epoch = AcquireAndSend(Key(), "a");
  const GrantRecord before = Load(Key());
  EXPECT_EQ(Fail(Key(), "b", epoch, 1, FailureKind::kNeedsConsent).outcome, Outcome::kStale);
  ExpectUnchanged(before, Load(Key()));
}

TEST_P(TokenStoreContract, FailureOfAnotherEpochIsStale) {
  RegisterOrg(Key());
  const int64_t epoch = AcquireAndSend(Key(), "a");
  const GrantRecord before = Load(Key());
  EXPECT_EQ(Fail(Key(), "a", epoch - 1, 1, FailureKind::kNeedsConsent).outcome, Outcome::kStale);
  EXPECT_EQ(Fail(Key(), "a", epoch + 1, 1, FailureKind::kNeedsConsent).outcome, Outcome::kStale);
  ExpectUnchanged(before, Load(Key()));
}

TEST_P(TokenStoreContract, FailureOfAnotherGenerationIsStale) {
  RegisterOrg(Key());
  AcquireAndSend(Key(), "a");
  Advance(limits_.sent_lease);
  // B holds the lease when A's late success makes the grant live.
  const int64_t epoch = AcquireAndSend(Key(), "b");
  Commit(Key(), "a", 1);
  const GrantRecord before = Load(Key());
  EXPECT_EQ(Fail(Key(), "b", epoch, 1, FailureKind::kNeedsConsent).outcome, Outcome::kStale);
  ExpectUnchanged(before, Load(Key()));
  EXPECT_EQ(Load(Key()).state, GrantState::kActive);
}

TEST_P(TokenStoreContract, FailureAfterOwnCommitIsStale) {
  RegisterOrg(Key());
  const int64_t epoch = AcquireAndSend(Key(), "a");
  Commit(Key(), "a", 1);
  EXPECT_EQ(Fail(Key(), "a", epoch, 1).outcome, Outcome::kStale);
  EXPECT_EQ(Fail(Key(), "a", epoch, 2).outcome, Outcome::kStale);
  EXPECT_EQ(Load(Key()).last_failure, FailureKind::kNone);
}

TEST_P(TokenStoreContract, FailureWithoutALeaseIsStale) {
  const GrantRecord registered = RegisterOrg(Key());
  EXPECT_EQ(Fail(Key(), "a", registered.epoch, 1).outcome, Outcome::kStale);
  EXPECT_EQ(Fail(Key(), "", registered.epoch, 1).outcome, Outcome::kStale);
  EXPECT_EQ(Load(Key()).last_failure, FailureKind::kNone);
}

TEST_P(TokenStoreContract, FailureOfAnUnknownGrantIsStale) {
  EXPECT_EQ(Fail(Key(), "a", 1, 1).outcome, Outcome::kStale);
}

TEST_P(TokenStoreContract, FailureAfterARegistrationOrRevocationIsStale) {
  RegisterOrg(Key());
  int64_t epoch = AcquireAndSend(Key(), "a");
  Register(Registration(Key(), "register-2"));
  EXPECT_EQ(Fail(Key(), "a", epoch, 1, FailureKind::kNeedsConsent).outcome, Outcome::kStale);
  EXPECT_EQ(Load(Key()).state, GrantState::kActive);
  epoch = AcquireAndSend(Key(), "b", 2);
  Revoke(Key());
  EXPECT_EQ(Fail(Key(), "b", epoch, 2, FailureKind::kNeedsConsent).outcome, Outcome::kStale);
  EXPECT_EQ(Load(Key()).state, GrantState::kRevoked);
}

TEST_P(TokenStoreContract, FailureAfterTheLeaseRanOutIsRecordedIfNobodyTookIt) {
  RegisterOrg(Key());
  const int64_t epoch = AcquireAndSend(Key(), "a");
  Advance(limits_.sent_lease);
  EXPECT_EQ(Fail(Key(), "a", epoch, 1).outcome, Outcome::kRecorded);
  EXPECT_EQ(Load(Key()).last_failure, FailureKind::kTransient);
}

TEST_P(TokenStoreContract, FailureAgainIsTheSameAnswer) {
  RegisterOrg(Key());
  const int64_t epoch = AcquireAndSend(Key(), "a");
  Fail(Key(), "a", epoch, 1);
  const GrantRecord before = Load(Key());
  const FailResult again = Fail(Key(), "a", epoch, 1);
  EXPECT_EQ(again.outcome, Outcome::kRecorded);
  EXPECT_TRUE(About(again.wait, limits_.failure_backoff[0]));
  ExpectUnchanged(before, Load(Key()));
}

TEST_P(TokenStoreContract, ReleaseAgainTakesNoSecondSendBack) {
  RegisterWithSends(Key(), 2);
  const int64_t epoch = AcquireAndSend(Key(), "a");
  Fail(Key(), "a", epoch, 1, FailureKind::kNotSent);
  EXPECT_EQ(Fail(Key(), "a", epoch, 1, FailureKind::kNotSent).outcome, Outcome::kRecorded);
  EXPECT_EQ(Load(Key()).sends.size(), 2u);
}

TEST_P(TokenStoreContract, FailureAgainAfterAnotherLeaseIsStale) {
  RegisterOrg(Key());
  const AcquireResult held = Acquire(Key(), "a");
  Fail(Key(), "a", held.epoch, 1, FailureKind::kNotSent);
  AcquireAndSend(Key(), "b");
  EXPECT_EQ(Fail(Key(), "a", held.epoch, 1, FailureKind::kNeedsConsent).outcome, Outcome::kStale);
  EXPECT_EQ(Load(Key()).phase, LeasePhase::kSent);
}

TEST_P(TokenStoreContract, CooldownGrowsWithEachFailure) {
  RegisterOrg(Key());
  const size_t steps = limits_.failure_backoff.size();
  for (size_t i = 0; i < steps + 2; ++i) {
    const FailResult result = FailOnce(Key(), absl::StrCat("a", i), FailureKind::kUnreachable);
    EXPECT_EQ(result.outcome, Outcome::kRecorded) << i;
    EXPECT_TRUE(About(result.wait, limits_.failure_backoff[std::min(i, steps - 1)])) << i;
    EXPECT_EQ(Load(Key()).consecutive_failures, static_cast<int32_t>(i + 1));
  }
}

TEST_P(TokenStoreContract, CooldownStartsOverAfterASuccess) {
  RegisterOrg(Key());
  FailOnce(Key(), "a", FailureKind::kTransient);
  FailOnce(Key(), "b", FailureKind::kTransient);
  Advance(limits_.failure_backoff[1]);
  AcquireAndSend(Key(), "c");
  Commit(Key(), "c", 1);
  EXPECT_TRUE(
      About(FailOnce(Key(), "d", FailureKind::kTransient, 2).wait, limits_.failure_backoff[0]));
}

TEST_P(TokenStoreContract, CooldownEndsWhenItSays) {
  RegisterOrg(Key());
  const FailResult failed = FailOnce(Key(), "a", FailureKind::kTransient);
  Advance(failed.wait - absl::Seconds(20));
  EXPECT_EQ(Acquire(Key(), "b").outcome, AcquireResult::Outcome::kCooldown);
  Advance(absl::Seconds(20));
  EXPECT_EQ(Acquire(Key(), "b").outcome, AcquireResult::Outcome::kGranted);
}

TEST_P(TokenStoreContract, CooldownHoldsInEveryReplica) {
  RegisterOrg(Key());
  FailOnce(Key(), "a", FailureKind::kTransient);
  const absl::StatusOr<AcquireResult> result = other().Acquire({Key(), "b", 1, Purpose::kCaller});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->outcome, AcquireResult::Outcome::kCooldown);
  EXPECT_EQ(result->record.last_error, "connection reset");
}

TEST_P(TokenStoreContract, CooldownTooFarAwayIsVoid) {
  RegisterOrg(Key());
  FailOnce(Key(), "a", FailureKind::kThrottled);
  Advance(-absl::Hours(24));
  EXPECT_EQ(Acquire(Key(), "b").outcome, AcquireResult::Outcome::kGranted);
}

TEST_P(TokenStoreContract, ThrottleCoolsDownForItsOwnTime) {
  RegisterOrg(Key());
  const FailResult result = FailOnce(Key(), "a", FailureKind::kThrottled);
  EXPECT_TRUE(About(result.wait, limits_.throttle_cooldown));
  const AcquireResult next = Acquire(Key(), "b");
  EXPECT_EQ(next.outcome, AcquireResult::Outcome::kCooldown);
  EXPECT_EQ(next.record.last_failure, FailureKind::kThrottled);
  EXPECT_TRUE(About(next.wait, limits_.throttle_cooldown));
}

TEST_P(TokenStoreContract, ReleaseHasNoCooldown) {
  RegisterOrg(Key());
  const FailResult result = FailOnce(Key(), "a", FailureKind::kNotSent);
  EXPECT_EQ(result.outcome, Outcome::kRecorded);
  EXPECT_EQ(result.wait, absl::ZeroDuration());
  EXPECT_EQ(Load(Key()).last_failure, FailureKind::kNotSent);
  EXPECT_EQ(Load(Key()).consecutive_failures, 0);
  EXPECT_EQ(Acquire(Key(), "b").outcome, AcquireResult::Outcome::kGranted);
}

TEST_P(TokenStoreContract, ReleaseKeepsTheFailuresCounted) {
  RegisterOrg(Key());
  const FailResult failed = FailOnce(Key(), "a", FailureKind::kTransient);
  Advance(failed.wait);
  FailOnce(Key(), "b", FailureKind::kNotSent);
  EXPECT_EQ(Load(Key()).consecutive_failures, 1);
  EXPECT_TRUE(
      About(FailOnce(Key(), "c", FailureKind::kTransient).wait, limits_.failure_backoff[1]));
}

TEST_P(TokenStoreContract, DeadGrantNeedsConsent) {
  RegisterOrg(Key());
  const FailResult result = FailOnce(Key(), "a", FailureKind::kNeedsConsent);
  EXPECT_EQ(result.outcome, Outcome::kRecorded);
  EXPECT_EQ(result.wait, absl::ZeroDuration());
  EXPECT_EQ(Load(Key()).state, GrantState::kNeedsConsent);
  EXPECT_EQ(Load(Key()).generation, 1);
  EXPECT_TRUE(Load(Key()).refresh_token == Secret("refresh-1"));
  const AcquireResult next = Acquire(Key(), "b");
  EXPECT_EQ(next.outcome, AcquireResult::Outcome::kNeedsConsent);
  EXPECT_EQ(next.record.last_error, "connection reset");
}

TEST_P(TokenStoreContract, AmbiguousAttemptIsRemembered) {
  RegisterOrg(Key());
  const FailResult result = FailOnce(Key(), "a", FailureKind::kAmbiguous);
  EXPECT_TRUE(About(result.wait, limits_.failure_backoff[0]));
  Advance(result.wait);
  EXPECT_TRUE(Acquire(Key(), "b").previous_ambiguous);
}

TEST_P(TokenStoreContract, OnlyAmbiguousFailuresRaiseDoubt) {
  for (FailureKind kind :
       {FailureKind::kNotSent, FailureKind::kUnreachable, FailureKind::kTransient,
        FailureKind::kThrottled, FailureKind::kClientRejected}) {
    const GrantKey key = Key(absl::StrCat("org-", static_cast<int>(kind)));
    RegisterOrg(key);
    AcquireAndSend(key, "a");
    Fail(key, "a", Load(key).epoch, 1, kind);
    Advance(limits_.throttle_cooldown);
    EXPECT_FALSE(Acquire(key, "b").previous_ambiguous) << static_cast<int>(kind);
  }
}

TEST_P(TokenStoreContract, DoubtStaysOverFailuresThatSettleNothing) {
  RegisterOrg(Key());
  FailOnce(Key(), "a", FailureKind::kAmbiguous);
  FailOnce(Key(), "b", FailureKind::kTransient);
  FailOnce(Key(), "c", FailureKind::kNotSent);
  FailOnce(Key(), "d", FailureKind::kUnreachable);
  Advance(limits_.failure_backoff[2]);
  EXPECT_TRUE(Acquire(Key(), "e").previous_ambiguous);
}

TEST_P(TokenStoreContract, InvalidCodeIsDoubtedOnceThenBelieved) {
  RegisterOrg(Key());
  FailOnce(Key(), "a", FailureKind::kAmbiguous);
  Advance(limits_.failure_backoff[0]);
  const AcquireResult doubtful = Acquire(Key(), "b");
  ASSERT_TRUE(doubtful.previous_ambiguous);
  const FailResult doubted = Fail(Key(), "b", doubtful.epoch, 1, FailureKind::kDoubtedInvalid);
  EXPECT_TRUE(About(doubted.wait, limits_.failure_backoff[1]));
  EXPECT_EQ(Load(Key()).state, GrantState::kActive);
  Advance(doubted.wait);
  EXPECT_FALSE(Acquire(Key(), "c").previous_ambiguous);
}

TEST_P(TokenStoreContract, CommitAndRegistrationEndTheDoubt) {
  RegisterOrg(Key());
  FailOnce(Key(), "a", FailureKind::kAmbiguous);
  Advance(limits_.failure_backoff[0]);
  AcquireAndSend(Key(), "b");
  Commit(Key(), "b", 1);
  EXPECT_FALSE(Acquire(Key(), "c", 2).previous_ambiguous);

  FailOnce(Key(), "c", FailureKind::kAmbiguous, 2);
  Register(Registration(Key(), "register-2"));
  EXPECT_FALSE(Acquire(Key(), "d", 3).previous_ambiguous);
}

TEST_P(TokenStoreContract, ErrorIsKeptUpToTwoHundredBytes) {
  RegisterOrg(Key());
  const AcquireResult held = Acquire(Key(), "a");
  // 199 bytes, then a character of four.
  const std::string error = std::string(199, 'e') + "\xF0\x9F\x98\x80 and more";
  ASSERT_TRUE(store().Fail({Key(), "a", held.epoch, 1, FailureKind::kTransient, error}).ok());
  EXPECT_EQ(Load(Key()).last_error, std::string(199, 'e'));
}

}  // namespace
}  // namespace tokenbroker
