// The protocol's pure functions: exact times, flags, and its invariants under random histories. The
// answers themselves are the contract suite's.
#include "storage/protocol.h"

#include <algorithm>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace tokenbroker {
namespace {

const absl::Time kStart = absl::FromUnixSeconds(1'750'000'000);
const GrantKey kKey = {"org-1", Environment::kProduction, "people-app"};

GrantRecord Registered(int sends = 0) {
  std::optional<GrantRecord> record;
  ApplyRegister(record, {.key = kKey, .attempt_id = "register"}, kStart);
  record->sends.assign(sends, kStart);
  return *record;
}

AcquireRequest By(std::string attempt, int64_t seen = 1, Purpose purpose = Purpose::kCaller) {
  return {kKey, std::move(attempt), seen, purpose};
}

// Of a record that is there.
Applied<AcquireResult> AcquireOn(const ProtocolLimits& limits, GrantRecord& record,
                                 const AcquireRequest& request, absl::Time now) {
  std::optional<GrantRecord> stored = record;
  Applied<AcquireResult> applied = ApplyAcquire(limits, stored, request, now);
  record = *std::move(stored);
  return applied;
}

TEST(ProtocolTest, LeaseIsFreeAtItsEndAndNotBefore) {
  const ProtocolLimits limits;
  GrantRecord record = Registered();
  AcquireOn(limits, record, By("a"), kStart);
  const absl::Time end = kStart + limits.pre_send_lease;
  EXPECT_EQ(record.lease_end, end);

  GrantRecord before = record;
  const auto busy = AcquireOn(limits, before, By("b"), end - absl::Milliseconds(1));
  EXPECT_EQ(busy.result.outcome, AcquireResult::Outcome::kBusy);
  EXPECT_EQ(busy.result.wait, absl::Milliseconds(1));
  EXPECT_FALSE(busy.changed);
  GrantRecord held = record;
  EXPECT_EQ(
      ApplyMarkSent(limits, held, {kKey, "a", record.epoch}, end - absl::Milliseconds(1)).result,
      MarkSentOutcome::kMarked);

  // At the end itself it is free for others, and so no longer good for sending.
  EXPECT_EQ(ApplyMarkSent(limits, record, {kKey, "a", record.epoch}, end).result,
            MarkSentOutcome::kLost);
  EXPECT_EQ(AcquireOn(limits, record, By("b"), end).result.outcome,
            AcquireResult::Outcome::kGranted);
}

TEST(ProtocolTest, LeaseIsVoidBeyondTwiceTheLongestAndNotBefore) {
  const ProtocolLimits limits;
  EXPECT_EQ(limits.MaxLease(), absl::Seconds(40));
  GrantRecord record = Registered();
  record.phase = LeasePhase::kHeld;
  record.lease_end = kStart + absl::Seconds(40);
  EXPECT_TRUE(LeaseIsLive(limits, record, kStart));
  EXPECT_FALSE(LeaseIsLive(limits, record, kStart - absl::Milliseconds(1)));
  record.phase = LeasePhase::kNone;
  EXPECT_FALSE(LeaseIsLive(limits, record, kStart));
}

TEST(ProtocolTest, CooldownIsVoidBeyondTwiceTheLongestAndNotBefore) {
  const ProtocolLimits limits;
  EXPECT_EQ(limits.MaxCooldown(), absl::Seconds(1200));
  GrantRecord record = Registered();
  record.not_before = kStart + absl::Seconds(1200);
  const auto cooling = AcquireOn(limits, record, By("a"), kStart);
  EXPECT_EQ(cooling.result.outcome, AcquireResult::Outcome::kCooldown);
  EXPECT_EQ(cooling.result.wait, absl::Seconds(1200));
  EXPECT_EQ(AcquireOn(limits, record, By("a"), kStart - absl::Milliseconds(1)).result.outcome,
            AcquireResult::Outcome::kGranted);
}

TEST(ProtocolTest, DefaultBudgetIsFiveInTenMinutesAndEightInAnHour) {
  const ProtocolLimits limits;
  // Half of what Zoho allows, so that a lost journal of one window breaks nothing there.
  const std::vector<std::pair<absl::Duration, int>> schedule = {
      {absl::Seconds(0), 5}, {absl::Seconds(600), 3}, {absl::Seconds(3600), 5}};
  GrantRecord record = Registered();
  for (const auto& [at, expected] : schedule) {
    int marked = 0;
    for (int i = 0; i < 20; ++i) {
      const auto acquired = AcquireOn(
          limits, record, By(absl::StrCat("a", absl::ToInt64Seconds(at), "-", i)), kStart + at);
      if (acquired.result.outcome != AcquireResult::Outcome::kGranted) break;
      ApplyMarkSent(limits, record, {kKey, record.lease_owner, record.epoch}, kStart + at);
      record.phase = LeasePhase::kNone;
      ++marked;
    }
    EXPECT_EQ(marked, expected) << at;
  }
}

TEST(ProtocolTest, BudgetIsFreeWhenTheOldestSendIsAsOldAsTheWindow) {
  const ProtocolLimits limits;
  GrantRecord record = Registered(5);
  const auto refused = AcquireOn(limits, record, By("a"), kStart + absl::Milliseconds(599'999));
  EXPECT_EQ(refused.result.outcome, AcquireResult::Outcome::kBudget);
  EXPECT_EQ(refused.result.wait, absl::Milliseconds(1));
  EXPECT_EQ(AcquireOn(limits, record, By("a"), kStart + absl::Seconds(600)).result.outcome,
            AcquireResult::Outcome::kGranted);
}

TEST(ProtocolTest, DefaultBackoffIsFiveFifteenSixtyThreeHundred) {
  const ProtocolLimits limits;
  GrantRecord record = Registered();
  std::vector<int64_t> waits;
  for (int i = 0; i < 6; ++i) {
    record.phase = LeasePhase::kHeld;
    record.lease_owner = absl::StrCat("a", i);
    const auto failed =
        ApplyFail(limits, record,
                  {kKey, record.lease_owner, record.epoch, 1, FailureKind::kTransient, ""}, kStart);
    waits.push_back(absl::ToInt64Seconds(failed.result.wait));
  }
  EXPECT_EQ(waits, (std::vector<int64_t>{5, 15, 60, 300, 300, 300}));
}

TEST(ProtocolTest, FailureCountDoesNotOverflow) {
  const ProtocolLimits limits;
  GrantRecord record = Registered();
  record.consecutive_failures = 1'000'000;
  record.phase = LeasePhase::kSent;
  record.lease_owner = "a";
  const auto failed =
      ApplyFail(limits, record, {kKey, "a", record.epoch, 1, FailureKind::kTransient, ""}, kStart);
  EXPECT_EQ(failed.result.wait, absl::Seconds(300));
  EXPECT_EQ(record.consecutive_failures, 1'000'000);
}

TEST(ProtocolTest, TimesAreWholeMilliseconds) {
  const ProtocolLimits limits;
  GrantRecord record = Registered();
  const absl::Time now = kStart + absl::Microseconds(1999);
  AcquireOn(limits, record, By("a"), now);
  EXPECT_EQ(record.store_now, kStart + absl::Milliseconds(1));
  EXPECT_EQ(record.lease_end, kStart + absl::Milliseconds(1) + limits.pre_send_lease);
  CommitRequest commit{
      kKey, "a", 1, {.access_token = Secret("x"), .lifetime = absl::Microseconds(1500)}};
  ApplyCommit(record, commit, now);
  EXPECT_EQ(record.access_expiry, kStart + absl::Milliseconds(2));
}

TEST(ProtocolTest, OnlyRealChangesAreStoredAndOnlyTheirsArePublished) {
  const ProtocolLimits limits;
  std::optional<GrantRecord> stored;
  const auto registered = ApplyRegister(stored, {.key = kKey, .attempt_id = "r"}, kStart);
  EXPECT_TRUE(registered.changed && registered.publish);
  const auto again = ApplyRegister(stored, {.key = kKey, .attempt_id = "r"}, kStart);
  EXPECT_FALSE(again.changed || again.publish);
  GrantRecord& record = *stored;

  const auto granted = AcquireOn(limits, record, By("a"), kStart);
  EXPECT_TRUE(granted.changed && !granted.publish);
  EXPECT_FALSE(AcquireOn(limits, record, By("a"), kStart).changed);
  EXPECT_FALSE(AcquireOn(limits, record, By("b"), kStart).changed);
  const auto marked = ApplyMarkSent(limits, record, {kKey, "a", record.epoch}, kStart);
  EXPECT_TRUE(marked.changed && !marked.publish);
  EXPECT_FALSE(ApplyMarkSent(limits, record, {kKey, "a", record.epoch}, kStart).changed);
  EXPECT_FALSE(
      ApplyFail(limits, record, {kKey, "b", record.epoch, 1, FailureKind::kTransient, ""}, kStart)
          .changed);
  EXPECT_FALSE(ApplyCommit(record, {kKey, "b", 9, {}}, kStart).changed);
  const auto committed = ApplyCommit(record, {kKey, "a", 1, {.access_token = Secret("x")}}, kStart);
  EXPECT_TRUE(committed.changed && committed.publish);
  EXPECT_FALSE(ApplyCommit(record, {kKey, "a", 1, {}}, kStart).changed);
  const auto revoked = ApplyRevoke(record, {kKey}, kStart);
  EXPECT_TRUE(revoked.changed && revoked.publish);
  const auto revoked_again = ApplyRevoke(record, {kKey}, kStart);
  EXPECT_FALSE(revoked_again.changed || revoked_again.publish);
  EXPECT_TRUE(ApplyForgetTokens(record, 3));
  EXPECT_FALSE(ApplyForgetTokens(record, 3));
}

TEST(ProtocolTest, ReservedRecordsAreStoredAndNobodyIsTold) {
  const ProtocolLimits limits;
  std::optional<GrantRecord> record;
  const auto nothing = ApplyAcquire(limits, record, By("a"), kStart);
  EXPECT_FALSE(nothing.changed || record.has_value());
  const auto reserved = ApplyAcquire(limits, record, By("a", 0, Purpose::kRegistration), kStart);
  EXPECT_TRUE(reserved.changed && !reserved.publish);
  EXPECT_FALSE(IsGrant(record));
  EXPECT_EQ(record->updated, kStart);
  const auto failed = ApplyFail(limits, *record, {kKey, "a", 1, 0, FailureKind::kThrottled, ""},
                                kStart + absl::Seconds(1));
  EXPECT_TRUE(failed.changed && !failed.publish);
  // Later than that nothing in it counts.
  EXPECT_EQ(limits.ReservedLife(), absl::Seconds(3600 + 1200 + 40));

  std::optional<GrantRecord> counted;
  EXPECT_TRUE(ApplyCountSend(limits, counted, {kKey, "code"}, kStart).changed);
  EXPECT_FALSE(ApplyCountSend(limits, counted, {kKey, "code"}, kStart).changed);
  EXPECT_EQ(counted->updated, kStart);
  const auto registered = ApplyRegister(counted, {.key = kKey, .attempt_id = "r"}, kStart);
  EXPECT_TRUE(registered.changed && registered.publish);
  EXPECT_TRUE(IsGrant(counted));
  EXPECT_EQ(counted->created, kStart);
}

TEST(ProtocolTest, KeptErrorEndsBetweenCharacters) {
  EXPECT_EQ(KeptError("short"), "short");
  EXPECT_EQ(KeptError(std::string(200, 'e')), std::string(200, 'e'));
  EXPECT_EQ(KeptError(std::string(201, 'e')), std::string(200, 'e'));
  for (const std::string character : {"\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"}) {
    for (size_t before = 196; before <= 200; ++before) {
      const std::string kept = KeptError(std::string(before, 'e') + character + "more text");
      EXPECT_LE(kept.size(), 200u);
      EXPECT_TRUE(kept.size() == before || kept.size() >= before + character.size())
          << before << " " << kept.size();
    }
  }
  // No UTF-8 at all: still bounded, still something.
  EXPECT_EQ(KeptError(std::string(300, '\x80')).size(), 200u);
}

// Replicas that do anything at any time to one grant, judged from outside.
class RandomHistory {
 public:
  explicit RandomHistory(uint32_t seed) : random_(seed) {}

  void Run(int steps) {
    std::optional<GrantRecord> record;
    ApplyRegister(record, {.key = kKey, .attempt_id = "register"}, now_);
    record_ = *record;
    for (int i = 0; i < steps && !testing::Test::HasFailure(); ++i) {
      const int64_t generation = record_.generation;
      const int64_t epoch = record_.epoch;
      Step(i);
      EXPECT_GE(record_.generation, generation);
      EXPECT_GE(record_.epoch, epoch);
    }
  }

 private:
  struct Attempt {
    int64_t epoch;
    int64_t generation;
    absl::Time sent = absl::InfinitePast();
  };

  int Below(int n) { return std::uniform_int_distribution<int>(0, n - 1)(random_); }

  void Step(int i) {
    now_ += absl::Milliseconds(Below(4) == 0 ? Below(60'000) : Below(1000));
    switch (Below(14)) {
      case 0:
      case 1:
      case 2:
      case 3:
        return Acquire(absl::StrCat("attempt-", i));
      case 4:
      case 5:
      case 6:
        return WithAttempt([&](const std::string& id, Attempt& a) { MarkSent(id, a); });
      case 7:
      case 8:
        return WithAttempt([&](const std::string& id, Attempt& a) { Commit(id, a); });
      case 9:
      case 10:
        return WithAttempt([&](const std::string& id, Attempt& a) { Fail(id, a); });
      case 11:
        return CountSend(absl::StrCat("code-", i));
      case 12:
        return Revoke();
      default:
        if (Below(20) != 0) return;
        return Register(absl::StrCat("register-", i));
    }
  }

  template <typename Use>
  void WithAttempt(const Use& use) {
    if (attempts_.empty()) return;
    // Mostly the newest, sometimes one that everybody has forgotten.
    auto it = std::prev(attempts_.end());
    if (Below(3) == 0) it = std::next(attempts_.begin(), Below(static_cast<int>(attempts_.size())));
    use(it->first, it->second);
  }

  void Acquire(const std::string& id) {
    const bool registers = Below(3) == 0;
    const auto acquired = AcquireOn(
        limits_, record_,
        By(id, record_.generation, registers ? Purpose::kRegistration : Purpose::kCaller), now_);
    if (acquired.result.outcome != AcquireResult::Outcome::kGranted) return;
    EXPECT_TRUE(registers || record_.state == GrantState::kActive);
    EXPECT_GE(now_, throttled_until_);
    EXPECT_TRUE(epochs_.insert(acquired.result.epoch).second) << "an epoch was given twice";
    // At most one may be sending: whoever was sent before has had its lease.
    for (const auto& [other, attempt] : attempts_) {
      if (attempt.sent == absl::InfinitePast() || settled_.contains(other)) continue;
      EXPECT_GE(now_, attempt.sent + limits_.sent_lease - absl::Milliseconds(1)) << other;
      EXPECT_TRUE(acquired.result.previous_ambiguous || superseded_ > attempt.epoch ||
                  last_success_ > attempt.epoch || doubt_ended_ > attempt.epoch);
    }
    attempts_[id] = {acquired.result.epoch, record_.generation};
  }

  void MarkSent(const std::string& id, Attempt& attempt) {
    const auto marked = ApplyMarkSent(limits_, record_, {kKey, id, attempt.epoch}, now_);
    if (marked.result != MarkSentOutcome::kMarked) return;
    EXPECT_EQ(attempt.sent, absl::InfinitePast()) << "sent twice";
    EXPECT_EQ(record_.epoch, attempt.epoch);
    attempt.sent = now_;
    Sent();
  }

  void CountSend(const std::string& id) {
    std::optional<GrantRecord> record = record_;
    const auto counted = ApplyCountSend(limits_, record, {kKey, id}, now_);
    record_ = *record;
    if (counted.result.outcome != CountSendResult::Outcome::kCounted) return;
    Sent();
    if (Below(10) != 0) return;
    ApplyFail(limits_, record_, {kKey, id, 0, 0, FailureKind::kThrottled, "error"}, now_);
    throttled_until_ = now_ + limits_.throttle_cooldown - absl::Milliseconds(1);
  }

  void Sent() {
    EXPECT_GE(now_, throttled_until_);
    all_sends_.push_back(now_);
    for (const ProtocolLimits::Window& window : limits_.budget) {
      const auto in_window = std::count_if(
          all_sends_.begin(), all_sends_.end(),
          [&](absl::Time sent) { return now_ - sent < window.length - absl::Milliseconds(1); });
      EXPECT_LE(in_window, window.sends);
    }
  }

  void Commit(const std::string& id, const Attempt& attempt) {
    if (attempt.sent == absl::InfinitePast()) return;  // there is nothing to commit
    const int64_t before = record_.generation;
    CommitRequest request{kKey, id, attempt.generation, {.access_token = Secret(id)}};
    request.tokens.lifetime = absl::Hours(1);
    const auto committed = ApplyCommit(record_, request, now_);
    settled_.insert(id);
    if (committed.result.outcome == CommitResult::Outcome::kCommitted) {
      EXPECT_EQ(before, attempt.generation) << "an older result overwrote a newer one";
      EXPECT_EQ(record_.generation, before + 1);
      EXPECT_TRUE(committed_generations_.insert(record_.generation).second);
      EXPECT_TRUE(record_.access_token == Secret(id));
      last_success_ = record_.epoch + 1;
    } else {
      EXPECT_EQ(record_.generation, before);
    }
  }

  void Fail(const std::string& id, const Attempt& attempt) {
    static constexpr FailureKind kKinds[] = {
        FailureKind::kNotSent,   FailureKind::kTransient,      FailureKind::kAmbiguous,
        FailureKind::kThrottled, FailureKind::kDoubtedInvalid, FailureKind::kUnreachable};
    FailureKind kind = kKinds[Below(std::size(kKinds))];
    // A request that left cannot be taken back.
    if (attempt.sent != absl::InfinitePast() && kind == FailureKind::kNotSent) {
      kind = FailureKind::kTransient;
    }
    const auto failed = ApplyFail(
        limits_, record_, {kKey, id, attempt.epoch, attempt.generation, kind, "error"}, now_);
    if (failed.result.outcome == FailResult::Outcome::kRecorded) {
      EXPECT_EQ(record_.epoch, attempt.epoch);
      EXPECT_EQ(record_.generation, attempt.generation);
      settled_.insert(id);
      if (kind == FailureKind::kDoubtedInvalid) doubt_ended_ = record_.epoch + 1;
      if (kind == FailureKind::kThrottled && failed.changed) {
        throttled_until_ = now_ + limits_.throttle_cooldown - absl::Milliseconds(1);
      }
    }
  }

  void Register(const std::string& id) {
    std::optional<GrantRecord> record = record_;
    ApplyRegister(record, {.key = kKey, .attempt_id = id}, now_);
    record_ = *record;
    Superseded();
  }

  void Revoke() {
    if (Below(20) != 0) return;
    if (ApplyRevoke(record_, {kKey}, now_).changed) Superseded();
  }

  void Superseded() {
    // Another grant: what is out for the old one is no concern of its lease.
    for (const auto& [other, attempt] : attempts_) settled_.insert(other);
    superseded_ = record_.epoch;
  }

  const ProtocolLimits limits_;
  std::mt19937 random_;
  absl::Time now_ = kStart;
  GrantRecord record_;
  std::map<std::string, Attempt> attempts_;
  std::set<std::string> settled_;  // attempts whose fate the store knows
  std::set<int64_t> epochs_;
  std::set<int64_t> committed_generations_;
  std::vector<absl::Time> all_sends_;
  absl::Time throttled_until_ = absl::InfinitePast();
  int64_t superseded_ = 0;
  int64_t last_success_ = 0;
  int64_t doubt_ended_ = 0;
};

TEST(ProtocolTest, InvariantsHoldInRandomHistories) {
  for (uint32_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    RandomHistory(seed).Run(1500);
    if (testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace tokenbroker
