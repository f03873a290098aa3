// The contract suite on a real Redis Cluster of six nodes.
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/storage/redis/grants.h"
#include "tests/storage/redis/redis_fixture.h"
#include "tests/storage/token_store_contract.h"
#include "tests/testing/redis_cluster.h"

namespace tokenbroker {
namespace {

RedisCluster& SharedCluster() {
  static const std::unique_ptr<RedisCluster> cluster = [] {
    absl::StatusOr<std::unique_ptr<RedisCluster>> started = RedisCluster::Start({});
    EXPECT_TRUE(started.ok()) << started.status();
    return started.ok() ? *std::move(started) : nullptr;
  }();
  return *cluster;
}

class ClusterFixture : public RedisFixture {
 public:
  absl::StatusOr<std::unique_ptr<TokenStore>> Open(const ProtocolLimits& limits) override {
    RedisTokenStoreOptions options = ClusterTestOptions(SharedCluster().ports());
    options.key_prefix = prefix();
    options.limits = limits;
    // The second test finds a cluster that is not new.
    options.quarantine = absl::ZeroDuration();
    options.test_clock_offset = ClockOffset();
    return RedisTokenStore::Create(options);
  }

 protected:
  void Command(const std::string& key, const std::vector<std::string>& words) override {
    const absl::StatusOr<int> slot = SharedCluster().SlotOf(key);
    ASSERT_TRUE(slot.ok()) << slot.status();
    RedisServer* const node = SharedCluster().PrimaryOf(*slot);
    ASSERT_NE(node, nullptr);
    const absl::StatusOr<std::string> reply = node->Command(words);
    EXPECT_TRUE(reply.ok()) << reply.status();
  }
};

INSTANTIATE_TEST_SUITE_P(Cluster, TokenStoreContract,
                         testing::Values(StoreBackend{
                             "Cluster", [] { return std::make_unique<ClusterFixture>(); }}),
                         StoreBackendName);

}  // namespace
}  // namespace tokenbroker
