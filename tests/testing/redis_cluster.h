#ifndef TOKEN_BROKER_TESTS_TESTING_REDIS_CLUSTER_H_
#define TOKEN_BROKER_TESTS_TESTING_REDIS_CLUSTER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tests/testing/redis_server.h"

namespace tokenbroker {

// A real Redis Cluster on loopback: node 0 … primaries-1 began as primaries that share the slots
// evenly, the others as replicas of them in turn. Make it on the test's main thread.
class RedisCluster {
 public:
  static constexpr int kSlots = 16384;

  struct Options {
    int primaries = 3;
    int replicas = 3;  // in all
    absl::Duration node_timeout = absl::Seconds(2);
    RedisServer::Options server;  // of every node
  };

  // Returns once every node sees all slots served and every replica is in step.
  static absl::StatusOr<std::unique_ptr<RedisCluster>> Start(Options options);

  RedisServer& node(int index) { return *nodes_[index]; }
  int nodes() const { return static_cast<int>(nodes_.size()); }
  std::vector<uint16_t> ports() const;
  // Slot of a key, by its hash tag where it has one.
  absl::StatusOr<int> SlotOf(const std::string& key);
  // The running node that serves the slot; nullptr: the nodes name none.
  RedisServer* PrimaryOf(int slot);
  // Running nodes that serve slots, by their own word.
  std::vector<RedisServer*> primaries();

  // A slot's move in steps. BeginMove: new keys go to `to` (by ASK). MoveKeys: those that are there
  // are handed over. FinishMove: everybody is told (MOVED from then on).
  absl::Status BeginMove(int slot, RedisServer& to);
  absl::Status MoveKeys(int slot, RedisServer& to);
  absl::Status FinishMove(int slot, RedisServer& to);
  // All of them.
  absl::Status Move(int slot, RedisServer& to);

  // Makes a replica the primary of its shard while the old one lives (CLUSTER FAILOVER), and waits
  // until it is.
  absl::Status FailOver(RedisServer& replica, absl::Duration timeout = absl::Seconds(30));
  // Waits until every running node says that the cluster is well and agrees about who has what.
  absl::Status WaitUntilWell(absl::Duration timeout = absl::Seconds(30));

 private:
  explicit RedisCluster(Options options) : options_(std::move(options)) {}
  absl::Status Join();
  std::string IdOf(const RedisServer& node) const;
  RedisServer* NodeById(const std::string& id);

  const Options options_;
  std::vector<std::unique_ptr<RedisServer>> nodes_;
  std::vector<std::string> ids_;  // of nodes_
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_TESTS_TESTING_REDIS_CLUSTER_H_
