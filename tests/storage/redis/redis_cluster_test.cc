// A store in a real Redis Cluster whose slots move and whose nodes die.
#include "tests/testing/redis_cluster.h"

#include <atomic>
#include <memory>
#include <set>
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
#include "tests/testing/redis_server.h"

namespace tokenbroker {
namespace {

using ::testing::HasSubstr;

std::unique_ptr<RedisCluster> StartCluster() {
  RedisCluster::Options options;
  options.node_timeout = absl::Seconds(1);
  // A shard that fails over must not stop the others.
  options.server.config = {"cluster-require-full-coverage no", "repl-diskless-sync-delay 0"};
  absl::StatusOr<std::unique_ptr<RedisCluster>> cluster = RedisCluster::Start(options);
  EXPECT_TRUE(cluster.ok()) << cluster.status();
  return cluster.ok() ? *std::move(cluster) : nullptr;
}

RedisTokenStoreOptions OptionsFor(const RedisCluster& cluster) {
  RedisTokenStoreOptions options = ClusterTestOptions(cluster.ports());
  options.quarantine = absl::ZeroDuration();
  return options;
}

RedisTokenStoreOptions ImpatientOptionsFor(const RedisCluster& cluster) {
  RedisTokenStoreOptions options = OptionsFor(cluster);
  options.command_timeout = absl::Milliseconds(500);
  options.connect_timeout = absl::Seconds(1);
  return options;
}

std::string RecordKey(const RedisTokenStoreOptions& options, const GrantKey& key) {
  return absl::StrCat(options.key_prefix, "{", key.org_id, ":PRODUCTION:people-app}");
}

int SlotOf(RedisCluster& cluster, const RedisTokenStoreOptions& options, const GrantKey& key) {
  const absl::StatusOr<int> slot = cluster.SlotOf(RecordKey(options, key));
  EXPECT_TRUE(slot.ok()) << slot.status();
  return slot.value_or(0);
}

// The node whose slots the grant is in.
RedisServer* HomeOf(RedisCluster& cluster, const RedisTokenStoreOptions& options,
                    const GrantKey& key) {
  return cluster.PrimaryOf(SlotOf(cluster, options, key));
}

// A grant that lives in one of the node's slots.
GrantKey GrantAt(RedisCluster& cluster, const RedisTokenStoreOptions& options,
                 const RedisServer& node) {
  for (int i = 0;; ++i) {
    GrantKey key = GrantOf(absl::StrCat("at-", i));
    if (HomeOf(cluster, options, key) == &node) return key;
  }
}

// All pages of `limit`; no key may come twice or out of order.
std::set<std::string> ListAll(RedisTokenStore& store, int limit) {
  std::set<std::string> orgs;
  std::string after;
  std::string last;
  do {
    const absl::StatusOr<GrantPage> page = store.ListPage("", after, limit);
    EXPECT_TRUE(page.ok()) << page.status();
    if (!page.ok()) break;
    for (const GrantRecord& record : page->records) {
      const std::string encoded = EncodeGrantKey(record.key);
      EXPECT_GT(encoded, last);
      last = encoded;
      orgs.insert(record.key.org_id);
    }
    after = page->next;
  } while (!after.empty());
  return orgs;
}

TEST(RedisClusterStoreTest, SlotsMoveUnderLoadAndEveryOperationIsRight) {
  const std::unique_ptr<RedisCluster> cluster = StartCluster();
  ASSERT_NE(cluster, nullptr);
  const RedisTokenStoreOptions options = OptionsFor(*cluster);
  const std::unique_ptr<RedisTokenStore> store = OpenRedis(options);
  constexpr int kGrants = 6;
  std::atomic<bool> stop{false};
  std::atomic<int> operations{0};
  std::set<std::string> orgs;
  std::vector<std::thread> threads;
  for (int i = 0; i < kGrants; ++i) {
    const GrantKey key = GrantOf(absl::StrCat("org-", i));
    orgs.insert(key.org_id);
    ASSERT_TRUE(store->Register(RegistrationOf(key)).ok());
    // Whole refreshes, each of which has to find what the last one left.
    threads.emplace_back([&, key] {
      for (int64_t g = 1; !stop; ++g) {
        const std::string attempt = absl::StrCat("attempt-", g);
        const absl::StatusOr<AcquireResult> lease =
            store->Acquire({key, attempt, g, Purpose::kCaller});
        ASSERT_TRUE(lease.ok()) << lease.status();
        ASSERT_EQ(lease->outcome, AcquireResult::Outcome::kGranted);
        ASSERT_EQ(lease->record.generation, g);
        ASSERT_EQ(lease->epoch, g + 1);
        if (g == 1) {  // the budget allows no more
          ASSERT_EQ(store->MarkSent({key, attempt, lease->epoch}).value(),
                    MarkSentOutcome::kMarked);
        }
        const absl::StatusOr<CommitResult> commit =
            store->Commit({key, attempt, g, TokensOf(absl::StrCat("access-", g + 1))});
        ASSERT_TRUE(commit.ok()) << commit.status();
        ASSERT_EQ(commit->outcome, CommitResult::Outcome::kCommitted);
        const absl::StatusOr<GrantRecord> record = store->Load(key);
        ASSERT_TRUE(record.ok()) << record.status();
        ASSERT_EQ(record->generation, g + 1);
        ASSERT_EQ(record->access_token, Secret(absl::StrCat("access-", g + 1)));
        ++operations;
      }
    });
  }
  threads.emplace_back([&] {
    while (!stop) ASSERT_EQ(ListAll(*store, 4), orgs);
  });

  const auto go_on = [&](int count) {
    const int before = operations;
    return WaitUntil([&] { return operations >= before + count; });
  };
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < kGrants; ++i) {
      const int slot = SlotOf(*cluster, options, GrantOf(absl::StrCat("org-", i)));
      RedisServer* const from = cluster->PrimaryOf(slot);
      ASSERT_NE(from, nullptr);
      RedisServer& to = from == &cluster->node(0) ? cluster->node(1) : cluster->node(0);
      ASSERT_EQ(cluster->BeginMove(slot, to), absl::OkStatus());
      EXPECT_TRUE(go_on(3));
      ASSERT_EQ(cluster->MoveKeys(slot, to), absl::OkStatus());
      EXPECT_TRUE(go_on(12));  // each of the grants, by ASK
      ASSERT_EQ(cluster->FinishMove(slot, to), absl::OkStatus());
      EXPECT_TRUE(go_on(3));
    }
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  const RedisTokenStore::TopologyCounters counters = store->topology_counters();
  EXPECT_GT(counters.moved, 0);
  EXPECT_GT(counters.asked, 0);
  EXPECT_GT(counters.refreshes, 1);
}

// A new grant, a listing, and a node that has never had a slot, while the slot is under way.
TEST(RedisClusterStoreTest, NewGrantIsMadeInASlotThatIsUnderWay) {
  const std::unique_ptr<RedisCluster> cluster = StartCluster();
  ASSERT_NE(cluster, nullptr);
  const RedisTokenStoreOptions options = OptionsFor(*cluster);
  const std::unique_ptr<RedisTokenStore> store = OpenRedis(options);
  ASSERT_TRUE(store->Register(RegistrationOf(GrantOf("other"))).ok());
  const GrantKey key = GrantOf("new");
  const int slot = SlotOf(*cluster, options, key);
  RedisServer* const from = cluster->PrimaryOf(slot);
  ASSERT_NE(from, nullptr);
  RedisServer& to = from == &cluster->node(0) ? cluster->node(1) : cluster->node(0);
  ASSERT_EQ(cluster->BeginMove(slot, to), absl::OkStatus());
  EXPECT_EQ(ErrorReason(store->Load(key).status()), "ORG_NOT_FOUND");
  EXPECT_EQ(store->Register(RegistrationOf(key))->outcome, RegisterResult::Outcome::kCreated);
  EXPECT_EQ(GenerationOf(*store, key), 1);
  EXPECT_EQ(ListAll(*store, 1), (std::set<std::string>{"new", "other"}));
  EXPECT_GE(store->topology_counters().asked, 4);
  ASSERT_EQ(cluster->MoveKeys(slot, to), absl::OkStatus());
  ASSERT_EQ(cluster->FinishMove(slot, to), absl::OkStatus());
  EXPECT_EQ(GenerationOf(*store, key), 1);
  EXPECT_EQ(ListAll(*store, 1), (std::set<std::string>{"new", "other"}));
  EXPECT_GE(store->topology_counters().moved, 1);
}

TEST(RedisClusterStoreTest, PagesAreInOrderAcrossAllNodes) {
  const std::unique_ptr<RedisCluster> cluster = StartCluster();
  ASSERT_NE(cluster, nullptr);
  const RedisTokenStoreOptions options = OptionsFor(*cluster);
  const std::unique_ptr<RedisTokenStore> store = OpenRedis(options);
  std::set<std::string> orgs;
  std::set<RedisServer*> homes;
  for (int i = 0; i < 100; ++i) {
    const GrantKey key = GrantOf(absl::StrCat("org-", i));
    ASSERT_TRUE(store->Register(RegistrationOf(key)).ok());
    orgs.insert(key.org_id);
    if (i < 20) homes.insert(HomeOf(*cluster, options, key));
  }
  EXPECT_EQ(homes.size(), 3u);
  EXPECT_EQ(ListAll(*store, 7), orgs);
  EXPECT_EQ(ListAll(*store, 1000), orgs);
  // A broker that knows nothing yet.
  EXPECT_EQ(ListAll(*OpenRedis(options), 33), orgs);
}

TEST(RedisClusterStoreTest, DeadNodeIsReplacedWhileTheOthersGoOn) {
  const std::unique_ptr<RedisCluster> cluster = StartCluster();
  ASSERT_NE(cluster, nullptr);
  RedisTokenStoreOptions options = ImpatientOptionsFor(*cluster);
  options.quarantine = absl::Minutes(5);
  const std::unique_ptr<RedisTokenStore> store = OpenRedis(options);
  const GrantKey key = GrantAt(*cluster, options, cluster->node(0));
  const GrantKey elsewhere = GrantAt(*cluster, options, cluster->node(1));
  ASSERT_TRUE(store->Register(RegistrationOf(key)).ok());
  ASSERT_TRUE(store->Register(RegistrationOf(elsewhere)).ok());
  ASSERT_EQ(CommitTo(*store, key, "a", 1), 2);
  const absl::StatusOr<AcquireResult> lease = store->Acquire({key, "b", 2, Purpose::kCaller});
  ASSERT_EQ(lease->outcome, AcquireResult::Outcome::kGranted) << "a new cluster is not quarantined";
  ASSERT_TRUE(InStep(cluster->node(0), {&cluster->node(3)}));
  const uint64_t domain = store->FailureDomain(key);
  EXPECT_NE(domain, store->FailureDomain(elsewhere));
  EXPECT_NE(domain, store->FailureDomain(GrantAt(*cluster, options, cluster->node(2))));
  EXPECT_NE(domain, store->FailureDomain({"", Environment::kProduction, ""})) << "of listing";

  cluster->node(0).Kill();
  EXPECT_EQ(GenerationOf(*store, elsewhere), 1);
  EXPECT_EQ(store->CheckWritable(), absl::OkStatus()) << "two shards of three take writes";
  EXPECT_EQ(ErrorReason(store->Load(key).status()), "STORE_UNAVAILABLE");
  ASSERT_EQ(cluster->WaitUntilWell(), absl::OkStatus());
  absl::StatusOr<GrantRecord> record = absl::UnknownError("");
  ASSERT_TRUE(WaitUntil([&] { return (record = store->Load(key)).ok(); }, absl::Seconds(5)))
      << record.status();
  EXPECT_EQ(record->access_token, Secret("access-2"));
  EXPECT_NE(store->FailureDomain(key), domain) << "what was known of the old primary";
  EXPECT_NE(store->FailureDomain(key), store->FailureDomain(elsewhere));

  // The new primary may not know of the newest lease; the others are not in doubt.
  EXPECT_EQ(store->MarkSent({key, "b", lease->epoch}).value(), MarkSentOutcome::kLost);
  EXPECT_EQ(store->Acquire({key, "c", 2, Purpose::kCaller})->outcome,
            AcquireResult::Outcome::kBusy);
  EXPECT_EQ(store->Acquire({elsewhere, "c", 1, Purpose::kCaller})->outcome,
            AcquireResult::Outcome::kGranted);
  EXPECT_EQ(CommitTo(*store, key, "b", 2), 3);
  EXPECT_GT(store->held_back(), absl::ZeroDuration());
  // Another broker waits for the same moment.
  RedisTokenStoreOptions shorter = options;
  shorter.quarantine = absl::Nanoseconds(1);
  EXPECT_EQ(OpenRedis(options)->Acquire({key, "d", 3, Purpose::kCaller})->outcome,
            AcquireResult::Outcome::kBusy);
  EXPECT_EQ(OpenRedis(shorter)->Acquire({key, "d", 3, Purpose::kCaller})->outcome,
            AcquireResult::Outcome::kGranted);

  // The dead node comes back as a replica and is not taken for what it was.
  ASSERT_EQ(cluster->node(0).Restart(), absl::OkStatus());
  ASSERT_EQ(cluster->WaitUntilWell(), absl::OkStatus());
  EXPECT_EQ(CommitTo(*store, key, "e", 3), 4);
}

// Slots whose notes on the reign moved away do not make the old primary a new one.
TEST(RedisClusterStoreTest, MovingSlotsBeginsNoQuarantine) {
  const std::unique_ptr<RedisCluster> cluster = StartCluster();
  ASSERT_NE(cluster, nullptr);
  RedisTokenStoreOptions options = OptionsFor(*cluster);
  options.quarantine = absl::Minutes(5);
  const GrantKey key = GrantAt(*cluster, options, cluster->node(0));
  ASSERT_TRUE(OpenRedis(options)->Register(RegistrationOf(key)).ok());
  int moved = 0;
  const std::string notes =
      cluster->node(0).Command({"KEYS", options.key_prefix + "reign*"}).value();
  for (const std::string& note : std::vector<std::string>{notes.substr(0, notes.find('\n'))}) {
    const absl::StatusOr<int> slot = cluster->SlotOf(note);
    ASSERT_TRUE(slot.ok());
    ASSERT_EQ(cluster->Move(*slot, cluster->node(1)), absl::OkStatus());
    ++moved;
  }
  EXPECT_EQ(moved, 1);
  ASSERT_EQ(cluster->WaitUntilWell(), absl::OkStatus());
  EXPECT_EQ(OpenRedis(options)->Acquire({key, "a", 1, Purpose::kCaller})->outcome,
            AcquireResult::Outcome::kGranted);
}

TEST(RedisClusterStoreTest, SubscriptionOutlivesItsNode) {
  const std::unique_ptr<RedisCluster> cluster = StartCluster();
  ASSERT_NE(cluster, nullptr);
  const RedisTokenStoreOptions options = ImpatientOptionsFor(*cluster);
  const std::unique_ptr<RedisTokenStore> store = OpenRedis(options);
  ASSERT_TRUE(WaitUntil([&] { return store->subscription_session() != 0; }));
  const int64_t first_session = store->subscription_session();
  std::atomic<int> heard{0};
  store->SetChangeListener([&](const ChangeEvent&) { ++heard; });
  RedisServer* listening = nullptr;
  for (int i = 0; i < cluster->nodes(); ++i) {
    if (cluster->node(i).Command({"CLIENT", "LIST", "TYPE", "pubsub"})->find("cmd=") !=
        std::string::npos) {
      listening = &cluster->node(i);
    }
  }
  ASSERT_NE(listening, nullptr);

  // What is published at any node is heard.
  const std::unique_ptr<RedisTokenStore> other = OpenRedis(options);
  for (int i = 0; i < 3; ++i) {
    const int before = heard;
    ASSERT_TRUE(other->Register(RegistrationOf(GrantAt(*cluster, options, cluster->node(i)))).ok());
    EXPECT_TRUE(WaitUntil([&] { return heard > before; })) << i;
  }
  // Moved slots change nothing about it.
  const GrantKey key = GrantAt(*cluster, options, cluster->node(0));
  ASSERT_EQ(cluster->Move(SlotOf(*cluster, options, key), cluster->node(1)), absl::OkStatus());
  const int moved = heard;
  EXPECT_EQ(CommitTo(*other, key, "a", 1), 2);
  EXPECT_TRUE(WaitUntil([&] { return heard > moved; }));
  EXPECT_EQ(store->subscription_session(), first_session);

  listening->Kill();
  EXPECT_TRUE(WaitUntil([&] {
    const int64_t session = store->subscription_session();
    return session != 0 && session != first_session;
  }));
  const int before = heard;
  int64_t generation = 2;
  EXPECT_TRUE(WaitUntil([&] {
    const absl::StatusOr<CommitResult> commit =
        other->Commit({key, "b", generation, TokensOf("access-3")});
    return commit.ok();
  }));
  EXPECT_TRUE(WaitUntil([&] { return heard > before; }));
  store->SetChangeListener(nullptr);
}

TEST(RedisClusterStoreTest, WrongKindOfRedisSaysWhatToConfigure) {
  const std::unique_ptr<RedisCluster> cluster = StartCluster();
  ASSERT_NE(cluster, nullptr);
  // Not every key is elsewhere, but the grants of all nodes are not at one.
  RedisTokenStoreOptions options = OptionsFor(*cluster);
  const GrantKey key = GrantAt(*cluster, options, cluster->node(0));
  options.cluster.reset();
  options.host = "127.0.0.1";
  options.port = cluster->node(1).port();
  EXPECT_THAT(std::string(OpenRedis(options)->Load(key).status().message()),
              HasSubstr("configure store.redis.cluster"));
  EXPECT_THAT(
      std::string(OpenRedis(ClusterTestOptions({SharedRedisPort()}))->CheckWritable().message()),
      HasSubstr("no Redis Cluster"));
  EXPECT_EQ(ErrorReason(OpenRedis(ClusterTestOptions({1}))->CheckWritable()), "STORE_UNAVAILABLE");
}

}  // namespace
}  // namespace tokenbroker
