// What a store does at a primary that may not know of the newest leases.
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/errors.h"
#include "gtest/gtest.h"
#include "storage/redis/redis_token_store.h"
#include "tests/storage/redis/grants.h"
#include "tests/storage/redis/redis_fixture.h"
#include "tests/testing/redis_server.h"

namespace tokenbroker {
namespace {

// Longer than any machine takes for a test, and shorter than any takes between two of its steps.
constexpr absl::Duration kLong = absl::Minutes(5);
constexpr absl::Duration kOver = absl::Nanoseconds(1);

class RedisQuarantineTest : public testing::Test {
 protected:
  void SetUp() override {
    absl::StatusOr<std::unique_ptr<RedisServer>> server = RedisServer::Start({.append_only = true});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    prefix_ = UniquePrefix();
  }

  std::unique_ptr<RedisTokenStore> Open(absl::Duration quarantine) const {
    RedisTokenStoreOptions options = TestOptions(server_->port());
    options.key_prefix = prefix_;
    options.quarantine = quarantine;
    return OpenRedis(options);
  }

  static AcquireResult Acquire(RedisTokenStore& store, std::string_view attempt,
                               std::string_view org = "org-1") {
    const absl::StatusOr<AcquireResult> result =
        store.Acquire({GrantOf(org), std::string(attempt), 1, Purpose::kCaller});
    EXPECT_TRUE(result.ok()) << result.status();
    return result.value_or(AcquireResult{});
  }

  // The server loses its primacy and gets it back; nobody is disconnected.
  void DeposeAndPromote() const {
    ASSERT_TRUE(server_->Command({"REPLICAOF", "127.0.0.1", "1"}).ok());
    ASSERT_TRUE(server_->Command({"REPLICAOF", "NO", "ONE"}).ok());
  }

  std::unique_ptr<RedisServer> server_;
  std::string prefix_;
};

TEST_F(RedisQuarantineTest, NewStoreHasNone) {
  const std::unique_ptr<RedisTokenStore> store = Open(kLong);
  ASSERT_TRUE(store->Register(RegistrationOf(GrantOf("org-1"))).ok());
  EXPECT_EQ(Acquire(*store, "a").outcome, AcquireResult::Outcome::kGranted);
  EXPECT_EQ(store->held_back(), absl::ZeroDuration());
  // Nor for a broker that comes later.
  ASSERT_TRUE(store->Register(RegistrationOf(GrantOf("org-2"))).ok());
  EXPECT_EQ(Acquire(*Open(kLong), "b", "org-2").outcome, AcquireResult::Outcome::kGranted);
}

TEST_F(RedisQuarantineTest, RestartedServerRefreshesNothingAndDoesTheRest) {
  const std::unique_ptr<RedisTokenStore> store = Open(kLong);
  for (const char* org : {"org-1", "org-2", "org-3"}) {
    ASSERT_TRUE(store->Register(RegistrationOf(GrantOf(org))).ok());
  }
  const AcquireResult before = Acquire(*store, "a");
  ASSERT_EQ(before.outcome, AcquireResult::Outcome::kGranted);
  server_->Kill();
  ASSERT_EQ(server_->Restart(), absl::OkStatus());

  // Even the owner of a lease that survived: there may have been a later one that did not.
  const AcquireResult busy = Acquire(*store, "a");
  EXPECT_EQ(busy.outcome, AcquireResult::Outcome::kBusy);
  EXPECT_GT(busy.wait, absl::ZeroDuration());
  EXPECT_LE(busy.wait, kLong);
  EXPECT_EQ(busy.record.generation, 1);
  EXPECT_GT(store->held_back(), absl::ZeroDuration());
  EXPECT_EQ(store->MarkSent({GrantOf("org-1"), "a", before.epoch}).value(), MarkSentOutcome::kLost);
  // And is not counted as sent.
  EXPECT_EQ(store->Load(GrantOf("org-1"))->phase, LeasePhase::kHeld);
  EXPECT_EQ(Acquire(*store, "b", "org-2").outcome, AcquireResult::Outcome::kBusy);
  // What waiting does not change is said at once.
  EXPECT_EQ(Acquire(*store, "b", "nobody").outcome, AcquireResult::Outcome::kNotFound);
  const absl::StatusOr<AcquireResult> fresh =
      store->Acquire({GrantOf("org-2"), "b", 0, Purpose::kCaller});
  EXPECT_EQ(fresh->outcome, AcquireResult::Outcome::kFresh);

  EXPECT_EQ(store->Load(GrantOf("org-1"))->generation, 1);
  EXPECT_EQ(store->ListPage("", "", 10)->records.size(), 3u);
  EXPECT_EQ(store->CheckWritable(), absl::OkStatus());
  EXPECT_EQ(
      store->Fail({GrantOf("org-1"), "a", before.epoch, 1, FailureKind::kNotSent, ""})->outcome,
      FailResult::Outcome::kRecorded);
  EXPECT_EQ(store->Commit({GrantOf("org-2"), "old", 1, TokensOf("access-2")})->outcome,
            CommitResult::Outcome::kCommitted);
  EXPECT_TRUE(store->Register(RegistrationOf(GrantOf("org-4"))).ok());
  EXPECT_EQ(store->Revoke({GrantOf("org-3")})->outcome, RevokeResult::Outcome::kRevoked);
  EXPECT_EQ(Acquire(*store, "b", "org-3").outcome, AcquireResult::Outcome::kRevoked);
  // Nor does anybody wait who would be told something else.
  store->WaitForChange(GrantOf("org-2"), 1, absl::Hours(1));
  store->WaitForChange(GrantOf("org-3"), 1, absl::Hours(1));
}

// Their requests are kept apart like refreshes. Codes disturb nobody, and do not wait.
TEST_F(RedisQuarantineTest, RegistrationsWaitAndCodesDoNot) {
  const std::unique_ptr<RedisTokenStore> store = Open(kLong);
  ASSERT_TRUE(store->Register(RegistrationOf(GrantOf("org-1"))).ok());
  ASSERT_TRUE(store->Revoke({GrantOf("org-1")}).ok());
  server_->Kill();
  ASSERT_EQ(server_->Restart(), absl::OkStatus());
  for (const char* org : {"org-1", "nobody"}) {
    EXPECT_EQ(store->Acquire({GrantOf(org), "a", 0, Purpose::kRegistration})->outcome,
              AcquireResult::Outcome::kBusy);
    const absl::Time start = absl::Now();
    store->WaitForChange(GrantOf(org), 2, absl::Milliseconds(200));
    EXPECT_GE(absl::Now() - start, absl::Milliseconds(150)) << "spins";
    EXPECT_EQ(store->CountSend({GrantOf(org), "b"})->outcome, CountSendResult::Outcome::kCounted);
  }
}

TEST_F(RedisQuarantineTest, DeposedPrimaryCountsNoCodes) {
  RedisTokenStoreOptions options = TestOptions(server_->port());
  options.key_prefix = prefix_;
  options.quarantine = kLong;
  options.pool_size = 1;
  const std::unique_ptr<RedisTokenStore> store = OpenRedis(options);
  ASSERT_TRUE(store->Register(RegistrationOf(GrantOf("org-1"))).ok());
  DeposeAndPromote();
  // The connection is given up, and it is counted on a new one.
  EXPECT_EQ(store->CountSend({GrantOf("org-1"), "b"})->outcome, CountSendResult::Outcome::kCounted);
  EXPECT_EQ(store->topology_counters().primary_changes, 1);
}

TEST_F(RedisQuarantineTest, IsOneForAllBrokers) {
  ASSERT_TRUE(Open(kLong)->Register(RegistrationOf(GrantOf("org-1"))).ok());
  server_->Kill();
  ASSERT_EQ(server_->Restart(), absl::OkStatus());
  const absl::Duration first = Acquire(*Open(kLong), "a").wait;
  EXPECT_GT(first, absl::ZeroDuration());
  // A broker that is started now waits no longer than those that were there.
  const AcquireResult second = Acquire(*Open(kLong), "b");
  EXPECT_EQ(second.outcome, AcquireResult::Outcome::kBusy);
  EXPECT_LE(second.wait, first);
  // As much later as a shorter one lasts, it is over.
  EXPECT_EQ(Acquire(*Open(kOver), "c").outcome, AcquireResult::Outcome::kGranted);
}

TEST_F(RedisQuarantineTest, CanBeSwitchedOff) {
  ASSERT_TRUE(Open(kLong)->Register(RegistrationOf(GrantOf("org-1"))).ok());
  server_->Kill();
  ASSERT_EQ(server_->Restart(), absl::OkStatus());
  EXPECT_EQ(Acquire(*Open(absl::ZeroDuration()), "a").outcome, AcquireResult::Outcome::kGranted);
}

TEST_F(RedisQuarantineTest, StoreThatWasNeverSeenMayHaveLeases) {
  ASSERT_TRUE(Open(kLong)->Register(RegistrationOf(GrantOf("org-1"))).ok());
  ASSERT_EQ(server_->Command({"DEL", prefix_ + "{reign}"}).value(), "1");
  EXPECT_EQ(Acquire(*Open(kLong), "a").outcome, AcquireResult::Outcome::kBusy);
}

// A note from the future would keep the quarantine going until then.
TEST_F(RedisQuarantineTest, ClockThatWasSetBackDoesNotProlongIt) {
  ASSERT_TRUE(Open(kLong)->Register(RegistrationOf(GrantOf("org-1"))).ok());
  const std::string key = prefix_ + "{reign}";
  const std::string note = server_->Command({"GET", key}).value();
  const std::string id = note.substr(0, note.find(' '));
  ASSERT_TRUE(server_->Command({"SET", key, id + " 99999999999999"}).ok());
  EXPECT_LE(Acquire(*Open(kLong), "a").wait, kLong);
  const std::string mended = server_->Command({"GET", key}).value();
  EXPECT_NE(mended, id + " 99999999999999");
  EXPECT_EQ(mended.substr(0, id.size()), id);
}

// The run id is the same then, and so are the connections; what was written meanwhile is not.
TEST_F(RedisQuarantineTest, ReturnedPrimaryIsNoticedOnLivingConnections) {
  RedisTokenStoreOptions options = TestOptions(server_->port());
  options.key_prefix = prefix_;
  options.quarantine = kLong;
  options.pool_size = 1;
  const std::unique_ptr<RedisTokenStore> store = OpenRedis(options);
  for (const char* org : {"org-1", "org-2"}) {
    ASSERT_TRUE(store->Register(RegistrationOf(GrantOf(org))).ok());
  }
  const int64_t epoch = Acquire(*store, "a").epoch;
  DeposeAndPromote();
  EXPECT_EQ(store->MarkSent({GrantOf("org-1"), "a", epoch}).value(), MarkSentOutcome::kLost);
  EXPECT_EQ(store->topology_counters().primary_changes, 1);
  DeposeAndPromote();
  EXPECT_EQ(Acquire(*store, "b", "org-2").outcome, AcquireResult::Outcome::kBusy);
  EXPECT_EQ(store->topology_counters().primary_changes, 2);
}

TEST_F(RedisQuarantineTest, ServerThatRefusesWritesCanStillBeRead) {
  ASSERT_TRUE(Open(kLong)->Register(RegistrationOf(GrantOf("org-1"))).ok());
  ASSERT_TRUE(server_->Command({"DEL", prefix_ + "{reign}"}).ok());
  ASSERT_TRUE(server_->Command({"CONFIG", "SET", "min-replicas-to-write", "1"}).ok());
  const std::unique_ptr<RedisTokenStore> store = Open(kLong);
  // The subscription's connection, too, before they are counted.
  ASSERT_TRUE(WaitUntil([&] { return store->subscription_session() != 0; }));
  EXPECT_EQ(store->Load(GrantOf("org-1"))->generation, 1);
  const absl::Status refused = store->CheckWritable();
  EXPECT_EQ(ErrorReason(refused), "STORE_UNAVAILABLE");
  EXPECT_NE(refused.message().find("min-replicas-to-write"), absl::string_view::npos) << refused;
  const std::string accepted = server_->Info("stats", "total_connections_received");
  EXPECT_FALSE(store->CheckWritable().ok());
  EXPECT_EQ(store->Load(GrantOf("org-1"))->generation, 1);
  // NOREPLICAS does not cost a connection: only those of these commands are new.
  int before = 0, after = 0;
  ASSERT_TRUE(absl::SimpleAtoi(accepted, &before));
  ASSERT_TRUE(absl::SimpleAtoi(server_->Info("stats", "total_connections_received"), &after));
  EXPECT_EQ(after, before + 1);
}

TEST_F(RedisQuarantineTest, WaitingIsNoSpinning) {
  ASSERT_TRUE(Open(kLong)->Register(RegistrationOf(GrantOf("org-1"))).ok());
  server_->Kill();
  ASSERT_EQ(server_->Restart(), absl::OkStatus());
  const std::unique_ptr<RedisTokenStore> store = Open(absl::Milliseconds(400));
  ASSERT_EQ(store->CheckWritable(), absl::OkStatus());
  const bool quarantined = store->held_back() > absl::ZeroDuration();
  store->WaitForChange(GrantOf("org-1"), 1, absl::Hours(1));
  EXPECT_EQ(store->held_back(), absl::ZeroDuration());
  EXPECT_EQ(Acquire(*store, "a").outcome, AcquireResult::Outcome::kGranted);
  const std::string calls = server_->Info("commandstats", "cmdstat_hmget");
  int count = 0;
  ASSERT_TRUE(absl::SimpleAtoi(calls.substr(6, calls.find(',') - 6), &count)) << calls;
  EXPECT_LE(count, 20);
  if (quarantined) {
    EXPECT_GE(count, 2);
  }
}

}  // namespace
}  // namespace tokenbroker
