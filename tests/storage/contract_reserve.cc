// Registrations of grants that are dead, revoked or not there yet; sends without a lease.
#include <string>

#include "absl/strings/str_cat.h"
#include "common/errors.h"
#include "tests/storage/token_store_contract.h"

namespace tokenbroker {
namespace {

using Outcome = AcquireResult::Outcome;

TEST_P(TokenStoreContract, RegistrationReservesWhatIsNotThere) {
  const AcquireResult reserved = Acquire(Key(), "a", 0, Purpose::kRegistration);
  EXPECT_EQ(reserved.outcome, Outcome::kGranted);
  EXPECT_EQ(reserved.epoch, 1);
  EXPECT_EQ(reserved.record.state, GrantState::kReserved);
  EXPECT_EQ(reserved.record.generation, 0);
  EXPECT_EQ(reserved.record.phase, LeasePhase::kHeld);
  // The lease is one like any other.
  const AcquireResult busy = Acquire(Key(), "b", 0, Purpose::kRegistration);
  EXPECT_EQ(busy.outcome, Outcome::kBusy);
  EXPECT_TRUE(About(busy.wait, limits_.pre_send_lease));
  EXPECT_EQ(Acquire(Key(), "a", 0, Purpose::kRegistration).epoch, 1);
  EXPECT_EQ(MarkSent(Key(), "a", reserved.epoch), MarkSentOutcome::kMarked);
  EXPECT_EQ(MarkSent(Key(), "b", reserved.epoch), MarkSentOutcome::kLost);
}

TEST_P(TokenStoreContract, NobodySeesAReservedRecord) {
  for (const bool counted : {false, true}) {
    const GrantKey key = Key(counted ? "org-1" : "org-2");
    if (counted) {
      CountSends(key, 1);
    } else {
      const AcquireResult reserved = Acquire(key, "a", 0, Purpose::kRegistration);
      ASSERT_EQ(MarkSent(key, "a", reserved.epoch), MarkSentOutcome::kMarked);
    }
    EXPECT_EQ(ErrorReason(store().Load(key).status()), "ORG_NOT_FOUND");
    EXPECT_EQ(Acquire(key, "b", 0).outcome, Outcome::kNotFound);
    EXPECT_EQ(Acquire(key, "b", 0, Purpose::kBackground).outcome, Outcome::kNotFound);
    EXPECT_EQ(Commit(key, "a", 0).outcome, CommitResult::Outcome::kNotFound);
    EXPECT_EQ(Commit(key, "c", 7).outcome, CommitResult::Outcome::kNotFound);
    EXPECT_EQ(Revoke(key).outcome, RevokeResult::Outcome::kNotFound);
    EXPECT_EQ(store().ForgetTokens(key, 0), absl::OkStatus());
    EXPECT_TRUE(store().ListPage("", "", 10)->records.empty());
    EXPECT_EQ(ErrorReason(store().Load(key).status()), "ORG_NOT_FOUND");
  }
  // Nor beside those that are grants.
  RegisterOrg(Key("org-1"));
  RegisterOrg(Key("org-3"));
  const absl::StatusOr<GrantPage> page = store().ListPage("", "", 2);
  ASSERT_TRUE(page.ok()) << page.status();
  ASSERT_EQ(page->records.size(), 2u);
  EXPECT_EQ(page->records[1].key, Key("org-3"));
}

TEST_P(TokenStoreContract, RegisteringMakesAGrantOfAReservedRecord) {
  const AcquireResult reserved = Acquire(Key(), "a", 0, Purpose::kRegistration);
  ASSERT_EQ(MarkSent(Key(), "a", reserved.epoch), MarkSentOutcome::kMarked);
  Advance(absl::Minutes(1));
  const GrantRecord record = RegisterOrg(Key());  // created, generation 1
  EXPECT_EQ(record.state, GrantState::kActive);
  EXPECT_EQ(record.epoch, reserved.epoch + 1);
  EXPECT_EQ(record.phase, LeasePhase::kNone);
  EXPECT_EQ(record.sends.size(), 1u);
  EXPECT_EQ(record.created, record.updated);
  EXPECT_EQ(Fail(Key(), "a", reserved.epoch, 0, FailureKind::kTransient).outcome,
            FailResult::Outcome::kStale);
  EXPECT_EQ(Acquire(Key(), "b").outcome, Outcome::kGranted);
}

TEST_P(TokenStoreContract, RegistrationIsGrantedTheLeaseOfADeadOrRevokedGrant) {
  RegisterOrg(Key());
  FailOnce(Key(), "a", FailureKind::kNeedsConsent);
  ASSERT_EQ(Acquire(Key(), "b").outcome, Outcome::kNeedsConsent);
  const AcquireResult dead = Acquire(Key(), "b", 0, Purpose::kRegistration);
  EXPECT_EQ(dead.outcome, Outcome::kGranted);
  EXPECT_EQ(dead.record.generation, 1);
  EXPECT_TRUE(dead.record.refresh_token == Secret("refresh-1"));
  Fail(Key(), "b", dead.epoch, 1, FailureKind::kOtherCredential);

  Revoke(Key());
  ASSERT_EQ(Acquire(Key(), "c", 2).outcome, Outcome::kRevoked);
  const AcquireResult revoked = Acquire(Key(), "c", 0, Purpose::kRegistration);
  EXPECT_EQ(revoked.outcome, Outcome::kGranted);
  EXPECT_EQ(MarkSent(Key(), "c", revoked.epoch), MarkSentOutcome::kMarked);
  // What Zoho says of the token that it had brings it nowhere.
  EXPECT_EQ(Fail(Key(), "c", revoked.epoch, 2, FailureKind::kNeedsConsent).outcome,
            FailResult::Outcome::kRecorded);
  EXPECT_EQ(Load(Key()).state, GrantState::kRevoked);
  EXPECT_EQ(Load(Key()).phase, LeasePhase::kNone);
}

TEST_P(TokenStoreContract, RegistrationAsksNotForTheGeneration) {
  RegisterOrg(Key());
  EXPECT_EQ(Acquire(Key(), "a", 0).outcome, Outcome::kFresh);
  EXPECT_EQ(Acquire(Key(), "a", 0, Purpose::kRegistration).outcome, Outcome::kGranted);
  EXPECT_EQ(Acquire(Key(), "b").outcome, Outcome::kBusy);
}

TEST_P(TokenStoreContract, FailureWithAnotherCredentialSaysNothingOfTheGrant) {
  RegisterOrg(Key());
  FailOnce(Key(), "a", FailureKind::kAmbiguous);
  Advance(limits_.failure_backoff[0]);
  const AcquireResult held = Acquire(Key(), "b", 0, Purpose::kRegistration);
  ASSERT_EQ(MarkSent(Key(), "b", held.epoch), MarkSentOutcome::kMarked);
  EXPECT_EQ(Fail(Key(), "b", held.epoch, 1, FailureKind::kOtherCredential).outcome,
            FailResult::Outcome::kRecorded);
  const GrantRecord record = Load(Key());
  EXPECT_EQ(record.state, GrantState::kActive);
  EXPECT_EQ(record.phase, LeasePhase::kNone);
  EXPECT_EQ(record.last_failure, FailureKind::kAmbiguous);
  EXPECT_EQ(record.consecutive_failures, 1);
  EXPECT_TRUE(record.ambiguous);
  EXPECT_EQ(record.sends.size(), 1u);
  EXPECT_EQ(Acquire(Key(), "c").outcome, Outcome::kGranted);
}

TEST_P(TokenStoreContract, ThrottleOfACountedSendBindsEverybody) {
  const auto throttle = [&](const GrantKey& key) {
    return Fail(key, "code", 0, 0, FailureKind::kThrottled);
  };
  // Nothing is there to keep it; it was never counted.
  EXPECT_EQ(throttle(Key()).outcome, FailResult::Outcome::kStale);
  EXPECT_EQ(Acquire(Key(), "a", 0).outcome, Outcome::kNotFound);
  EXPECT_EQ(CountSend(Key(), "code").outcome, CountSendResult::Outcome::kCounted);
  const FailResult reserved = throttle(Key());
  EXPECT_EQ(reserved.outcome, FailResult::Outcome::kRecorded);
  EXPECT_TRUE(About(reserved.wait, limits_.throttle_cooldown));
  const CountSendResult refused = CountSend(Key(), "code-2");
  EXPECT_EQ(refused.outcome, CountSendResult::Outcome::kThrottled);
  EXPECT_TRUE(About(refused.wait, limits_.throttle_cooldown));
  EXPECT_EQ(Acquire(Key(), "b", 0, Purpose::kRegistration).outcome, Outcome::kCooldown);

  // A lease that is held already lets nothing go any more.
  RegisterOrg(Key("org-2"));
  const AcquireResult held = Acquire(Key("org-2"), "a");
  EXPECT_EQ(CountSend(Key("org-2"), "code").outcome, CountSendResult::Outcome::kCounted);
  EXPECT_EQ(throttle(Key("org-2")).outcome, FailResult::Outcome::kRecorded);
  EXPECT_EQ(Load(Key("org-2")).last_failure, FailureKind::kThrottled);
  EXPECT_EQ(MarkSent(Key("org-2"), "a", held.epoch), MarkSentOutcome::kLost);
  EXPECT_EQ(Load(Key("org-2")).lease_owner, "a");
  Fail(Key("org-2"), "a", held.epoch, 1, FailureKind::kTransient);
  const AcquireResult cooling = Acquire(Key("org-2"), "b");
  EXPECT_EQ(cooling.outcome, Outcome::kCooldown);
  EXPECT_TRUE(About(cooling.wait, limits_.throttle_cooldown));
}

TEST_P(TokenStoreContract, WithoutALeaseOnlyAThrottleIsRecorded) {
  RegisterOrg(Key());
  CountSends(Key(), 1);
  for (FailureKind kind : {FailureKind::kNotSent, FailureKind::kTransient, FailureKind::kAmbiguous,
                           FailureKind::kNeedsConsent, FailureKind::kOtherCredential}) {
    EXPECT_EQ(Fail(Key(), "code-1", 0, 1, kind).outcome, FailResult::Outcome::kStale);
  }
  const GrantRecord record = Load(Key());
  EXPECT_EQ(record.state, GrantState::kActive);
  EXPECT_EQ(record.last_failure, FailureKind::kNone);
  EXPECT_EQ(record.sends.size(), 1u);
}

TEST_P(TokenStoreContract, CountedSendCaresForNoCooldownOfTheGrant) {
  RegisterOrg(Key());
  FailOnce(Key(), "a", FailureKind::kTransient);
  EXPECT_EQ(CountSend(Key(), "b").outcome, CountSendResult::Outcome::kCounted);
  ASSERT_EQ(Acquire(Key(), "c", 0, Purpose::kRegistration).outcome, Outcome::kCooldown);
}

TEST_P(TokenStoreContract, ReservedRecordThatNobodyCameBackForIsForgotten) {
  CountSends(Key(), 1);
  Advance(limits_.ReservedLife() + absl::Seconds(1));
  // Another one, so that a store which clears away on such occasions does.
  CountSends(Key("org-2"), 1);
  const AcquireResult anew = Acquire(Key(), "a", 0, Purpose::kRegistration);
  EXPECT_EQ(anew.outcome, Outcome::kGranted);
  EXPECT_EQ(RegisterOrg(Key()).generation, 1);
  CountSends(Key(), 4);
}

// No spinning: a registration that waits for another one's lease does not come back at once.
TEST_P(TokenStoreContract, WaitingForTheLeaseOfAReservedRecordWaits) {
  ASSERT_EQ(Acquire(Key(), "a", 0, Purpose::kRegistration).outcome, Outcome::kGranted);
  const absl::Time start = absl::Now();
  store().WaitForChange(Key(), 0, absl::Milliseconds(300));
  EXPECT_GE(absl::Now() - start, absl::Milliseconds(250));
}

}  // namespace
}  // namespace tokenbroker
