// What a store does at a primary whose clock is set while it runs.
#include <memory>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "common/mutex.h"
#include "gtest/gtest.h"
#include "storage/redis/record_codec.h"
#include "storage/redis/redis_token_store.h"
#include "tests/storage/redis/grants.h"
#include "tests/storage/redis/redis_fixture.h"
#include "tests/testing/redis_server.h"
#include "tests/testing/wall_clock.h"

namespace tokenbroker {
namespace {

using Outcome = AcquireResult::Outcome;

class RedisClockTest : public testing::Test {
 protected:
  void SetUp() override { StartServer("0"); }

  void StartServer(const std::string& offset) {
    server_.reset();
    SetClock(offset);
    {
      MutexLock lock(mutex_);
      jumps_.clear();
    }
    absl::StatusOr<std::unique_ptr<RedisServer>> server =
        RedisServer::Start({.environment = clock_.Environment()});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    prefix_ = UniquePrefix();
  }

  void SetClock(const std::string& offset) { clock_.Set(offset); }

  std::unique_ptr<RedisTokenStore> Open(ProtocolLimits limits = {}) {
    RedisTokenStoreOptions options = TestOptions(server_->port());
    options.key_prefix = prefix_;
    options.limits = std::move(limits);
    options.on_clock_jump = [this](const redis::ServerClock::Jump& jump) {
      MutexLock lock(mutex_);
      jumps_.push_back(jump);
    };
    std::unique_ptr<RedisTokenStore> store = OpenRedis(options);
    // Its last connection that is made by itself, and compares clocks.
    EXPECT_TRUE(WaitUntil([&] { return store->subscription_session() != 0; }));
    return store;
  }
  size_t jumps() {
    MutexLock lock(mutex_);
    return jumps_.size();
  }

  static AcquireResult Acquire(RedisTokenStore& store, std::string_view attempt,
                               std::string_view org = "org-1", int64_t seen = 1) {
    const absl::StatusOr<AcquireResult> result =
        store.Acquire({GrantOf(org), std::string(attempt), seen, Purpose::kCaller});
    EXPECT_TRUE(result.ok()) << result.status();
    return result.value_or(AcquireResult{});
  }
  // The attempt has sent.
  static int64_t Send(RedisTokenStore& store, std::string_view attempt) {
    const int64_t epoch = Acquire(store, attempt).epoch;
    const absl::StatusOr<MarkSentOutcome> marked =
        store.MarkSent({GrantOf("org-1"), std::string(attempt), epoch});
    EXPECT_TRUE(marked.ok() && *marked == MarkSentOutcome::kMarked);
    return epoch;
  }

  WallClock clock_{testing::TempDir() + "/" + UniquePrefix() + "clock"};
  std::unique_ptr<RedisServer> server_;
  std::string prefix_;
  Mutex mutex_;
  std::vector<redis::ServerClock::Jump> jumps_ ABSL_GUARDED_BY(mutex_);
};

// The lease that another store has looks over, or void. Without a trace: the holder may still tell
// what became of its request.
TEST_F(RedisClockTest, JumpTakesNobodysLease) {
  for (const char* offset : {"60", "-3600"}) {
    SCOPED_TRACE(offset);
    StartServer("0");
    const std::unique_ptr<RedisTokenStore> holder = Open();
    const std::unique_ptr<RedisTokenStore> other = Open();
    ASSERT_TRUE(holder->Register(RegistrationOf(GrantOf("org-1"))).ok());
    ASSERT_EQ(other->CheckWritable(), absl::OkStatus());
    const int64_t epoch = Send(*holder, "a");
    SetClock(offset);

    const AcquireResult busy = Acquire(*other, "b");
    EXPECT_EQ(busy.outcome, Outcome::kBusy);
    EXPECT_GT(busy.wait, ProtocolLimits().sent_lease / 2);
    EXPECT_LE(busy.wait, ProtocolLimits().sent_lease);
    EXPECT_EQ(busy.record.lease_owner, "a");
    EXPECT_GT(other->held_back(), absl::ZeroDuration());
    EXPECT_EQ(jumps(), 1u);
    // A second time it need not ask.
    EXPECT_EQ(Acquire(*other, "b").outcome, Outcome::kBusy);
    EXPECT_EQ(jumps(), 1u);
    const absl::StatusOr<FailResult> failed =
        holder->Fail({GrantOf("org-1"), "a", epoch, 1, FailureKind::kThrottled, "throttled"});
    ASSERT_TRUE(failed.ok()) << failed.status();
    EXPECT_EQ(failed->outcome, FailResult::Outcome::kRecorded);
  }
}

// A lease that this attempt has, by a clock that was set before it sends.
TEST_F(RedisClockTest, JumpBeforeTheSendKeepsItBack) {
  for (const char* offset : {"3", "-10"}) {  // the lease of 6 s lives on by either
    SCOPED_TRACE(offset);
    StartServer("0");
    const std::unique_ptr<RedisTokenStore> store = Open();
    ASSERT_TRUE(store->Register(RegistrationOf(GrantOf("org-1"))).ok());
    const int64_t epoch = Acquire(*store, "a").epoch;
    SetClock(offset);
    const absl::StatusOr<MarkSentOutcome> marked = store->MarkSent({GrantOf("org-1"), "a", epoch});
    ASSERT_TRUE(marked.ok()) << marked.status();
    EXPECT_EQ(*marked, MarkSentOutcome::kLost);
    EXPECT_EQ(jumps(), 1u);
    const absl::StatusOr<FailResult> released =
        store->Fail({GrantOf("org-1"), "a", epoch, 1, FailureKind::kNotSent, ""});
    ASSERT_TRUE(released.ok()) << released.status();
    EXPECT_EQ(released->outcome, FailResult::Outcome::kRecorded);
    EXPECT_TRUE(store->Load(GrantOf("org-1"))->sends.empty());
  }
}

TEST_F(RedisClockTest, JumpBackMarksNothing) {
  const std::unique_ptr<RedisTokenStore> store = Open();
  ASSERT_TRUE(store->Register(RegistrationOf(GrantOf("org-1"))).ok());
  const int64_t epoch = Acquire(*store, "a").epoch;
  SetClock("-10");
  EXPECT_EQ(store->MarkSent({GrantOf("org-1"), "a", epoch}).value(), MarkSentOutcome::kLost);
  EXPECT_EQ(store->Load(GrantOf("org-1"))->phase, LeasePhase::kHeld);
}

// Within what the call itself could take; the script cannot know, the answer's round trip tells.
TEST_F(RedisClockTest, SmallJumpIsSeenInTheAnswer) {
  const std::unique_ptr<RedisTokenStore> store = Open();
  ASSERT_TRUE(store->Register(RegistrationOf(GrantOf("org-1"))).ok());
  SetClock("3");
  EXPECT_EQ(Acquire(*store, "a").outcome, Outcome::kBusy);
  EXPECT_EQ(jumps(), 1u);
}

TEST_F(RedisClockTest, QuietTimeEnds) {
  ProtocolLimits limits;
  limits.sent_lease = absl::Milliseconds(900);
  limits.response_timeout = limits.commit_budget = limits.clock_drift = absl::Milliseconds(200);
  const std::unique_ptr<RedisTokenStore> store = Open(limits);
  ASSERT_TRUE(store->Register(RegistrationOf(GrantOf("org-1"))).ok());
  SetClock("-3600");
  const absl::Time noticed = absl::Now();
  ASSERT_EQ(Acquire(*store, "a").outcome, Outcome::kBusy);
  store->WaitForChange(GrantOf("org-1"), 1, absl::Hours(1));
  EXPECT_GE(absl::Now() - noticed, limits.sent_lease);
  const AcquireResult granted = Acquire(*store, "a");
  EXPECT_EQ(granted.outcome, Outcome::kGranted);
  EXPECT_EQ(store->MarkSent({GrantOf("org-1"), "a", granted.epoch}).value(),
            MarkSentOutcome::kMarked);
}

TEST_F(RedisClockTest, TheRestGoesOn) {
  const std::unique_ptr<RedisTokenStore> store = Open();
  for (const char* org : {"org-1", "org-2"}) {
    ASSERT_TRUE(store->Register(RegistrationOf(GrantOf(org))).ok());
  }
  SetClock("60");
  ASSERT_EQ(Acquire(*store, "a").outcome, Outcome::kBusy);
  EXPECT_EQ(Acquire(*store, "a", "org-1", 0).outcome, Outcome::kFresh);
  EXPECT_EQ(Acquire(*store, "a", "nobody").outcome, Outcome::kNotFound);
  EXPECT_EQ(store->Commit({GrantOf("org-1"), "old", 1, TokensOf("access-2")})->outcome,
            CommitResult::Outcome::kCommitted);
  EXPECT_TRUE(store->Register(RegistrationOf(GrantOf("org-3"))).ok());
  EXPECT_EQ(store->Revoke({GrantOf("org-2")})->outcome, RevokeResult::Outcome::kRevoked);
  EXPECT_EQ(store->CheckWritable(), absl::OkStatus());
}

TEST_F(RedisClockTest, LookingAfterTheStoreNoticesAJump) {
  const std::unique_ptr<RedisTokenStore> store = Open();
  ASSERT_EQ(store->CheckWritable(), absl::OkStatus());
  EXPECT_EQ(store->held_back(), absl::ZeroDuration());
  SetClock("60");
  ASSERT_EQ(store->CheckWritable(), absl::OkStatus());
  EXPECT_GT(store->held_back(), absl::ZeroDuration());
  EXPECT_EQ(jumps(), 1u);
}

// A store that has just been opened has no history. The machine's own clock stands in for it.
TEST_F(RedisClockTest, FirstSightOfAClockThatIsOffHoldsBack) {
  for (const char* offset : {"60", "-3600"}) {
    SCOPED_TRACE(offset);
    StartServer(offset);
    const std::unique_ptr<RedisTokenStore> store = Open();
    ASSERT_TRUE(store->Register(RegistrationOf(GrantOf("org-1"))).ok());
    EXPECT_EQ(Acquire(*store, "a").outcome, Outcome::kBusy);
    MutexLock lock(mutex_);
    ASSERT_EQ(jumps_.size(), 1u);
    EXPECT_TRUE(jumps_.back().at_first_sight);
  }
}

// As an older broker has left it.
TEST_F(RedisClockTest, RecordWithoutTheTimeOfItsTokenIsBelieved) {
  const std::unique_ptr<RedisTokenStore> store = Open();
  ASSERT_TRUE(store->Register(RegistrationOf(GrantOf("org-1"))).ok());
  ASSERT_EQ(CommitTo(*store, GrantOf("org-1"), "a", 1), 2);
  EXPECT_NE(store->Load(GrantOf("org-1"))->access_stored, absl::InfinitePast());
  const std::string key = redis::RecordKey(prefix_, GrantOf("org-1"));
  ASSERT_EQ(server_->Command({"HDEL", key, "ct"}).value(), "1");
  const absl::StatusOr<GrantRecord> record = store->Load(GrantOf("org-1"));
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->access_stored, absl::InfinitePast());
  EXPECT_GT(record->AccessLifetime(), absl::Minutes(59));
}

}  // namespace
}  // namespace tokenbroker
