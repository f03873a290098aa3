#ifndef TOKEN_BROKER_STORAGE_REDIS_CLUSTER_VIEW_H_
#define TOKEN_BROKER_STORAGE_REDIS_CLUSTER_VIEW_H_

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/redis/connection.h"
#include "storage/redis/deadline.h"
#include "storage/redis/reply.h"
#include "storage/redis/socket.h"

// What one node of a cluster believes about all of them.
namespace tokenbroker::redis {

struct ClusterView {
  struct Range {
    uint16_t first = 0;
    uint16_t last = 0;  // included
    Endpoint primary;
  };

  bool healthy = false;  // it serves its slots: it sees a majority of the primaries
  int64_t epoch = 0;     // grows with every failover; the higher one knows more
  std::vector<Range> ranges;
  std::vector<Endpoint> replicas;
};

// Asks the node at `endpoint`, whose host stands in for hosts that it does not name.
// STORE_UNAVAILABLE.
absl::StatusOr<ClusterView> AskForView(const Endpoint& endpoint, const Login& login,
                                       Deadline deadline);

// CLUSTER INFO alone, on a connection that is there.
struct ClusterState {
  bool healthy = false;
  int64_t epoch = 0;
};
absl::StatusOr<ClusterState> AskForState(Connection& connection, const Login& login,
                                         Deadline deadline);

// Where "MOVED <slot> <host>:<port>" and "ASK <slot> <host>:<port>" point to.
struct Redirection {
  bool ask = false;
  uint16_t slot = 0;
  Endpoint endpoint;
};
// nullopt: the error is none. `asked_host` was asked.
std::optional<Redirection> ParseRedirection(std::string_view error, std::string_view asked_host);

}  // namespace tokenbroker::redis

#endif  // TOKEN_BROKER_STORAGE_REDIS_CLUSTER_VIEW_H_
