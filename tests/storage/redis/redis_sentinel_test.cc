// A store whose primary is named by Sentinels, on real servers that fail over.
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/redis/redis_token_store.h"
#include "tests/storage/redis/grants.h"
#include "tests/storage/redis/redis_fixture.h"
#include "tests/storage/token_store_contract.h"
#include "tests/testing/redis_server.h"
#include "tests/testing/sentinel_set.h"

namespace tokenbroker {
namespace {

using ::testing::HasSubstr;

SentinelSet::Options QuickFailover() {
  SentinelSet::Options options;
  // Sentinels ping once a second: less than that, and a busy machine looks like a dead server to
  // them, which fails over again and again.
  options.down_after = absl::Milliseconds(1500);
  // What comes back after being killed comes back with its data, as in production.
  options.server.append_only = true;
  // The default delay before a replica is served is 5 s.
  options.server.config = {"repl-diskless-sync-delay 0"};
  return options;
}

std::unique_ptr<SentinelSet> StartSet(const SentinelSet::Options& options) {
  absl::StatusOr<std::unique_ptr<SentinelSet>> set = SentinelSet::Start(options);
  EXPECT_TRUE(set.ok()) << set.status();
  return set.ok() ? *std::move(set) : nullptr;
}

// The set that tests share which leave it as it was.
SentinelSet& SharedSet() {
  static const std::unique_ptr<SentinelSet> set = StartSet(QuickFailover());
  return *set;
}

RedisTokenStoreOptions OptionsFor(const SentinelSet& set) {
  return SentinelTestOptions(set.sentinel_ports(), SentinelSet::kPrimaryName);
}

// As in production, where failures are to be noticed soon.
RedisTokenStoreOptions ImpatientOptionsFor(const SentinelSet& set) {
  RedisTokenStoreOptions options = OptionsFor(set);
  options.command_timeout = absl::Milliseconds(500);
  options.connect_timeout = absl::Seconds(1);
  return options;
}

class SentinelFixture : public RedisFixture {
 public:
  absl::StatusOr<std::unique_ptr<TokenStore>> Open(const ProtocolLimits& limits) override {
    RedisTokenStoreOptions options = OptionsFor(SharedSet());
    options.key_prefix = prefix();
    options.limits = limits;
    options.test_clock_offset = ClockOffset();
    return RedisTokenStore::Create(options);
  }

 protected:
  void Command(const std::string&, const std::vector<std::string>& words) override {
    const absl::StatusOr<std::string> reply = SharedSet().primary()->Command(words);
    EXPECT_TRUE(reply.ok()) << reply.status();
  }
};

INSTANTIATE_TEST_SUITE_P(Sentinel, TokenStoreContract,
                         testing::Values(StoreBackend{
                             "Sentinel", [] { return std::make_unique<SentinelFixture>(); }}),
                         StoreBackendName);

TEST(RedisSentinelTest, GoesOnAtThePromotedReplica) {
  const std::unique_ptr<SentinelSet> set = StartSet(QuickFailover());
  ASSERT_NE(set, nullptr);
  RedisTokenStoreOptions options = ImpatientOptionsFor(*set);
  options.quarantine = absl::Milliseconds(200);
  const std::unique_ptr<RedisTokenStore> store = OpenRedis(options);
  const std::unique_ptr<RedisTokenStore> other = OpenRedis(options);
  ASSERT_TRUE(store->Register(RegistrationOf(GrantOf("org-1"))).ok());
  ASSERT_EQ(CommitTo(*store, GrantOf("org-1"), "a", 1), 2);
  RedisServer* const old = set->primary();
  ASSERT_NE(old, nullptr);
  ASSERT_TRUE(InStep(*old, set->replicas()));
  ASSERT_TRUE(WaitUntil([&] { return store->subscription_session() != 0; }));

  old->Kill();
  ASSERT_TRUE(set->WaitForOtherPrimary(*old).ok());
  RedisServer* const promoted = set->primary();
  ASSERT_NE(promoted, nullptr);
  // By then the store finds it at the first call, or at the second.
  EXPECT_TRUE(WaitUntil([&] { return store->CheckWritable().ok(); }, absl::Seconds(5)));
  EXPECT_EQ(GenerationOf(*store, GrantOf("org-1")), 2);
  EXPECT_EQ(store->topology_counters().primary_changes, 1);
  ASSERT_TRUE(WaitUntil([&] {
    return store->Acquire({GrantOf("org-1"), "b", 2, Purpose::kCaller})->outcome ==
           AcquireResult::Outcome::kGranted;
  }));
  EXPECT_EQ(CommitTo(*store, GrantOf("org-1"), "b", 2), 3);

  // The old one comes back, first as it was. Then it is told that it is a replica, which the
  // Sentinels would do, too, but only after 10 s.
  ASSERT_EQ(old->Restart(), absl::OkStatus());
  ASSERT_TRUE(store->Register(RegistrationOf(GrantOf("org-2"))).ok());
  ASSERT_TRUE(old->Command({"REPLICAOF", "127.0.0.1", absl::StrCat(promoted->port())}).ok());
  ASSERT_TRUE(WaitUntil([&] { return set->replicas().size() == 2; }));
  EXPECT_EQ(GenerationOf(*store, GrantOf("org-1")), 3);
  const std::string record = absl::StrCat(options.key_prefix, "{org-2:PRODUCTION:people-app}");
  EXPECT_EQ(promoted->Command({"HGET", record, "g"}).value(), "1");

  // Changes are heard again, at the new one.
  ASSERT_TRUE(WaitUntil([&] { return store->subscription_session() != 0; }));
  std::atomic<int64_t> heard{0};
  store->SetChangeListener([&](const ChangeEvent& event) { heard = event.generation; });
  EXPECT_EQ(CommitTo(*other, GrantOf("org-1"), "c", 3), 4);
  EXPECT_TRUE(WaitUntil([&] { return heard == 4; }));
  store->SetChangeListener(nullptr);
}

// An acknowledgement that did not come is not made up for by a primary that has never seen the
// write: there it is made again.
TEST(RedisSentinelTest, UnacknowledgedCommitIsRepeatedAtTheNewPrimary) {
  const std::unique_ptr<SentinelSet> set = StartSet(QuickFailover());
  ASSERT_NE(set, nullptr);
  RedisTokenStoreOptions options = ImpatientOptionsFor(*set);
  options.replica_acks = 1;
  options.replica_ack_timeout = absl::Milliseconds(200);
  const std::unique_ptr<RedisTokenStore> store = OpenRedis(options);
  ASSERT_TRUE(WaitUntil([&] { return store->Register(RegistrationOf(GrantOf("org-1"))).ok(); }));
  RedisServer* const old = set->primary();
  ASSERT_NE(old, nullptr);
  ASSERT_TRUE(InStep(*old, set->replicas()));

  const std::vector<RedisServer*> replicas = set->replicas();
  for (RedisServer* replica : replicas) replica->Freeze();
  const auto commit = [&] {
    return store->Commit({GrantOf("org-1"), "a", 1, TokensOf("access-2")});
  };
  EXPECT_EQ(ErrorReason(commit().status()), "STORE_NOT_ACKNOWLEDGED");
  EXPECT_EQ(ErrorReason(commit().status()), "STORE_NOT_ACKNOWLEDGED");
  old->Kill();
  for (RedisServer* replica : replicas) replica->Thaw();
  ASSERT_TRUE(set->WaitForOtherPrimary(*old).ok());

  absl::StatusOr<CommitResult> committed = commit();
  ASSERT_TRUE(WaitUntil([&] { return committed.ok() || (committed = commit()).ok(); }))
      << committed.status();
  EXPECT_EQ(committed->record.generation, 2);
  const std::string record = absl::StrCat(options.key_prefix, "{org-1:PRODUCTION:people-app}");
  for (RedisServer* replica : replicas) {
    EXPECT_TRUE(WaitUntil([&] {
      const absl::StatusOr<std::string> generation = replica->Command({"HGET", record, "g"});
      return generation.ok() && *generation == "2";
    }));
  }
}

// Who asks for acknowledgements loses nothing in a failover under load.
TEST(RedisSentinelTest, FailoverUnderLoadLosesNothingThatWasAcknowledged) {
  const std::unique_ptr<SentinelSet> set = StartSet(QuickFailover());
  ASSERT_NE(set, nullptr);
  RedisTokenStoreOptions options = ImpatientOptionsFor(*set);
  // Both: the failover may go to the one of them that the write has not reached.
  options.replica_acks = 2;
  const std::unique_ptr<RedisTokenStore> store = OpenRedis(options);
  struct Writer {
    GrantKey key;
    int64_t acknowledged = 1;
    std::thread thread;
  };
  Writer writers[3];
  std::atomic<int> commits{0};
  std::atomic<bool> stop{false};
  for (size_t i = 0; i < 3; ++i) {
    writers[i].key = GrantOf(absl::StrCat("org-", i));
    ASSERT_TRUE(WaitUntil([&] { return store->Register(RegistrationOf(writers[i].key)).ok(); }));
  }
  for (Writer& writer : writers) {
    writer.thread = std::thread([&] {
      while (!stop) {
        const int64_t g = writer.acknowledged;
        const absl::StatusOr<CommitResult> result = store->Commit(
            {writer.key, absl::StrCat("attempt-", g), g, TokensOf(absl::StrCat("access-", g + 1))});
        if (!result.ok()) continue;  // during the failover
        EXPECT_EQ(result->record.generation, g + 1);
        writer.acknowledged = g + 1;
        ++commits;
      }
    });
  }
  EXPECT_TRUE(WaitUntil([&] { return commits >= 100; }));
  EXPECT_EQ(set->FailOver(), absl::OkStatus());
  // Acknowledged by two replicas again, the old primary among them.
  const int before = commits;
  EXPECT_TRUE(WaitUntil([&] { return commits >= before + 100; }, absl::Seconds(60)));
  stop = true;
  for (Writer& writer : writers) writer.thread.join();
  for (const Writer& writer : writers) {
    const absl::StatusOr<GrantRecord> record = store->Load(writer.key);
    ASSERT_TRUE(record.ok()) << record.status();
    EXPECT_GE(record->generation, writer.acknowledged);
    EXPECT_LE(record->generation, writer.acknowledged + 1);
    EXPECT_EQ(record->access_token, Secret(absl::StrCat("access-", record->generation)));
  }
}

// One Sentinel slept through the failover and is asked first.
TEST(RedisSentinelTest, SentinelThatKnowsLessIsNotBelieved) {
  const std::unique_ptr<SentinelSet> set = StartSet(QuickFailover());
  ASSERT_NE(set, nullptr);
  RedisTokenStoreOptions options = ImpatientOptionsFor(*set);
  options.quarantine = absl::ZeroDuration();
  ASSERT_TRUE(OpenRedis(options)->Register(RegistrationOf(GrantOf("org-1"))).ok());
  RedisServer* const old = set->primary();
  ASSERT_NE(old, nullptr);
  ASSERT_TRUE(InStep(*old, set->replicas()));
  set->sentinel(0).Freeze();
  old->Freeze();  // it will still take itself for the primary when it comes to
  ASSERT_TRUE(set->WaitForOtherPrimary(*old).ok());
  set->sentinel(0).Thaw();
  old->Thaw();
  // Whatever the two of them believe at this moment, the store must not.
  const std::unique_ptr<RedisTokenStore> store = OpenRedis(options);
  EXPECT_EQ(CommitTo(*store, GrantOf("org-1"), "a", 1), 2);
  RedisServer* const promoted = set->primary();
  ASSERT_NE(promoted, nullptr);
  const std::string record = absl::StrCat(options.key_prefix, "{org-1:PRODUCTION:people-app}");
  EXPECT_EQ(promoted->Command({"HGET", record, "g"}).value(), "2");
}

TEST(RedisSentinelTest, AsksWithAPasswordOfItsOwn) {
  SentinelSet::Options set_options = QuickFailover();
  set_options.replicas = 0;
  set_options.sentinels = 1;
  set_options.server.password = "canary-server";
  set_options.sentinel_password = "canary-sentinel";
  set_options.sentinel_users = {
      "watcher on >canary-watcher resetchannels +sentinel|master "
      "+sentinel|get-master-addr-by-name"};
  const std::unique_ptr<SentinelSet> set = StartSet(set_options);
  ASSERT_NE(set, nullptr);
  RedisTokenStoreOptions options = OptionsFor(*set);
  options.password = [] { return Secret("canary-server"); };
  const auto why = [&] {
    const absl::Status status = OpenRedis(options)->CheckWritable();
    EXPECT_EQ(ErrorReason(status), "STORE_UNAVAILABLE");
    EXPECT_EQ(status.message().find("canary"), absl::string_view::npos);
    return std::string(status.message());
  };
  EXPECT_THAT(why(), testing::AllOf(HasSubstr("Sentinel 127.0.0.1:"), HasSubstr("NOAUTH")));
  options.sentinel->password = [] { return Secret("canary-wrong"); };
  EXPECT_THAT(why(), testing::AllOf(HasSubstr("Sentinel 127.0.0.1:"), HasSubstr("WRONGPASS")));
  options.sentinel->password = [] { return Secret("canary-sentinel"); };
  EXPECT_EQ(OpenRedis(options)->CheckWritable(), absl::OkStatus());
  options.sentinel->username = "watcher";
  options.sentinel->password = [] { return Secret("canary-watcher"); };
  EXPECT_EQ(OpenRedis(options)->CheckWritable(), absl::OkStatus());
  options.sentinel->primary_name = "nothing";
  EXPECT_THAT(why(), HasSubstr("knows no primary 'nothing'"));
}

TEST(RedisSentinelTest, OneSentinelOfManyIsEnoughToStart) {
  RedisTokenStoreOptions options = OptionsFor(SharedSet());
  options.sentinel->endpoints.resize(1);
  for (int i = 0; i < 2; ++i) options.sentinel->endpoints.push_back({"127.0.0.1", 1});
  EXPECT_EQ(OpenRedis(options)->CheckWritable(), absl::OkStatus());
  options.sentinel->endpoints.erase(options.sentinel->endpoints.begin());
  EXPECT_THAT(std::string(OpenRedis(options)->CheckWritable().message()),
              HasSubstr("Sentinel 127.0.0.1:1"));
}

}  // namespace
}  // namespace tokenbroker
