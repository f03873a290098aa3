#ifndef TOKEN_BROKER_STORAGE_REDIS_TOPOLOGY_H_
#define TOKEN_BROKER_STORAGE_REDIS_TOPOLOGY_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "storage/redis/connection.h"
#include "storage/redis/connection_pool.h"
#include "storage/redis/deadline.h"
#include "storage/redis/reign.h"
#include "storage/redis/socket.h"

namespace tokenbroker::redis {

// Where the keys are: which primaries there are, which of them has which key, and where to listen.
// Whoever uses it tells it what went wrong, and it looks again. Thread-safe; waits for servers only
// where that is said.
class Topology {
 public:
  // Counted since it was made.
  struct Counters {
    int64_t moved = 0;            // MOVED answers that were followed
    int64_t asked = 0;            // ASK answers that were followed
    int64_t refreshes = 0;        // maps of a cluster that were read
    int64_t primary_changes = 0;  // other primaries, or other reigns, that were found
  };

  // A connection for subscriptions.
  struct Listening {
    std::unique_ptr<Connection> connection;
    Endpoint endpoint;
  };

  virtual ~Topology() = default;

  // The connections to the primary that has `key`. May wait for servers, for at most twice the
  // connect timeout. STORE_UNAVAILABLE.
  virtual absl::StatusOr<std::shared_ptr<ConnectionPool>> Route(std::string_view key) = 0;

  // Tells the primaries apart that keys lead to; no two have one number at the same time. 0: there
  // is only one, or it is not known which. Waits for no server.
  virtual uint64_t PrimaryNumber(std::string_view key) const = 0;

  // Where an error reply of `from` sends us; null: it is no redirection, or there is no cluster.
  virtual std::shared_ptr<ConnectionPool> Follow(const ConnectionPool& from,
                                                 std::string_view error) = 0;

  // `pool` could not be reached, or acts as if it were no longer the primary: the next `Route`
  // looks again who is.
  virtual void Doubt(const ConnectionPool& pool) = 0;

  // For each shard, a tag (see ShardKey) that its primary has. May wait like `Route`.
  virtual absl::StatusOr<std::vector<std::string>> ShardTags() = 0;

  // A new connection to a server that hears everything published. STORE_UNAVAILABLE.
  virtual absl::StatusOr<Listening> Listen(Deadline deadline) = 0;
  // Whether that server still does, as far as can be found out until `deadline`.
  virtual bool StillHears(const Endpoint& endpoint, Deadline deadline) = 0;

  // How long refreshes are held back (Reign::HeldBack): the longest of all shards, as far as this
  // process has met them.
  virtual absl::Duration HeldBack() const = 0;
  virtual Counters counters() const = 0;
};

struct TopologyOptions {
  Login login;
  int pool_size = 16;  // per primary
  absl::Duration connect_timeout = absl::Milliseconds(500);
  ReignObserver::Options reign;
};

// One server at a fixed address.
std::unique_ptr<Topology> MakeFixedTopology(TopologyOptions options, Endpoint endpoint);

// The primary that Sentinels name.
struct SentinelOptions {
  std::vector<Endpoint> endpoints;
  std::string primary_name;
  Login login;
};
std::unique_ptr<Topology> MakeSentinelTopology(TopologyOptions options, SentinelOptions sentinel);

// The nodes of a cluster, found through any of the `seeds`.
std::unique_ptr<Topology> MakeClusterTopology(TopologyOptions options, std::vector<Endpoint> seeds);

}  // namespace tokenbroker::redis

#endif  // TOKEN_BROKER_STORAGE_REDIS_TOPOLOGY_H_
